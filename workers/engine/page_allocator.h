// Gives out the pages of a KV cache. A page may have several owners, which share what is written in
// it; it is free again when the last has released it.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_ENGINE_PAGE_ALLOCATOR_H_
#define OCTOGATE_WORKERS_ENGINE_PAGE_ALLOCATOR_H_

#include <cstdint>
#include <span>
#include <vector>

namespace octogate::workers {

class PageAllocator {
 public:
  // Pages 0 .. pages - 1, all free.
  explicit PageAllocator(int pages);

  // Appends `count` pages with one owner each to `pages`, or none where fewer are free. Returns
  // whether it did.
  bool Allocate(int count, std::vector<int32_t>& pages);
  // Another owner for a page that has one.
  void Share(int32_t page);
  // One owner less for each of `pages`.
  void Release(std::span<const int32_t> pages);

  int owners(int32_t page) const { return owners_[static_cast<size_t>(page)]; }
  int total() const { return static_cast<int>(owners_.size()); }
  int free() const { return static_cast<int>(free_.size()); }
  int used() const { return total() - free(); }

 private:
  std::vector<int> owners_;    // by page
  std::vector<int32_t> free_;  // a stack: the page released last is still in the caches
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PAGE_ALLOCATOR_H_

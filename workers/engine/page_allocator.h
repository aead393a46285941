// Gives out the pages of a KV cache. A page may have several owners, which share what is written in
// it. When the last has released it, it is free; or idle, where its contents are kept: then it may
// get owners again, until it is given out for other contents, least recently used first.
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

  // Appends `count` pages with one owner each to `pages`, or none where fewer are available.
  // Returns whether it did. Takes free pages before idle ones, whose contents are not kept any
  // more: whoever has an index of contents has to forget them.
  bool Allocate(int count, std::vector<int32_t>& pages);
  // Another owner for a page that has one or is idle.
  void Share(int32_t page);
  // One owner less for each of `pages`, from the last to the first: a page of a sequence becomes
  // idle after those that continue it, and is given out after them.
  void Release(std::span<const int32_t> pages);
  // The contents of a page that has an owner outlive its owners.
  void Keep(int32_t page);
  // They do not any more: it is free, or will be when it has no owner.
  void Discard(int32_t page);

  int owners(int32_t page) const { return pages_[static_cast<size_t>(page)].owners; }
  bool kept(int32_t page) const { return pages_[static_cast<size_t>(page)].kept; }
  int total() const { return static_cast<int>(pages_.size()) - 1; }
  // Pages without an owner: what Allocate can give.
  int available() const { return static_cast<int>(free_.size()) + idle_; }
  int idle() const { return idle_; }
  int used() const { return total() - available(); }

 private:
  struct Page {
    int owners = 0;
    bool kept = false;
    int32_t previous = 0;  // in the list of idle pages
    int32_t next = 0;
  };

  void AddToIdle(int32_t page);
  void RemoveFromIdle(int32_t page);

  // One more than there are: the last is the head of a ring of idle pages, the least recently used
  // one behind it.
  std::vector<Page> pages_;
  int idle_ = 0;
  std::vector<int32_t> free_;  // a stack: the page released last is still in the caches
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PAGE_ALLOCATOR_H_

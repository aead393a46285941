// Tells whether a page of the KV cache still holds what it held, without asking the engine.
//
// Thread safety: one thread changes stamps, any thread may read them.
#ifndef OCTOGATE_WORKERS_ENGINE_PAGE_STAMPS_H_
#define OCTOGATE_WORKERS_ENGINE_PAGE_STAMPS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace octogate::workers {

// An entry of the prefix cache: it is there for as long as the page has this stamp.
struct StampedPage {
  int32_t page = 0;
  uint32_t stamp = 0;
};

class PageStamps {
 public:
  explicit PageStamps(int pages) : stamps_(static_cast<size_t>(pages)) {}

  uint32_t Get(int32_t page) const {
    return stamps_[static_cast<size_t>(page)].load(std::memory_order_relaxed);
  }
  bool Holds(const StampedPage& page) const { return Get(page.page) == page.stamp; }
  // The page is not the entry any more that it was.
  void Change(int32_t page) {
    stamps_[static_cast<size_t>(page)].fetch_add(1, std::memory_order_relaxed);
  }

 private:
  std::vector<std::atomic<uint32_t>> stamps_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PAGE_STAMPS_H_

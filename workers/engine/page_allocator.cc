#include "workers/engine/page_allocator.h"

#include <cassert>

namespace octogate::workers {

PageAllocator::PageAllocator(int pages) : owners_(static_cast<size_t>(pages), 0) {
  free_.reserve(owners_.size());
  for (int32_t page = pages - 1; page >= 0; --page) free_.push_back(page);
}

bool PageAllocator::Allocate(int count, std::vector<int32_t>& pages) {
  if (count > free()) return false;
  for (int i = 0; i < count; ++i) {
    const int32_t page = free_.back();
    free_.pop_back();
    assert(owners(page) == 0);
    owners_[static_cast<size_t>(page)] = 1;
    pages.push_back(page);
  }
  return true;
}

void PageAllocator::Share(int32_t page) {
  assert(owners(page) > 0);
  ++owners_[static_cast<size_t>(page)];
}

void PageAllocator::Release(std::span<const int32_t> pages) {
  for (int32_t page : pages) {
    assert(owners(page) > 0);
    if (--owners_[static_cast<size_t>(page)] == 0) free_.push_back(page);
  }
}

}  // namespace octogate::workers

#include "workers/engine/page_allocator.h"

#include <cassert>
#include <utility>

namespace octogate::workers {

PageAllocator::PageAllocator(int pages) : pages_(static_cast<size_t>(pages) + 1) {
  pages_.back().previous = pages_.back().next = pages;
  free_.reserve(static_cast<size_t>(pages));
  for (int32_t page = pages - 1; page >= 0; --page) free_.push_back(page);
}

void PageAllocator::AddToIdle(int32_t page) {
  const int32_t head = total();
  Page& added = pages_[static_cast<size_t>(page)];
  added.previous = pages_.back().previous;
  added.next = head;
  pages_[static_cast<size_t>(added.previous)].next = page;
  pages_.back().previous = page;
  ++idle_;
}

void PageAllocator::RemoveFromIdle(int32_t page) {
  const Page& removed = pages_[static_cast<size_t>(page)];
  pages_[static_cast<size_t>(removed.previous)].next = removed.next;
  pages_[static_cast<size_t>(removed.next)].previous = removed.previous;
  --idle_;
}

bool PageAllocator::Allocate(int count, std::vector<int32_t>& pages) {
  if (count > available()) return false;
  for (int i = 0; i < count; ++i) {
    int32_t id;
    if (!free_.empty()) {
      id = free_.back();
      free_.pop_back();
    } else {
      id = pages_.back().next;
      RemoveFromIdle(id);
    }
    Page& page = pages_[static_cast<size_t>(id)];
    assert(page.owners == 0);
    page.owners = 1;
    page.kept = false;
    pages.push_back(id);
  }
  return true;
}

void PageAllocator::Share(int32_t page) {
  Page& shared = pages_[static_cast<size_t>(page)];
  assert(shared.owners > 0 || shared.kept);
  if (shared.owners++ == 0) RemoveFromIdle(page);
}

void PageAllocator::Release(std::span<const int32_t> pages) {
  for (size_t i = pages.size(); i-- > 0;) {
    Page& page = pages_[static_cast<size_t>(pages[i])];
    assert(page.owners > 0);
    if (--page.owners > 0) continue;
    if (page.kept) {
      AddToIdle(pages[i]);
    } else {
      free_.push_back(pages[i]);
    }
  }
}

void PageAllocator::Keep(int32_t page) {
  assert(owners(page) > 0);
  pages_[static_cast<size_t>(page)].kept = true;
}

void PageAllocator::Discard(int32_t page) {
  Page& discarded = pages_[static_cast<size_t>(page)];
  if (!std::exchange(discarded.kept, false) || discarded.owners > 0) return;
  RemoveFromIdle(page);
  free_.push_back(page);
}

}  // namespace octogate::workers

#include "workers/engine/scheduler.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace octogate::workers {
namespace {

void InsertInOrder(std::vector<Sequence*>& list, Sequence* sequence) {
  const auto place =
      std::upper_bound(list.begin(), list.end(), sequence,
                       [](const Sequence* a, const Sequence* b) { return RunsBefore(*a, *b); });
  list.insert(place, sequence);
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, int pages)
    : options_(options), allocator_(pages) {
  assert(options.max_rows >= options.max_sequences);
}

int Scheduler::PagesFor(int positions) const {
  return (positions + options_.page_size - 1) / options_.page_size;
}

void Scheduler::Add(Sequence* sequence) {
  assert(sequence->length() > 0 && sequence->length() <= max_positions());
  sequence->running = false;
  InsertInOrder(waiting_, sequence);
}

void Scheduler::Remove(Sequence* sequence) {
  std::vector<Sequence*>& list = sequence->running ? running_ : waiting_;
  list.erase(std::find(list.begin(), list.end(), sequence));
  allocator_.Release(sequence->pages);
  sequence->pages.clear();
  sequence->computed = 0;
  sequence->running = false;
}

void Scheduler::Preempt(Sequence* sequence) {
  running_.erase(std::find(running_.begin(), running_.end(), sequence));
  allocator_.Release(sequence->pages);
  sequence->pages.clear();
  sequence->computed = 0;
  sequence->running = false;
  ++sequence->preemptions;
  ++preemptions_;
  InsertInOrder(waiting_, sequence);
}

bool Scheduler::MakeRoom(const Sequence& sequence, int pages_needed) {
  int free = allocator_.free();
  int slots = options_.max_sequences - running();
  size_t remaining = running_.size();
  while ((free < pages_needed || slots < 1) && remaining > 0 &&
         running_[remaining - 1]->priority < sequence.priority) {
    --remaining;
    free += static_cast<int>(running_[remaining]->pages.size());
    ++slots;
  }
  if (free < pages_needed || slots < 1) return false;
  while (running_.size() > remaining) Preempt(running_.back());
  return true;
}

void Scheduler::Admit() {
  while (!waiting_.empty()) {
    Sequence* sequence = waiting_.front();
    // Prompts before it in the order may need all rows of the step.
    int rows_before = 0;
    for (const Sequence* other : running_) {
      if (RunsBefore(*other, *sequence)) rows_before += other->uncomputed();
    }
    if (rows_before >= options_.max_rows) return;
    // One page for each running sequence is left to them, lest they push it out again soon.
    const int needed = PagesFor(sequence->length());
    const int reserve = std::min(running(), allocator_.total() - needed);
    if (!MakeRoom(*sequence, needed + reserve)) return;
    // What MakeRoom pushed out waits behind this sequence.
    assert(waiting_.front() == sequence);
    waiting_.erase(waiting_.begin());
    allocator_.Allocate(needed, sequence->pages);
    sequence->running = true;
    InsertInOrder(running_, sequence);
  }
}

bool Scheduler::EnsurePages(Sequence* sequence, int positions) {
  const int missing = PagesFor(positions) - static_cast<int>(sequence->pages.size());
  if (missing <= 0) return true;
  while (allocator_.free() < missing) {
    Sequence* last = running_.back();
    Preempt(last);
    if (last == sequence) return false;
  }
  return allocator_.Allocate(missing, sequence->pages);
}

std::vector<ScheduledRows> Scheduler::Schedule() {
  Admit();
  int prompt_rows = options_.max_rows;  // left for prompts
  for (const Sequence* sequence : running_) {
    if (sequence->uncomputed() == 1) --prompt_rows;
  }
  std::vector<ScheduledRows> rows;
  // Preemption removes sequences behind the one that is looked at, or that one itself.
  for (size_t i = 0; i < running_.size();) {
    Sequence* sequence = running_[i];
    int count = 1;
    if (sequence->uncomputed() > 1) {
      count = std::min(sequence->uncomputed(), prompt_rows);
    }
    if (count == 0) {
      ++i;
      continue;
    }
    if (!EnsurePages(sequence, sequence->computed + count)) break;
    if (sequence->uncomputed() > 1) prompt_rows -= count;
    rows.push_back({sequence, sequence->computed, count});
    ++i;
  }
  return rows;
}

}  // namespace octogate::workers

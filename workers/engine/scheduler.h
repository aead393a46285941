// Decides which rows each step computes: continuous batching at token granularity (Yu et al. 2022,
// "Orca", OSDI) over a paged KV cache (Kwon et al. 2023, "PagedAttention", SOSP), prompts cut into
// chunks that share steps with decoding sequences (Agrawal et al. 2024, "Sarathi-Serve", OSDI).
//
// One order rules everything: higher priority first, then earlier arrival. In each step
//   1. waiting sequences are admitted in that order while there is a slot, pages for all their
//      tokens and rows to give them; one that finds no room may push out running sequences of
//      lower priority, if that makes room;
//   2. every running sequence gets the pages that its rows need, in that order; where none is free,
//      the last sequence of the order is preempted: it loses its pages and waits to be computed
//      again;
//   3. every decoding sequence gets its row, prompts share the rest of the rows in that order.
//
// Progress: the first sequence of the order can take pages from all others and is never preempted
// by them, and any sequence alone fits (`max_positions`). So it advances in every step, finishes,
// and the next one is first: nothing waits for ever, unless higher priorities keep arriving.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_ENGINE_SCHEDULER_H_
#define OCTOGATE_WORKERS_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <vector>

#include "workers/engine/page_allocator.h"
#include "workers/engine/sequence.h"

namespace octogate::workers {

struct SchedulerOptions {
  int max_sequences = 1;  // running at the same time
  int max_rows = 1;       // in one step; at least max_sequences
  int page_size = 1;      // positions
};

// Rows [first_position, first_position + row_count) of a sequence. The step yields logits for its
// last row where that is the sequence's last token.
struct ScheduledRows {
  Sequence* sequence = nullptr;
  int first_position = 0;
  int row_count = 0;

  bool completes() const { return first_position + row_count == sequence->length(); }
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, int pages);

  // Lets a sequence wait for its turn. It must have at least one token, at most max_positions()
  // tokens for as long as it is here, and stay alive until Remove.
  void Add(Sequence* sequence);
  // Forgets a sequence and frees its pages.
  void Remove(Sequence* sequence);

  // The rows of the next step, sequences in order of service; empty only where there is no
  // sequence. Their pages are allocated. Once they are computed, the caller raises `computed`.
  std::vector<ScheduledRows> Schedule();

  // Positions that the whole cache holds.
  int64_t max_positions() const { return int64_t{allocator_.total()} * options_.page_size; }
  const PageAllocator& pages() const { return allocator_; }
  int running() const { return static_cast<int>(running_.size()); }
  int waiting() const { return static_cast<int>(waiting_.size()); }
  uint64_t preemptions() const { return preemptions_; }

 private:
  int PagesFor(int positions) const;
  void Admit();
  // Pushes out sequences of lower priority than `sequence` until `pages_needed` are free and a slot
  // is; returns whether that is so. Pushes out none where it would not help.
  bool MakeRoom(const Sequence& sequence, int pages_needed);
  bool EnsurePages(Sequence* sequence, int positions);
  void Preempt(Sequence* sequence);

  const SchedulerOptions options_;
  PageAllocator allocator_;
  std::vector<Sequence*> running_;  // both in order of service
  std::vector<Sequence*> waiting_;
  uint64_t preemptions_ = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SCHEDULER_H_

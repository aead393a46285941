// Which requests are let in by their deadline. One whose prompt cannot be computed in time is told
// so when it arrives, rather than take rows from others until its deadline has passed.
//
// What decides is the least time to its first token, by the measured cost of steps (StepCost):
//   * a row counts as what it costs in the step that makes rows cheapest; beside the rows of
//     prompts nothing counts that these steps may hold, nor that they attend to anything, the
//     request's own rows excepted;
//   * of the prompts before it those count that the scheduler serves first whatever comes: those of
//     higher priority, and those of the same priority and tenant; each until its own deadline, in
//     whatever order leaves the least;
//   * pages that the prefix cache has, or that a prompt is about to compute that came before, do
//     not count; of the page behind them, which others may be filling, one row does; and a prompt
//     that pages may still arrive for does not count at all.
// So what is refused could have been met only if the machine had become faster than it was measured
// to be, lately too (StepPace); if requests before it had been cancelled; or if, while they waited
// until they gave up, one that came later and was served first had computed what it begins with.
//
// Not thread-safe; driven by the engine's thread.
#ifndef OCTOGATE_WORKERS_ENGINE_ADMISSION_H_
#define OCTOGATE_WORKERS_ENGINE_ADMISSION_H_

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "workers/engine/prefix_cache.h"
#include "workers/engine/scheduler.h"
#include "workers/engine/sequence.h"
#include "workers/engine/step_cost.h"

namespace octogate::workers {

// The rows of a prompt that are its own to compute.
struct PromptWork {
  int first = 0;                // those from here on
  std::vector<uint64_t> pages;  // hashes of the full pages among them
  CachedPrefix cached;          // of the others
};

// A prompt under way, or one that asks to be.
struct PendingPrompt {
  const Sequence* sequence = nullptr;
  int first = 0;  // PromptWork::first
  // Seconds from now; may be infinite.
  double left = std::numeric_limits<double>::infinity();
};

class Admission {
 public:
  struct LeastTime {
    double alone = 0;     // seconds to its first token, had it the machine for itself
    double in_queue = 0;  // behind what is before it
  };

  // `cost` must outlive it. `page_size` 0: sequences share no pages.
  Admission(const StepCost* cost, int max_rows, int page_size);

  // Nothing is measured: everything is let in, and there is no need to call anything else.
  bool known() const { return row_seconds_ > 0; }
  // What prompts take at least, a row.
  double row_seconds() const { return row_seconds_; }

  // Of a sequence of whose beginning the prefix cache has this. Until Leave, its pages are not the
  // work of those that come later.
  PromptWork Enter(const Sequence& sequence, const CachedPrefix& cached);
  void Leave(const PromptWork& work);
  // Takes off what has come into the prefix cache since.
  void TakeOffCached(const Sequence& sequence, const Scheduler& scheduler, PromptWork& work) const;

  // Rows that are left of it; at most those that have never been computed.
  static int64_t RowsLeft(const PendingPrompt& prompt);

  // `pace`: how many times as long steps take as they were measured to. `others` may hold the
  // prompt itself.
  LeastTime TimeToFirstToken(const PendingPrompt& prompt, std::span<const PendingPrompt> others,
                             double pace) const;
  // DEADLINE_EXCEEDED where the prompt alone takes longer than it has;
  // RESOURCE_EXHAUSTED where others before it do, with a hint when it would fit by what is there.
  absl::Status Check(const PendingPrompt& prompt, std::span<const PendingPrompt> others,
                     double pace) const;

 private:
  const StepCost& cost_;
  const int page_size_;
  double row_seconds_ = 0;
  absl::flat_hash_set<uint64_t> computed_by_others_;  // pages
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_ADMISSION_H_

#include "workers/engine/admission.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "common/status.h"

namespace octogate::workers {
namespace {

// Of a curve that is straight between its points, the least per row is at one of them or at the
// end.
double CheapestRow(const StepCost& cost, int max_rows) {
  double least = cost.rows.At(max_rows) / max_rows;
  for (const CostCurve::Point& point : cost.rows.points()) {
    if (point.x <= max_rows) least = std::min(least, point.seconds / point.x);
  }
  return least;
}

bool ServedFirst(const Sequence& other, const Sequence& sequence) {
  if (other.arrival >= sequence.arrival) return false;
  if (other.priority != sequence.priority) return other.priority > sequence.priority;
  return other.tenant == sequence.tenant;
}

}  // namespace

Admission::Admission(const StepCost* cost, int max_rows, int page_size)
    : cost_(*cost), page_size_(page_size) {
  if (cost_.known()) row_seconds_ = CheapestRow(cost_, max_rows);
}

PromptWork Admission::Enter(const Sequence& sequence, const CachedPrefix& cached) {
  PromptWork work{.cached = cached};
  if (page_size_ == 0) return work;
  const std::span<const int32_t> tokens = sequence.tokens;
  const auto page_size = static_cast<size_t>(page_size_);
  uint64_t hash = ContextHash(sequence.prefix_context);
  int page = 0;
  for (size_t end = page_size; end < tokens.size(); end += page_size, ++page) {
    hash = ChainHash(hash, tokens.subspan(end - page_size, page_size));
    const bool is_there = sequence.use_cached_prefix && page < cached.pages;
    if (!is_there && computed_by_others_.insert(hash).second) {
      work.pages.push_back(hash);
    } else if (work.pages.empty()) {
      work.first = static_cast<int>(end);
    }
  }
  return work;
}

void Admission::Leave(const PromptWork& work) {
  for (const uint64_t page : work.pages) computed_by_others_.erase(page);
}

void Admission::TakeOffCached(const Sequence& sequence, const Scheduler& scheduler,
                              PromptWork& work) const {
  if (!sequence.use_cached_prefix) return;
  scheduler.FollowCachedPages(sequence, work.cached);
  work.first = std::max(work.first, work.cached.pages * page_size_);
}

int64_t Admission::RowsLeft(const PendingPrompt& prompt) {
  const Sequence& sequence = *prompt.sequence;
  return std::max(sequence.length() - std::max(prompt.first, sequence.most_computed), 0);
}

Admission::LeastTime Admission::TimeToFirstToken(const PendingPrompt& prompt,
                                                 std::span<const PendingPrompt> others,
                                                 double pace) const {
  const Sequence& sequence = *prompt.sequence;
  std::vector<const PendingPrompt*> before;
  for (const PendingPrompt& other : others) {
    if (other.sequence->arriving == nullptr && ServedFirst(*other.sequence, sequence)) {
      before.push_back(&other);
    }
  }
  // Others may have computed all rows but one of the page that comes next.
  const int begun = std::max(page_size_ - 1, 0);
  // Until any time, all is done that is not given up before, or the time has passed.
  std::sort(before.begin(), before.end(),
            [](const PendingPrompt* a, const PendingPrompt* b) { return a->left > b->left; });
  double of_others = 0;
  double work = 0;
  for (const PendingPrompt* other : before) {
    // Nor does the row of its last token count, which one that decodes has, too.
    const auto rows = static_cast<double>(std::max<int64_t>(RowsLeft(*other) - begun - 1, 0));
    work += pace * row_seconds_ * rows;
    of_others = std::max(of_others, std::min(work, other->left));
  }
  // A row of the last token is computed in any case.
  const int rows = sequence.arriving == nullptr
                       ? static_cast<int>(std::max<int64_t>(RowsLeft(prompt) - begun, 1))
                       : 1;
  const double attention =
      cost_.context.At(static_cast<double>(AttendedBy(sequence.length() - rows, rows)));
  const double own = pace * (row_seconds_ * rows + attention);
  const double alone = std::max(own, pace * cost_.rows.At(1));
  return {.alone = alone, .in_queue = std::max(of_others + own, alone)};
}

absl::Status Admission::Check(const PendingPrompt& prompt, std::span<const PendingPrompt> others,
                              double pace) const {
  if (prompt.left == std::numeric_limits<double>::infinity()) return absl::OkStatus();
  const LeastTime time = TimeToFirstToken(prompt, others, pace);
  if (time.alone > prompt.left) {
    return absl::DeadlineExceededError(absl::StrFormat(
        "the deadline cannot be met: %.0f ms are left, and the prompt alone takes at least %.0f ms "
        "by what steps were measured to cost; ask for less or leave more time",
        prompt.left * 1e3, time.alone * 1e3));
  }
  if (time.in_queue <= prompt.left) return absl::OkStatus();
  const double excess = time.in_queue - prompt.left;
  return WithRetryAfter(
      absl::ResourceExhaustedError(absl::StrFormat(
          "the deadline cannot be met: %.0f ms are left, and the prompts before this one and its "
          "own take at least %.0f ms by what steps were measured to cost; try again in %.0f ms",
          prompt.left * 1e3, time.in_queue * 1e3, excess * 1e3)),
      absl::Seconds(excess));
}

}  // namespace octogate::workers

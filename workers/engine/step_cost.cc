#include "workers/engine/step_cost.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

namespace octogate::workers {
namespace {

// The best counts: whatever disturbs makes a step slower. Short steps are run more often, as long
// as that takes no more than this share of the budget, since they are disturbed more.
constexpr int kRepetitions = 2;
constexpr int kMostRepetitions = 16;
constexpr double kRepetitionsShare = 0.01;
constexpr int kFirstContext = 64;
// Shares of the budget after which a curve ends.
constexpr double kContextShare = 0.25;
constexpr double kRowsShare = 0.75;

// Runs probes as long as the time suffices.
class Prober {
 public:
  Prober(double budget, int warm_runs, const std::function<double(const StepProbe&)>& run)
      : budget_(budget), warm_runs_(warm_runs), run_(run) {}

  // Whether a probe that takes about `seconds` fits into this share of the budget.
  bool Fits(double seconds, double share) const {
    return spent_ + (warm_runs_ + kRepetitions) * seconds <= share * budget_;
  }
  double Run(const StepProbe& probe) {
    for (int i = 0; i < warm_runs_; ++i) RunUncounted(probe);
    double best = std::numeric_limits<double>::infinity();
    double taken = 0;
    for (int i = 0; i < kMostRepetitions; ++i) {
      if (i > 0 && spent_ > budget_) break;
      if (i >= kRepetitions && taken + best > kRepetitionsShare * budget_) break;
      const double seconds = run_(probe);
      spent_ += seconds;
      taken += seconds;
      best = std::min(best, seconds);
    }
    return best;
  }
  void RunUncounted(const StepProbe& probe) { spent_ += run_(probe); }

 private:
  const double budget_;
  const int warm_runs_;
  const std::function<double(const StepProbe&)>& run_;
  double spent_ = 0;
};

}  // namespace

void CostCurve::Add(double x, double seconds) {
  assert(points_.empty() || x > points_.back().x);
  if (!points_.empty()) seconds = std::max(seconds, points_.back().seconds);
  points_.push_back({x, seconds});
}

double CostCurve::At(double x) const {
  if (points_.empty()) return 0;
  if (points_.size() == 1 || x <= points_.front().x) return points_.front().seconds;
  auto right = std::upper_bound(points_.begin(), points_.end(), x,
                                [](double value, const Point& point) { return value < point.x; });
  if (right == points_.end()) --right;
  const Point& a = *(right - 1);
  const Point& b = *right;
  return a.seconds + (b.seconds - a.seconds) * ((x - a.x) / (b.x - a.x));
}

double StepCost::Seconds(const StepShape& shape) const {
  return rows.At(shape.rows) + context.At(static_cast<double>(shape.attended)) +
         sequences.At(shape.sequences);
}

StepCost MeasureStepCost(const StepProbeLimits& limits, double budget_seconds, int warm_runs,
                         const std::function<double(const StepProbe&)>& run) {
  StepCost cost;
  if (budget_seconds <= 0) return cost;
  Prober prober(budget_seconds, warm_runs, run);
  prober.RunUncounted({});  // reads the weights, wakes the threads
  const double single = prober.Run({});
  cost.rows.Add(1, single);
  cost.context.Add(1, 0);
  cost.sequences.Add(1, 0);

  double last = single;
  for (int64_t context = kFirstContext; context < limits.max_context; context *= 4) {
    if (!prober.Fits(4 * last, kContextShare)) break;
    last = prober.Run({.context = static_cast<int>(context)});
    cost.context.Add(static_cast<double>(context) + 1, last - single);
  }

  last = single;
  for (int rows = 1; rows < std::min(limits.max_rows, limits.max_context);) {
    rows = std::min({2 * rows, limits.max_rows, limits.max_context});
    if (!prober.Fits(2 * last, kRowsShare)) break;
    last = prober.Run({.rows = rows});
    cost.rows.Add(rows, last - cost.context.At(static_cast<double>(AttendedBy(0, rows))));
  }

  last = single;
  for (int sequences = 1; sequences < limits.max_sequences;) {
    sequences = std::min(2 * sequences, limits.max_sequences);
    if (!prober.Fits(2 * last, 1)) break;
    last = prober.Run({.sequences = sequences});
    cost.sequences.Add(sequences, last - cost.rows.At(sequences) - cost.context.At(sequences));
  }
  return cost;
}

double PrefillSeconds(const StepCost& cost, int positions, int max_rows) {
  double seconds = 0;
  for (int done = 0; done < positions;) {
    const int rows = std::min(positions - done, max_rows);
    seconds += cost.Seconds({.rows = rows, .sequences = 1, .attended = AttendedBy(done, rows)});
    done += rows;
  }
  return seconds;
}

void StepPace::Measured(double expected, double seconds) {
  constexpr double kMemory = 2;  // seconds
  if (!(expected > 0) || !(seconds > 0)) return;
  const double ratio = std::clamp(seconds / expected, kLeast, 1 / kLeast);
  ratio_ += (1 - std::exp(-expected / kMemory)) * (ratio - ratio_);
}

int RowBudget(const StepCost& cost, const StepTimeLimit& limit, const StepShape& decode,
              int64_t prompt_context, int min_prompt_rows, int max_rows) {
  if (!cost.known() || (limit.seconds <= 0 && limit.slowdown <= 0)) return max_rows;
  double most = std::numeric_limits<double>::infinity();
  if (limit.seconds > 0) most = limit.seconds;
  if (limit.slowdown > 0) most = std::min(most, limit.slowdown * cost.Seconds(decode));
  int fits = std::min(decode.rows + min_prompt_rows, max_rows);
  int exceeds = max_rows + 1;
  while (exceeds - fits > 1) {  // the cost does not fall
    const int rows = fits + (exceeds - fits) / 2;
    const StepShape shape{.rows = rows,
                          .sequences = decode.sequences + 1,
                          .attended = decode.attended + (rows - decode.rows) * prompt_context};
    (cost.Seconds(shape) <= most ? fits : exceeds) = rows;
  }
  return fits;
}

}  // namespace octogate::workers

// What a step of the model costs in time, measured on the machine that it runs on: how speculation
// knows which drafts pay, the scheduler how many rows of prompts others can bear, admission which
// deadlines cannot be met, and routing how busy a worker is.
//
//   seconds = rows(number of rows) + context(positions attended) + sequences(number of sequences)
//
// Each term is a curve through measured points, straight between them and behind the last. The
// first is by far the largest and bends where products stop to be bound by memory; attention is
// nearly straight; sequences beyond the first add logits, and so do drafted rows. That the terms
// add up is a model: a step that mixes all of them may take another time.
#ifndef OCTOGATE_WORKERS_ENGINE_STEP_COST_H_
#define OCTOGATE_WORKERS_ENGINE_STEP_COST_H_

#include <cstdint>
#include <functional>
#include <vector>

namespace octogate::workers {

struct StepShape {
  int rows = 1;
  int sequences = 1;     // at most `rows`
  int64_t attended = 0;  // positions that a row attends to, summed over the rows
};

// Positions that `rows` of a sequence attend to which stand one behind the other from `first` on,
// each up to its own.
inline int64_t AttendedBy(int first, int rows) {
  return int64_t{rows} * first + int64_t{rows} * (rows + 1) / 2;
}

// A function of x >= 0 that does not fall: straight between its points and, with the last slope,
// behind them. Before the first point it is constant.
class CostCurve {
 public:
  struct Point {
    double x = 0;
    double seconds = 0;
  };
  // x of a point must be larger than those before. Seconds that are less than before, as noise
  // makes them, are raised.
  void Add(double x, double seconds);
  // 0 without points.
  double At(double x) const;
  const std::vector<Point>& points() const { return points_; }

 private:
  std::vector<Point> points_;
};

// Thread safety: const once made.
struct StepCost {
  CostCurve rows;
  CostCurve context;
  CostCurve sequences;

  bool known() const { return !rows.points().empty(); }
  // 0 where nothing is known.
  double Seconds(const StepShape& shape) const;
};

// A step to be measured: `sequences` with `rows` each, of which the last has logits, behind
// `context` positions.
struct StepProbe {
  int sequences = 1;
  int rows = 1;
  int context = 0;
};

struct StepProbeLimits {
  int max_rows = 1;       // of a step
  int max_sequences = 1;  // of a step; at most max_rows
  int max_context = 1;    // context and rows of a probe together
};

// Measures with `run`, which runs a step and returns the seconds that it took; each step first runs
// `warm_runs` times that do not count (kernels::Backend::WarmSteps). Begins with the smallest
// steps, and leaves out those that it expects to take longer than what is left of `budget_seconds`;
// so it may exceed the budget by one step, or by three and `warm_runs` of the smallest.
StepCost MeasureStepCost(const StepProbeLimits& limits, double budget_seconds, int warm_runs,
                         const std::function<double(const StepProbe&)>& run);

// Seconds of the steps that compute the first `positions` of a sequence, with nothing beside it and
// at most `max_rows` rows each.
double PrefillSeconds(const StepCost& cost, int positions, int max_rows);

// How much longer steps take lately than they did when their cost was measured: since then others
// may have come to work on the machine, or its clock may have fallen. Not thread-safe.
class StepPace {
 public:
  // A step that was expected to take so long took so long. One counts the more the longer it is.
  void Measured(double expected, double seconds);
  // At least kLeast and at most 1 / kLeast.
  static constexpr double kLeast = 0.1;
  double ratio() const { return ratio_; }

 private:
  double ratio_ = 1;
};

// How long a step may take in which prompts share with sequences that decode. 0: no limit.
struct StepTimeLimit {
  double seconds = 0;
  double slowdown = 0;  // times what the decoding sequences would take without prompts
};

// The rows that a step may have in all, so that it keeps the limit by what `cost` says: those of
// `decode` and of prompts, which attend to `prompt_context` positions each. Never less than
// decode.rows + `min_prompt_rows` and never more than `max_rows`, which it is without a limit or
// where the cost is not known.
int RowBudget(const StepCost& cost, const StepTimeLimit& limit, const StepShape& decode,
              int64_t prompt_context, int min_prompt_rows, int max_rows);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_STEP_COST_H_

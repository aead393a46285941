// Which drafts a step verifies: those that pay by what the step costs.
//
// A step yields one token for each sequence that decodes; drafted rows yield more, each with the
// probability of its whole path, and cost more. Of the nodes of all sequences together those that
// shorten the wait for a token most for their cost are taken, as many as make the mean wait of the
// sequences shortest:
//   (seconds of plain decoding + seconds that the drafted rows add) * mean of 1 / (1 + gain)
// and none where that is no shorter than in plain decoding, as under high load. For one sequence,
// and where all gain alike, that is to say that tokens per second are highest, as Sequoia (Chen et
// al. 2024, arXiv:2402.12374) chooses its trees; here cost is the measured one of the batch at
// hand. Where few gain, tokens per second would let all others wait for their rows, and would be
// lost again: who is done early leaves the others a pass that costs hardly less.
//
// Who takes the best of many estimates takes those that are too high. So the planner is told what
// came of its choices, in time (Measured) and in tokens (Accepted), and where they cost more or
// gave less than they promised, the next ones have to promise as much more.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_SPECULATION_PLANNER_H_
#define OCTOGATE_WORKERS_SPECULATION_PLANNER_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <span>

#include "workers/speculation/draft_tree.h"

namespace octogate::workers {

// A step, as far as it decides what it costs.
struct StepLoad {
  int rows = 0;
  int logit_rows = 0;    // rows that a token is chosen from
  int64_t attended = 0;  // positions that rows attend to, summed over the rows
};

// When a sequence drafts. One for which nothing was taken does so less often, at most every
// kLongestWait steps, unless drafting costs next to nothing: so what does not pay costs little, and
// comes back when it pays.
struct DraftPace {
  static constexpr int kLongestWait = 32;

  int wait = 0;       // steps from one time to the next
  int left = 0;       // of these
  int sequences = 0;  // that decoded when nothing was taken
  bool spends = false;

  // Whether to draft in this step, where `count` sequences decode.
  bool Due(int count);
  // Drafting has been done: whether anything of it was taken, and whether it is cheap.
  void Drafted(bool taken, bool cheap, int count);
};

// One sequence of a step.
struct PlannedSequence {
  DraftTree* tree = nullptr;  // what may be verified; cut to what is, breadth first
  int context = 0;            // positions that each of its rows attends to
  int free_slots = 0;         // rows that fit into the pages that it has
  int most_slots = 0;         // rows that any number of pages has room for
  bool spends = false;        // had drafts verified in its last step
};

// What drafts may take beyond the step.
struct DraftRoom {
  int rows = 0;
  int pages = 0;
  int page_size = 1;
};

class DraftPlanner {
 public:
  struct Options {
    int max_nodes = 64;  // of a sequence
    // Whatever it costs: for tests and measurements.
    bool ignore_cost = false;
    // Rows of a step beyond which drafts are not considered, since the cost is not known there.
    int most_rows = std::numeric_limits<int>::max();
    // Seconds of a step, which do not fall where any of its numbers grows. Empty: not known, and a
    // row is taken to cost a tenth of a step that has one.
    std::function<double(const StepLoad&)> seconds;
  };

  explicit DraftPlanner(const Options& options) : options_(options) {}

  // `step` is the whole step without drafts, `decoding` the part of it that decodes.
  void Plan(const StepLoad& step, const StepLoad& decoding, const DraftRoom& room,
            std::span<PlannedSequence> sequences);
  // How many of the nodes that the last Plan left were right.
  void Accepted(int nodes);
  // What a step that holds no prompts took, and drafting with it. Where steps with drafts take
  // longer than expected, compared with those without, drafts have to promise as much more.
  void Measured(const StepLoad& step, bool drafts, double seconds);

  // Of the nodes that Plan left lately, the least probability of a path; 0 where it left none.
  double least_path() const { return least_path_; }

  // As expected by the options.
  double Seconds(const StepLoad& step) const;
  // By how long plain decoding takes beside what is expected, as far as that was measured; 0 where
  // neither is in seconds.
  double MeasuredSeconds(const StepLoad& step) const;
  // By how much longer a step with drafts takes, by all that was measured, than the same without.
  double AddedSeconds(const StepLoad& step, const StepLoad& undrafted) const;

 private:
  double DraftFactor() const;
  // What is to be expected of a promised token; at most 1.
  double GainFactor() const;

  const Options options_;
  // Measured seconds divided by those expected, averaged over the last steps; 0: none yet.
  double plain_ratio_ = 0;
  double draft_ratio_ = 0;
  // Tokens that drafts were to give, by the estimates, and gave; older ones with less weight.
  double promised_now_ = 0;
  double promised_ = 0;
  double accepted_ = 0;
  double least_path_ = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_PLANNER_H_

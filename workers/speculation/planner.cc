#include "workers/speculation/planner.h"

#include <algorithm>
#include <cstddef>
#include <queue>
#include <utility>
#include <vector>

namespace octogate::workers {
namespace {

// How much faster than plain decoding drafts have to promise to be: estimates are noisy. What did
// not spend before has to promise more than what did, lest it goes to and fro.
constexpr double kMargin = 1.01;
constexpr double kEntryDiscount = 0.9;
// How much a new measurement counts.
constexpr double kRatioWeight = 1.0 / 16;
// How fast what was measured with drafts is forgotten while there are none.
constexpr double kForgetWeight = 1.0 / 128;
constexpr double kMostDraftFactor = 4;
// Steps with drafts whose tokens are remembered, and promised ones below which there is no telling.
constexpr double kGainMemory = 64;
constexpr double kGainPrior = 8;
constexpr double kPathWeight = 1.0 / 8;  // of a plan

// A node whose parents have all been taken.
struct Candidate {
  double gain = 0;  // probability of the path
  int node = 0;
};

// Larger gains first; of equals the first node.
struct GainsLess {
  bool operator()(const Candidate& a, const Candidate& b) const {
    return a.gain != b.gain ? a.gain < b.gain : a.node > b.node;
  }
};

// A sequence by what its best candidate shortens the wait for a token, for its cost. Larger scores
// first; of equals the first sequence.
struct Scored {
  double score = 0;
  size_t sequence = 0;

  bool operator<(const Scored& other) const {
    return score != other.score ? score < other.score : sequence > other.sequence;
  }
};

// How much shorter a sequence waits for a token, in passes, that expects `gain` tokens a pass more
// than one, where it expects `more` beside them.
double Shortens(double gain, double more) { return more / ((1 + gain) * (1 + gain + more)); }

// Children of each node, [0] those of the root.
std::vector<std::vector<int>> ChildrenOf(const DraftTree& tree) {
  std::vector<std::vector<int>> children(tree.nodes.size() + 1);
  for (int i = 0; i < tree.size(); ++i) {
    children[static_cast<size_t>(tree.nodes[static_cast<size_t>(i)].parent + 1)].push_back(i);
  }
  return children;
}

// The part of a tree that is `kept`, which has the parents of all its nodes, breadth first.
void KeepNodes(const std::vector<bool>& kept, const std::vector<std::vector<int>>& children,
               DraftTree& tree) {
  std::vector<DraftNode> nodes;
  std::vector<int> places;  // in `tree`, of `nodes`
  for (int parent = -1; parent < static_cast<int>(nodes.size()); ++parent) {
    const int place = parent < 0 ? -1 : places[static_cast<size_t>(parent)];
    for (const int child : children[static_cast<size_t>(place + 1)]) {
      if (!kept[static_cast<size_t>(child)]) continue;
      nodes.push_back(tree.nodes[static_cast<size_t>(child)]);
      nodes.back().parent = parent;
      places.push_back(child);
    }
  }
  tree.nodes = std::move(nodes);
}

}  // namespace

bool DraftPace::Due(int count) {
  if (left == 0 || 2 * count <= sequences) return true;
  --left;
  return false;
}

void DraftPace::Drafted(bool taken, bool cheap, int count) {
  spends = taken;
  wait = taken || cheap ? 0 : std::min(2 * wait + 1, kLongestWait);
  left = wait;
  sequences = count;
}

double DraftPlanner::Seconds(const StepLoad& step) const {
  return options_.seconds ? options_.seconds(step) : 0.9 + 0.1 * step.rows;
}

double DraftPlanner::MeasuredSeconds(const StepLoad& step) const {
  if (!options_.seconds) return plain_ratio_ * Seconds(step);
  return (plain_ratio_ > 0 ? plain_ratio_ : 1) * Seconds(step);
}

double DraftPlanner::AddedSeconds(const StepLoad& step, const StepLoad& undrafted) const {
  return DraftFactor() * MeasuredSeconds(step) - MeasuredSeconds(undrafted);
}

double DraftPlanner::GainFactor() const {
  return std::min(1.0, (accepted_ + kGainPrior) / (promised_ + kGainPrior));
}

void DraftPlanner::Accepted(int nodes) {
  constexpr double kKeep = 1 - 1 / kGainMemory;
  promised_ = promised_ * kKeep + promised_now_;
  accepted_ = accepted_ * kKeep + nodes;
}

double DraftPlanner::DraftFactor() const {
  if (plain_ratio_ <= 0 || draft_ratio_ <= 0) return 1;
  return std::clamp(draft_ratio_ / plain_ratio_, 1.0, kMostDraftFactor);
}

void DraftPlanner::Measured(const StepLoad& step, bool drafts, double seconds) {
  const double expected = Seconds(step);
  if (!(expected > 0)) return;
  const double ratio = seconds / expected;
  double& average = drafts ? draft_ratio_ : plain_ratio_;
  average = average > 0 ? average + kRatioWeight * (ratio - average) : ratio;
  if (drafts) return;
  if (draft_ratio_ > 0) draft_ratio_ += kForgetWeight * (plain_ratio_ - draft_ratio_);
  promised_ *= 1 - kForgetWeight;
  accepted_ *= 1 - kForgetWeight;
}

void DraftPlanner::Plan(const StepLoad& step, const StepLoad& decoding, const DraftRoom& room,
                        std::span<PlannedSequence> sequences) {
  struct Choice {
    std::vector<std::vector<int>> children;
    std::priority_queue<Candidate, std::vector<Candidate>, GainsLess> candidates;
    std::vector<bool> kept;
    double entry = 1;  // of what a node promises, what is expected
    double row_cost = 0;
    double gain = 0;  // of the nodes taken
    int nodes = 0;
    int free_slots = 0;
  };
  std::vector<Choice> choices(sequences.size());
  int proposed = 0;
  for (const PlannedSequence& sequence : sequences) proposed += sequence.tree->size();
  const int most = std::min({room.rows, options_.most_rows - step.rows, proposed});
  const double base = Seconds(step);
  const double gain_factor = GainFactor();
  std::priority_queue<Scored> queue;
  const auto enqueue = [&](size_t s) {
    const Choice& choice = choices[s];
    if (choice.candidates.empty()) return;
    queue.push({Shortens(choice.gain, choice.candidates.top().gain) / choice.row_cost, s});
  };
  const auto add_children = [&](size_t s, int parent, double gain) {
    Choice& choice = choices[s];
    for (const int child : choice.children[static_cast<size_t>(parent + 1)]) {
      const double probability = sequences[s].tree->nodes[static_cast<size_t>(child)].probability;
      choice.candidates.push({gain * probability, child});
    }
  };
  if (most > 0) {
    for (size_t s = 0; s < sequences.size(); ++s) {
      Choice& choice = choices[s];
      choice.children = ChildrenOf(*sequences[s].tree);
      choice.kept.assign(sequences[s].tree->nodes.size(), false);
      choice.free_slots = sequences[s].free_slots;
      const double all =
          Seconds({.rows = step.rows + most,
                   .logit_rows = step.logit_rows + most,
                   .attended = step.attended + int64_t{most} * sequences[s].context});
      choice.row_cost = std::max((all - base) / most, 1e-12);
      choice.entry = gain_factor * (sequences[s].spends ? 1.0 : kEntryDiscount);
      add_children(s, -1, choice.entry);
      enqueue(s);
    }
  }

  struct Taken {
    size_t sequence;
    Candidate candidate;
  };
  std::vector<Taken> taken;
  StepLoad load = step;
  int pages = room.pages;
  double passes = decoding.logit_rows;  // that sequences wait for a token, summed over them
  const double plain = Seconds(decoding);
  const double factor = DraftFactor();
  size_t best = 0;
  double best_wait = passes * plain / kMargin;
  while (!queue.empty() && static_cast<int>(taken.size()) < most) {
    const size_t number = queue.top().sequence;
    queue.pop();
    Choice& choice = choices[number];
    const PlannedSequence& sequence = sequences[number];
    if (choice.nodes >= std::min(options_.max_nodes, sequence.most_slots)) continue;
    if (choice.nodes >= choice.free_slots) {
      if (pages == 0) continue;
      --pages;
      choice.free_slots += room.page_size;
    }
    const Candidate candidate = choice.candidates.top();
    choice.candidates.pop();
    ++choice.nodes;
    taken.push_back({number, candidate});
    passes -= Shortens(choice.gain, candidate.gain);
    choice.gain += candidate.gain;
    add_children(number, candidate.node, candidate.gain);
    enqueue(number);
    ++load.rows;
    ++load.logit_rows;
    load.attended += sequence.context;
    const double wait = passes * (plain + factor * Seconds(load) - base);
    if (options_.ignore_cost || wait < best_wait) {
      best_wait = wait;
      best = taken.size();
    }
  }
  taken.resize(best);
  promised_now_ = 0;
  double least_path = taken.empty() ? 0 : 1;
  for (const auto& [number, candidate] : taken) {
    Choice& choice = choices[number];
    choice.kept[static_cast<size_t>(candidate.node)] = true;
    const double path = candidate.gain / choice.entry;
    promised_now_ += path;
    least_path = std::min(least_path, path);
  }
  least_path_ += kPathWeight * (least_path - least_path_);
  for (size_t s = 0; s < sequences.size(); ++s) {
    if (best == 0) {
      sequences[s].tree->nodes.clear();
    } else {
      KeepNodes(choices[s].kept, choices[s].children, *sequences[s].tree);
    }
  }
}

}  // namespace octogate::workers

// What drafters would have saved on answers that a model has given: its choices are the recorded
// ones, so no model is needed.
//
// Nothing is known of the model's other candidates, so drafters that learn from them learn
// successors alone; their figures are lower bounds.
//
// A step drafts a tree, of which the longest path that is recorded next is accepted, and emits one
// token more than that. The first token of an answer comes from the prompt's pass and is no step's.
// The last step emits what is left of the answer, even where a draft goes on.
#ifndef OCTOGATE_TESTS_BENCH_SPECULATION_REPLAY_H_
#define OCTOGATE_TESTS_BENCH_SPECULATION_REPLAY_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "workers/speculation/drafter.h"

namespace octogate::bench {

struct RecordedRequest {
  std::string task;
  std::vector<int32_t> prompt;
  std::vector<int32_t> output;
};

// One a line: {"task", "prompt": [ids], "output": [ids]}. Aborts with a message on standard error
// where the file is not as expected.
std::vector<RecordedRequest> ReadRequests(const std::string& path);

// The least that has all ids of the requests.
int VocabularyOf(const std::vector<RecordedRequest>& requests);

using MakeDrafters = std::function<std::vector<std::unique_ptr<workers::Drafter>>()>;

struct ReplayOptions {
  int max_nodes = 63;
  int max_depth = 32;
  // All requests in their order have the same drafters; otherwise each has new ones.
  bool warm = false;
  // Unless it is warm: requests in succession for which it is remembered how often drafters were
  // right.
  size_t believed_for = 1;
  // Of a pass of so many rows, in passes of one row. What is drafted is then what the engine's
  // planner finds worth it; null: max_nodes, whatever they cost.
  std::function<double(int rows)> pass_cost;
  // Where the drafter `judge` finds what the last one proposes less probable than this, it is
  // dropped (PruneByDraft).
  float prune_below = 0;
  size_t judge = 0;
};

// For Report::SetKind.
inline constexpr char kReplayKind[] = "replay of recorded choices, no model runs";

// Drafted nodes whose parents were right: what was expected of them, and came of it.
struct ReplayTested {
  uint64_t nodes = 0;
  double expected = 0;  // sum of probabilities
  uint64_t right = 0;
  double squared_error = 0;  // sum, of probabilities against what came (Brier score)

  void Add(double probability, bool is_right);
  void Add(const ReplayTested& other);
};

struct ReplayCounts {
  uint64_t requests = 0;
  uint64_t tokens = 0;  // emitted by steps
  uint64_t steps = 0;
  uint64_t rows = 0;                // drafted
  std::vector<uint64_t> accepted;   // at each depth from 1 on: steps that accepted a token there
  std::vector<float> microseconds;  // of each step: Propose and merging
  std::vector<float> learning;      // of each step: Append
  double cost = 0;                  // of all steps, in passes of one row
  // Of several drafters: what each made of its nodes, and of the tree of all.
  std::array<ReplayTested, workers::kMaxDrafters> proposed;
  ReplayTested combined;

  // Mean accepted tokens, with the one that each step has anyway.
  double mat() const {
    return steps == 0 ? 0 : static_cast<double>(tokens) / static_cast<double>(steps);
  }
  // Tokens in the time that plain decoding takes for one.
  double speedup() const { return cost > 0 ? static_cast<double>(tokens) / cost : 0; }
  void Add(const ReplayCounts& other);
};

// By task. Proposals of several drafters, of max_nodes each, are combined as an engine does, with
// what it has learned of them, and cut to max_nodes; those of one are taken as they are.
std::map<std::string, ReplayCounts> Replay(const std::vector<RecordedRequest>& requests,
                                           const MakeDrafters& make, const ReplayOptions& options);

// The drafts of prompt lookup decoding (n = 3 to 1, 10 tokens, the first place whose continuation
// is whole): one path, to compare the replay with figures that others have published.
std::unique_ptr<workers::Drafter> MakePromptLookup();

// `share` in [0, 1]: 0.5 is the median.
double Percentile(std::vector<float> values, double share);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SPECULATION_REPLAY_H_

// What speculation did: for one answer, or for all of a model.
#ifndef OCTOGATE_WORKERS_SPECULATION_SPECULATION_USAGE_H_
#define OCTOGATE_WORKERS_SPECULATION_SPECULATION_USAGE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "workers/speculation/draft_tree.h"

namespace octogate::workers {

// Tokens that passes verified as nodes of draft trees, and those of them that became tokens of the
// answer.
struct DraftCounts {
  int64_t drafted = 0;
  int64_t accepted = 0;
};

struct DrafterUsage {
  std::string drafter;  // Drafter::name
  DraftCounts tokens;
};

struct SpeculationUsage {
  // Passes of the model that chose tokens, one for each answer that they did it for. Tokens of the
  // answers divided by steps are the mean accepted length, 1 without drafts.
  int64_t steps = 0;
  DraftCounts tokens;
  std::vector<DrafterUsage> drafters;  // in order of name; what several proposed counts for each
  std::vector<DraftCounts> depths;     // [0]: right after the last token of the answer
  absl::Duration draft;                // time of drafting
  // Time of passes that verified drafts, whoever's, and of those that did not. A pass that serves
  // many answers counts for each of them, and once in what is told of the model.
  absl::Duration verify;
  absl::Duration plain;
};

// Counts a tree that was verified, and the nodes of it that the answer went through. Every drafter
// of the tree has its place in usage.drafters.
void CountDraftTree(const DraftTree& tree, std::span<const int> accepted, SpeculationUsage& usage);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_SPECULATION_USAGE_H_

#include "workers/speculation/acceptance_stats.h"

#include <algorithm>
#include <cstddef>

namespace octogate::workers {
namespace {

// Nodes that a sum remembers, and evidence below which the drafter is believed.
constexpr double kModelMemory = 512;
constexpr double kModelPrior = 1;
constexpr double kSequenceMemory = 64;
constexpr double kSequencePrior = 2;

}  // namespace

void AddTested(double expected, bool accepted, double memory, AcceptanceSums& sums) {
  const double keep = 1 - 1 / memory;
  sums.expected = sums.expected * keep + expected;
  sums.accepted = sums.accepted * keep + (accepted ? 1 : 0);
}

size_t AcceptanceStats::IndexOf(int drafter, const DraftNode& node) {
  const int depth = std::clamp(node.depth - 1, 0, kDepths - 1);
  const int rank = std::min<int>(node.rank, kRanks - 1);
  return static_cast<size_t>((drafter * kDepths + depth) * kRanks + rank);
}

void AcceptanceStats::Calibrate(int drafter, const SequenceAcceptance& sequence,
                                DraftTree& tree) const {
  const double own = sequence.drafters[static_cast<size_t>(drafter)].Factor(kSequencePrior);
  for (DraftNode& node : tree.nodes) {
    const double factor = sums_[IndexOf(drafter, node)].Factor(kModelPrior) * own;
    node.probability = static_cast<float>(std::clamp(node.probability * factor, 0.0, 1.0));
  }
}

void AcceptanceStats::Record(int drafter, const DraftTree& proposal,
                             std::span<const int32_t> chosen, SequenceAcceptance& sequence) {
  AcceptanceSums& own = sequence.drafters[static_cast<size_t>(drafter)];
  int parent = -1;
  for (const int32_t token : chosen) {
    int next = -1;
    for (int i = parent + 1; i < proposal.size(); ++i) {
      const DraftNode& node = proposal.nodes[static_cast<size_t>(i)];
      if (node.parent != parent) continue;
      const bool accepted = node.token == token;
      if (accepted) next = i;
      AcceptanceSums& sums = sums_[IndexOf(drafter, node)];
      // The sequence is compared with what the model's sums make of the drafter.
      const double calibrated = std::min(1.0, double{node.probability} * sums.Factor(kModelPrior));
      AddTested(calibrated, accepted, kSequenceMemory, own);
      AddTested(node.probability, accepted, kModelMemory, sums);
    }
    if (next < 0) return;
    parent = next;
  }
}

}  // namespace octogate::workers

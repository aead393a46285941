// How often drafts turn out right, learned while they run: what a drafter says of a node is
// multiplied by how much more or less often than it said such nodes were right of late.
//
// A node is tested when the answer comes to its parent: then the next token says whether it was
// right, whether or not a pass verified it. So what is not verified any more, because it did not
// pay, is judged at its first depth all the same.
#ifndef OCTOGATE_WORKERS_SPECULATION_ACCEPTANCE_STATS_H_
#define OCTOGATE_WORKERS_SPECULATION_ACCEPTANCE_STATS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "workers/speculation/draft_tree.h"

namespace octogate::workers {

// Sums over nodes that were tested, older ones with less weight: of the probabilities that they
// were given, and of those that were right.
struct AcceptanceSums {
  double expected = 0;
  double accepted = 0;

  // What a probability has to be multiplied with; 1 as long as there is less evidence than
  // `prior`, in nodes that were expected to be right.
  double Factor(double prior) const { return (accepted + prior) / (expected + prior); }
};

// Adds a node that was tested, so that about `memory` of them are remembered.
void AddTested(double expected, bool accepted, double memory, AcceptanceSums& sums);

// Of one sequence, by drafter: some answers are easier to guess than others.
struct SequenceAcceptance {
  std::array<AcceptanceSums, kMaxDrafters> drafters;
};

// Of a model, by drafter, depth and rank among the siblings.
//
// Not thread-safe.
class AcceptanceStats {
 public:
  // Replaces what drafter `drafter` says of the nodes by what is expected of them. Never above 1.
  void Calibrate(int drafter, const SequenceAcceptance& sequence, DraftTree& tree) const;
  // Learns from a proposal, with its own probabilities, that the sequence went on with `chosen`.
  void Record(int drafter, const DraftTree& proposal, std::span<const int32_t> chosen,
              SequenceAcceptance& sequence);

 private:
  static constexpr int kDepths = 16;  // deeper ones count as the last
  static constexpr int kRanks = 8;    // likewise

  static size_t IndexOf(int drafter, const DraftNode& node);

  std::array<AcceptanceSums, size_t{kMaxDrafters} * kDepths * kRanks> sums_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_ACCEPTANCE_STATS_H_

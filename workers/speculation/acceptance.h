// How drafts of one position are accepted so that what comes out is distributed as the target alone
// would have it: lossless speculative sampling.
//
// Each rule looks at the children of one node of a draft tree and says which token follows. If that
// is a child's, the walk goes on there with the target's distribution after it; else it ends. The
// rules differ in how the children have to be drawn. To feed one with children drawn in another way
// is wrong and shows in no single answer: top-k children under a rule for sampled ones, for
// example.
//
// Distributions are dense over the vocabulary: finite, not negative, with sum 1 up to rounding. `p`
// is the target's, after temperature, penalties, biases, grammar mask, top-k and top-p; `q` is the
// draft's, exactly that from which the drafts were drawn. Drafts are tokens of that vocabulary.
//
// The engine uses the target-only rule for every drafter, "model" included (speculator.h). The
// rules for sampled drafts accept more where the temperature is high, but they are not joined to
// it:
// - they keep the distribution and not the ids. What a seed answers would depend on what was
//   drafted, so on the batch, on what was learned before and on preemption; the engine promises
//   that it depends on none of them, and a lost attempt could not go on where it ended.
// - Which drafts are verified may not depend on their tokens. The planner, and the "model" drafter
//   as it grows its tree, choose nodes by the probability of their tokens, and drafts that the
//   grammar forbids are left out; drawn drafts cut so would be accepted by the wrong law. A tree
//   would need its shape before its tokens, and no other drafter's nodes among its own.
// - q of every node that has children would have to be kept until the pass is over, dense: a row of
//   the vocabulary each; and Sampler would have to give p instead of a draw from it.
// So it would be a mode of its own, beside the one that there is.
//
// Every call takes O(vocabulary) per draft. Thread safety: plain functions.
#ifndef OCTOGATE_WORKERS_SPECULATION_ACCEPTANCE_H_
#define OCTOGATE_WORKERS_SPECULATION_ACCEPTANCE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"

namespace octogate::workers {

// Where the rules' random decisions come from.
class Chance {
 public:
  virtual ~Chance() = default;

  // True with this probability, in [0, 1].
  virtual bool Happens(double probability) = 0;
  // An index with a probability in proportion to its weight. Weights are not negative and at least
  // one is positive; they need not have the sum 1.
  virtual int Pick(std::span<const double> weights) = 0;
};

// Decisions by numbers from [0, 1): one for each, those that are certain included.
class UniformChance : public Chance {
 public:
  // `uniform` must outlive this.
  explicit UniformChance(absl::FunctionRef<double()> uniform) : uniform_(uniform) {}

  bool Happens(double probability) override { return uniform_() < probability; }
  // The first index at which the running sum of weights is above the number's share of their total.
  int Pick(std::span<const double> weights) override;

 private:
  absl::FunctionRef<double()> uniform_;
};

struct Accepted {
  int draft = -1;     // index of the accepted draft; -1: none
  int32_t token = 0;  // what follows: the accepted draft's, or one of the target's own
};

// Temperature zero: the token with the largest p, and of equals the first. For any drafts.
Accepted AcceptGreedy(std::span<const double> p, std::span<const int32_t> drafts);

// For any drafts, however they were found, as long as they do not depend on the decisions to come:
// retrieved ones, for example. The token is drawn from p, and is accepted if it is a draft. So it
// is the one that `chance` would have given without drafts.
Accepted AcceptTargetOnly(std::span<const double> p, std::span<const int32_t> drafts,
                          Chance& chance);

// Up to `count` different tokens, one after the other from q less those before (what Gumbel-top-k
// gives, too); fewer where q is positive for fewer.
std::vector<int32_t> DrawWithoutReplacement(std::span<const double> q, int count, Chance& chance);
// Recursive rejection sampling for these, in the order in which they were drawn (Jeon et al. 2024,
// "Recursive Speculative Decoding", arXiv:2402.14160; also in SpecInfer and Sequoia).
Accepted AcceptWithoutReplacement(std::span<const double> p, std::span<const double> q,
                                  std::span<const int32_t> drafts, Chance& chance);

// `count` tokens from q, each on its own: there may be equal ones.
std::vector<int32_t> DrawIndependent(std::span<const double> q, int count, Chance& chance);
// k-SEQ for these (Sun et al. 2023, "SpecTr", arXiv:2310.15141).
Accepted AcceptKSeq(std::span<const double> p, std::span<const double> q,
                    std::span<const int32_t> drafts, Chance& chance);
// k-SEQ's divisor for `count` drafts, in [1, count]: the least that keeps p, found by bisection.
double KSeqDivisor(std::span<const double> p, std::span<const double> q, int count);

// The count - 1 tokens with the largest q, of equals the first, and one drawn from the rest of q;
// fewer where q is positive for fewer.
std::vector<int32_t> DrawGreedyMultiDraft(std::span<const double> q, int count, Chance& chance);
// For these: accepts as often as any rule can (Hu et al. 2025, "Towards Optimal Multi-draft
// Speculative Decoding", arXiv:2502.18779).
Accepted AcceptGreedyMultiDraft(std::span<const double> p, std::span<const double> q,
                                std::span<const int32_t> drafts, Chance& chance);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_ACCEPTANCE_H_

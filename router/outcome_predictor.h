#ifndef OCTOGATE_ROUTER_OUTCOME_PREDICTOR_H_
#define OCTOGATE_ROUTER_OUTCOME_PREDICTOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "router/outcome_features.h"
#include "router/outcomes.h"
#include "router/softmax_regression.h"

namespace octogate::router {

struct OutcomeTraining {
  uint64_t seed = 1;
  int epochs = 5;
  // Step sizes of what all members share, and of what is each member's own.
  double shared_rate = 0.15;
  double own_rate = 0.1;
  size_t neighbours = 30;
  size_t folds = 4;
};

// Says how probable it is that a member of a choice answers a query right, by what members got
// right before. Three views of a query are asked: a logistic regression on its words, of which one
// part is shared by all members (how hard the query is) and one is each member's own; the queries
// nearest to it; and, where outcomes name domains, the domains it may be of. How far each view is
// followed, in what members share and in what tells them apart, is fitted on queries that the view
// had not seen (stacking: Wolpert 1992, Breiman 1996), from "not at all" upwards. So a view
// without signal counts next to nothing, and the answer then is the member's share of right
// answers, drawn towards that of all members where it has few.
//
// Immutable and thread-safe once trained; deterministic.
class OutcomePredictor {
 public:
  static constexpr size_t kMaxQueries = 100'000;
  static constexpr size_t kMaxMembers = 32;
  static constexpr size_t kMaxDomains = 64;

  // Time grows with the square of the number of queries. INVALID_ARGUMENT without any outcome,
  // RESOURCE_EXHAUSTED beyond the bounds above, DEADLINE_EXCEEDED.
  static absl::StatusOr<std::shared_ptr<const OutcomePredictor>> Train(
      const OutcomeSet& outcomes, absl::Time deadline, const OutcomeTraining& training = {});

  // Log-odds of a right answer by each member, in the order of OutcomeSet::members; NaN for a
  // member without outcomes.
  std::vector<double> Logits(std::string_view query) const;

  // The same for the queries that it was trained on, by what was learned without them: query q,
  // member m is element q * members() + m.
  const std::vector<float>& held_out_logits() const { return held_out_; }

  size_t members() const { return priors_.size(); }
  bool knows(size_t member) const { return counts_[member] > 0; }
  // Log-odds of a right answer to any query.
  double prior(size_t member) const { return priors_[member]; }
  // How far each view is followed: words, neighbours and domains, each in what members share and
  // in what is their own.
  const std::vector<double>& view_weights() const { return view_weights_; }

 private:
  class Views;
  class Trainer;
  struct Scratch;

  OutcomePredictor();
  OutcomePredictor(const OutcomePredictor&) = delete;

 public:
  ~OutcomePredictor();

 private:
  OutcomeFeatures features_;
  std::vector<double> priors_;
  std::vector<size_t> counts_;  // Outcomes of each member.
  std::vector<double> view_weights_;
  std::vector<float> held_out_;
  std::unique_ptr<const Views> views_;

  mutable absl::Mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> scratch_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_OUTCOME_PREDICTOR_H_

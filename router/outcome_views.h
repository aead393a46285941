// What a query's words, its neighbours and its domain say of members that might answer it right.
#ifndef OCTOGATE_ROUTER_OUTCOME_VIEWS_H_
#define OCTOGATE_ROUTER_OUTCOME_VIEWS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/softmax_regression.h"

namespace octogate::router {

// Outcomes of queries, as the views learn them.
struct OutcomeTable {
  SparseRows rows;  // A vector for each query, of OutcomeFeatures.
  size_t members = 0;
  std::vector<int8_t> right;  // Query q, member m at q * members + m; negative: not known.
  std::vector<int> domains;   // Of each query; negative: not known.
  size_t domain_count = 0;
  std::vector<double> priors;  // Log-odds of each member.
};

struct OutcomeViewSettings {
  uint64_t seed;
  int epochs;
  double shared_rate;
  double own_rate;
  size_t neighbours;
  size_t features;
  size_t words;  // Features below are words, by which neighbours are found.
};

// All views of the queries `selected`. Immutable once made: thread-safe.
class OutcomeViews {
 public:
  static constexpr size_t kViews = 3;

  // Memory of one call of Look, which may be used again.
  struct Scratch {
    std::vector<float> similarity;
    std::vector<uint32_t> near;
    std::vector<float> logits;
  };

  static absl::StatusOr<OutcomeViews> Learn(const OutcomeTable& table,
                                            const std::vector<uint32_t>& selected,
                                            const OutcomeViewSettings& settings,
                                            absl::Time deadline);

  // What each view adds to each member's prior log-odds for a query with that vector: view v,
  // member m at v * members + m. `views` has kViews * members values.
  void Look(std::span<const SparseRows::Entry> row, Scratch* scratch, std::span<float> views) const;

 private:
  absl::Status LearnWords(const OutcomeTable& table, const std::vector<uint32_t>& selected,
                          const OutcomeViewSettings& settings, absl::Time deadline);
  void LearnNeighbours(const OutcomeTable& table, const std::vector<uint32_t>& selected,
                       const OutcomeViewSettings& settings);
  absl::Status LearnDomains(const OutcomeTable& table, const std::vector<uint32_t>& selected,
                            const OutcomeViewSettings& settings, absl::Time deadline);

  void LookAtWords(std::span<const SparseRows::Entry> row, Scratch* scratch,
                   std::span<float> view) const;
  void LookAtNeighbours(std::span<const SparseRows::Entry> row, Scratch* scratch,
                        std::span<float> view) const;
  void LookAtDomains(std::span<const SparseRows::Entry> row, Scratch* scratch,
                     std::span<float> view) const;

  size_t members_ = 0;
  std::vector<double> priors_;

  size_t stride_ = 0;           // What is shared, then each member's own.
  std::vector<float> weights_;  // Of each feature a stride.

  struct Posting {
    uint32_t query;  // Among those selected.
    float value;
  };
  size_t words_ = 0;
  size_t neighbours_ = 0;
  std::vector<uint32_t> posting_begin_;  // Of each word's; one more than there are words.
  std::vector<Posting> postings_;
  std::vector<int8_t> right_;  // Of the queries selected.
  size_t queries_ = 0;

  LinearModel domains_;
  std::vector<float> domain_rates_;  // Domain d, member m.
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_OUTCOME_VIEWS_H_

#ifndef OCTOGATE_ROUTER_CASCADE_RULES_H_
#define OCTOGATE_ROUTER_CASCADE_RULES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/graph.pb.h"
#include "router/example_embeddings.h"
#include "router/routing_examples.h"

namespace octogate::router {

// A head of a cascade. `embeddings` are those of an encoder head's model, else null.
struct CascadeHead {
  const v1::Head* settings = nullptr;
  const ExampleEmbeddings* embeddings = nullptr;
};

// When each head decides: its `threshold`, the one that keeps its `risk` or, for its `coverage`,
// the probability from which a candidate is in its prediction set (decision_quality.h,
// prediction_set.h), on held-out examples that no head before it took. Each head is trained anew
// without them: a fifth of the examples or, of up to kFewHeldOut, all of them a fifth at a time.
// Examples of "none" are among them: taking one is a wrong decision, which counts as NoneImportance
// says (held_out.h), and their label is the candidate "none". Trains nothing where no head has
// `risk` or `coverage`.
//
// A causal head, which is not trained here, takes none of the held-out examples; INVALID_ARGUMENT
// where it has `risk` or `coverage`. Other errors as LexicalHead::Train.
absl::StatusOr<std::vector<double>> ChooseThresholds(const std::vector<CascadeHead>& heads,
                                                     const RoutingExamples& examples,
                                                     absl::Time deadline);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CASCADE_RULES_H_

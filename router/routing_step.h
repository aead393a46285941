#ifndef OCTOGATE_ROUTER_ROUTING_STEP_H_
#define OCTOGATE_ROUTER_ROUTING_STEP_H_

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "octogate/v1/graph.pb.h"
#include "router/causal_head.h"
#include "router/encoder_head.h"
#include "router/example_embeddings.h"
#include "router/lexical_head.h"
#include "router/router.h"

namespace octogate::router {

// One router node, ready to decide.
struct RouterRouting {
  struct Head {
    double threshold = 0;
    // Not 0: the head's prediction set decides, of all candidates from `threshold` on.
    double coverage = 0;
    // Exactly one.
    std::shared_ptr<const LexicalHead> lexical;
    std::shared_ptr<const EncoderHead> encoder;
    std::shared_ptr<const CausalHead> causal;
    // Of an encoder head: the vectors of the examples.
    std::shared_ptr<const ExampleEmbeddings> embeddings;

    // As decisions name it.
    const char* name() const {
      return lexical != nullptr ? "lexical" : encoder != nullptr ? "encoder" : "causal";
    }
  };

  const v1::Node* node = nullptr;
  std::vector<const v1::Node*> members;             // Scores of every head are in this order.
  absl::flat_hash_map<std::string, size_t> places;  // Of members, by their names.
  const v1::Node* fallback = nullptr;
  std::vector<Head> heads;
  // Writes arguments for those members with rewritten[i]; may be null.
  std::shared_ptr<const CausalHead> rewrite;
  std::vector<bool> rewritten;
};

// As RoutingSnapshot::Route. `routing` is part of `snapshot`, which is kept until `done` has
// returned.
void RunRoutingStep(std::shared_ptr<const RoutingSnapshot> snapshot, const RouterRouting& routing,
                    std::string query, RouteOptions options, RoutingSnapshot::Done done);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_ROUTING_STEP_H_

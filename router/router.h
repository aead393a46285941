#ifndef OCTOGATE_ROUTER_ROUTER_H_
#define OCTOGATE_ROUTER_ROUTER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/admin.pb.h"
#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/graph.pb.h"
#include "router/causal_model.h"
#include "router/embedding_model.h"
#include "router/lexical_row.h"

namespace octogate::router {

class CausalRows;
class EmbeddingClassifier;
class EncoderEnsemble;
class ExampleEmbeddings;
class LexicalHead;
struct LinearRow;
struct RouterRouting;

// Where a graph's heads find their models. A function may be empty where no head needs it.
struct ModelFinder {
  FindCausalModel causal;
  FindEmbeddingModel embedding;
};

struct RouteOptions {
  // Ask every head, even after one has decided; the decision stays that of the first.
  bool all_heads = false;
  // Members that must not be chosen now, e.g. because they are drained.
  std::vector<std::string> excluded;
  // The node that the session's last query went to, if there is one: the router's hysteresis
  // applies where it is a live member or the fallback. `stay`: it is not left at all.
  std::string session_node;
  bool stay = false;
  // Deadline, cancellation and tenant of encoder and causal heads. Once the deadline has passed no
  // further head is asked and the step fails with DEADLINE_EXCEEDED, as it does with CANCELLED.
  CallContext context;
};

// Whether nothing failed on the way to the decision, so that the same query would be decided the
// same again: no head, and no argument that was to be written.
bool IsRepeatable(const v1::Decision& decision);

// Texts that a router's heads learn at most, with those of the nodes below its sub-routers: a node
// counts for each member that leads to it, and as one text at least.
inline constexpr size_t kMaxRouterTexts = 200'000;
inline constexpr size_t kMaxRouterTextBytes = size_t{64} << 20;

// What one version of a graph needs to decide: its routers with trained heads. Immutable, so that
// any number of queries use it while the next version is built beside it.
class RoutingSnapshot : public std::enable_shared_from_this<RoutingSnapshot> {
 public:
  using Done = std::function<void(absl::StatusOr<v1::Decision>)>;

  // Trains the lexical and encoder heads and the rows of causal ones (deterministically: equal
  // graphs give equal decisions). Heads whose settings and examples, and vectors of examples whose
  // model, are those of `previous` are taken from there, so that what a node learns trains nothing
  // again but the row of its token (Node.learned_examples). `graph` is valid and has its defaults.
  // INVALID_ARGUMENT where a router has more texts to learn than kMaxRouterTexts or
  // kMaxRouterTextBytes; nothing is copied before that is known.
  // FAILED_PRECONDITION names every token that the vocabulary of a causal head's model lacks; other
  // errors of `find` and of models are passed on with the router's name. Blocks until `deadline` at
  // most.
  static absl::StatusOr<std::shared_ptr<const RoutingSnapshot>> Build(
      v1::Graph graph, int64_t version, const ModelFinder& find, absl::Time deadline,
      const RoutingSnapshot* previous = nullptr);

  ~RoutingSnapshot();

  // One routing step of the router node `router`: asks its heads in order until one is sure
  // enough, else takes the fallback, and calls `done` once: before it returns if no encoder
  // or causal head was needed, else on a thread of the model. A head that fails is noted in its
  // HeadScore and the cascade goes on. NOT_FOUND if there is no such router, UNAVAILABLE if every
  // member and the fallback are excluded.
  void Route(std::string_view router, std::string_view query, RouteOptions options,
             Done done) const;

  // The same step with all heads asked, and what spoke for each head's best token: `limit` features
  // and examples each. `context` as in RouteOptions. Blocks; not for every query.
  absl::StatusOr<v1::ExplainedDecision> Explain(std::string_view router, std::string_view query,
                                                int limit, const CallContext& context) const;

  const v1::Graph& graph() const { return graph_; }
  int64_t version() const { return version_; }

  // The node of that name, or null.
  const v1::Node* FindNode(std::string_view name) const;

 private:
  friend class RoutingBuilder;

  template <typename Head>
  using ByName = absl::flat_hash_map<std::string, std::shared_ptr<const Head>>;
  struct Trained {
    // By what they were trained from.
    ByName<LexicalHead> lexical;
    ByName<EmbeddingClassifier> classifiers;
    ByName<CausalRows> causal;
    // By that and what had been learned before.
    absl::flat_hash_map<std::string, LexicalRow> lexical_rows;
    ByName<LinearRow> encoder_rows;
    ByName<LinearRow> causal_rows;
    ByName<EncoderEnsemble> ensembles;
    // By names of heads and their settings.
    ByName<std::vector<double>> thresholds;
    // By the model's fingerprint, those of each head that uses it.
    absl::flat_hash_map<std::string, std::vector<std::shared_ptr<const ExampleEmbeddings>>>
        embeddings;
  };

  RoutingSnapshot(v1::Graph graph, int64_t version);

  const v1::Graph graph_;
  const int64_t version_;
  absl::flat_hash_map<std::string, const v1::Node*> nodes_;
  absl::flat_hash_map<std::string, std::shared_ptr<const RouterRouting>> routers_;
  // For the next version to take over.
  Trained trained_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_ROUTER_H_

// What the answers of a node's model are limited to.
#ifndef OCTOGATE_GATEWAY_NODE_GRAMMAR_H_
#define OCTOGATE_GATEWAY_NODE_GRAMMAR_H_

#include <cstddef>
#include <vector>

#include "absl/status/status.h"
#include "gateway/catalog/link_messages.h"
#include "gateway/graph_state.h"
#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/graph.pb.h"
#include "octogate/v1/worker.pb.h"
#include "router/graph_manifest.h"

namespace octogate::gateway {

// The grammar of a model node's answers, for its worker: the client's, else the node's; none: not
// set. SQL may name what `links`, those of the query, allow, or all of the catalog that the tenant
// may see. FAILED_PRECONDITION where the query has not passed the retriever; RESOURCE_EXHAUSTED for
// a catalog of more than kMaxGrammarColumns columns, PERMISSION_DENIED as of a link.
absl::Status SetGrammar(const NodeRuntime& node, const v1::GenerateRequest& request,
                        const LinkedNames& links, v1::WorkerGenerateRequest* worker_request);
inline constexpr size_t kMaxGrammarColumns = 20'000;

// A GraphCheck: the grammars of model nodes are well-formed and match some text.
std::vector<router::GraphProblem> CheckGrammars(const v1::Graph& graph);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_NODE_GRAMMAR_H_

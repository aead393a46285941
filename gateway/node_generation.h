// What a node that generates is given, and who generates for it.
#ifndef OCTOGATE_GATEWAY_NODE_GENERATION_H_
#define OCTOGATE_GATEWAY_NODE_GENERATION_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/catalog/link_messages.h"
#include "gateway/graph_state.h"
#include "gateway/model_client.h"
#include "gateway/replica_set.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::gateway {

// The request to a worker for a model or replay node that is given `input`: the node's system
// message, the conversation before the query, and the input as the user's last message. Limits and
// sampling are the lower or later ones of the node and of the client's request; the grammar, and
// errors, are as SetGrammar (node_grammar.h) says. `links` are those of the query so far.
absl::StatusOr<std::shared_ptr<v1::WorkerGenerateRequest>> WorkerRequest(
    const NodeRuntime& node, const v1::GenerateRequest& request, const std::string& input,
    const LinkedNames& links);

// As ReplicaSet::Generate, by the node's replicas or its recording. `node` is a model or replay
// node; what the call needs of it is kept by the call.
std::shared_ptr<ModelCall> StartGeneration(const NodeRuntime& node,
                                           std::shared_ptr<const v1::WorkerGenerateRequest> request,
                                           absl::Time deadline,
                                           ReplicaSet::AttemptCallback on_attempt,
                                           ModelClient::MessageCallback on_message,
                                           ModelClient::DoneCallback on_done);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_NODE_GENERATION_H_

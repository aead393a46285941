#include "gateway/node_status.h"

#include <algorithm>
#include <string>
#include <utility>

namespace octogate::gateway {
namespace {

bool Uses(const v1::Node& node, const std::string& model) {
  const auto& router = node.router();
  return node.model().model() == model || router.rewrite().causal().model() == model ||
         std::any_of(router.heads().begin(), router.heads().end(),
                     [&](const v1::Head& head) { return head.causal().model() == model; });
}

}  // namespace

v1::ModelStatus StatusOf(const v1::Model& model, const GraphState& state) {
  v1::ModelStatus status;
  *status.mutable_model() = model;
  for (v1::ReplicaStatus& replica : state.models.at(model.name())->Status()) {
    *status.add_replicas() = std::move(replica);
  }
  for (const v1::Node& node : state.graph().spec().nodes()) {
    if (Uses(node, model.name())) status.add_nodes(node.name());
  }
  return status;
}

v1::NodeStatus StatusOf(const NodeRuntime& node, bool drained) {
  v1::NodeStatus status;
  *status.mutable_node() = *node.node;
  status.set_state(v1::NODE_STATE_READY);
  if (node.replicas != nullptr) {
    for (v1::ReplicaStatus& replica : node.replicas->Status()) {
      *status.add_replicas() = std::move(replica);
    }
    if (node.replicas->ready() == 0) {
      const bool failed = node.replicas->has_failed() || node.replicas->Info().has_value();
      status.set_state(failed ? v1::NODE_STATE_UNAVAILABLE : v1::NODE_STATE_LOADING);
      status.set_reason(failed ? "no replica can take a query: " + node.replicas->LastError()
                               : "no replica has answered yet");
    }
  }
  if (drained) {
    status.set_state(v1::NODE_STATE_DRAINING);
    status.set_reason("drained by an operator");
  }
  status.set_queries(node.counters->queries.load(std::memory_order_relaxed));
  status.set_errors(node.counters->errors.load(std::memory_order_relaxed));
  status.set_in_flight(node.counters->in_flight.load(std::memory_order_relaxed));
  return status;
}

}  // namespace octogate::gateway

// What Admin says about nodes and models.
#ifndef OCTOGATE_GATEWAY_NODE_STATUS_H_
#define OCTOGATE_GATEWAY_NODE_STATUS_H_

#include "gateway/graph_state.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

v1::NodeStatus StatusOf(const NodeRuntime& node, bool drained);

// Of a model of the state's graph.
v1::ModelStatus StatusOf(const v1::Model& model, const GraphState& state);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_NODE_STATUS_H_

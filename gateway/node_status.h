// What Admin.ListNodes says about a node.
#ifndef OCTOGATE_GATEWAY_NODE_STATUS_H_
#define OCTOGATE_GATEWAY_NODE_STATUS_H_

#include "gateway/graph_state.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

v1::NodeStatus StatusOf(const NodeRuntime& node, bool drained);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_NODE_STATUS_H_

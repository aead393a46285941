// Problems of choice nodes and of what they need of their members.
#ifndef OCTOGATE_ROUTER_CHOICE_VALIDATION_H_
#define OCTOGATE_ROUTER_CHOICE_VALIDATION_H_

#include <vector>

#include "octogate/v1/graph.pb.h"
#include "router/graph_validation.h"

namespace octogate::router {

// Members that are not there, come twice or are of another kind; policies without their number, or
// with that of another; members without the price, speed or quality that is needed; domains that
// come twice or that nobody has; tenants whose limits come twice. The graph's references may be
// wrong.
std::vector<GraphProblem> CheckChoices(const v1::Graph& graph);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CHOICE_VALIDATION_H_

// Routing by what is known of equal queries: a decision that the graph's cache keeps, one that the
// router is asked for now, or one that another gateway has shared, in this order. The router
// decides where there is none of them, and what it decides is kept and shared.
#ifndef OCTOGATE_GATEWAY_CACHE_ROUTING_CACHE_H_
#define OCTOGATE_GATEWAY_CACHE_ROUTING_CACHE_H_

#include <memory>
#include <string>

#include "gateway/graph_state.h"
#include "gateway/metrics.h"
#include "router/router.h"

namespace octogate::gateway {

// Whether it makes a difference to the router where the session is.
bool ReadsSession(const v1::Node& router, const router::RouteOptions& options);

// The key of what RouteCached would look for; empty where the graph keeps no decisions.
std::string DecisionKey(const GraphState& graph, const std::string& router,
                        const std::string& query, const router::RouteOptions& options);

// As RoutingSnapshot::Route on the graph's routing, but a decision that is kept is given at once,
// one that is made is kept, and of equal queries at the same time one asks the other gateways,
// where the graph shares decisions, and then the router. With `bypass` or `all_heads` none of this.
// `metrics` may be null.
void RouteCached(const std::shared_ptr<const GraphState>& graph, const std::string& router,
                 const std::string& query, router::RouteOptions options, bool bypass,
                 Metrics* metrics, router::RoutingSnapshot::Done done);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_ROUTING_CACHE_H_

// What one query may still spend on calls of models.
#ifndef OCTOGATE_GATEWAY_QUERY_BUDGET_H_
#define OCTOGATE_GATEWAY_QUERY_BUDGET_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

// The tenant's own limits, or null.
const v1::TenantLimits* FindTenant(const v1::GraphLimits& limits, const std::string& tenant);

// Not thread-safe.
class QueryBudget {
 public:
  // The lowest ones of the graph's limits, those of the request's tenant, and the request's.
  // `graph` outlives the budget.
  QueryBudget(const v1::Graph* graph, const v1::GenerateRequest& request);

  // Why a node must not be entered with an input of that size, e.g. "it needs up to 3 calls, and 1
  // of 2 is left (maxCalls)"; empty if it may be. Counted at the worst: see GraphLimits. A choice
  // may be entered if one of its members may.
  std::string WhyNot(const v1::Node& node, size_t input_bytes) const;

  void Spend(int calls, double cost);

  // Of the messages before the query, with what chat templates put around them.
  int64_t conversation_bytes() const { return conversation_bytes_; }
  int calls() const { return calls_; }
  double cost() const { return cost_; }
  // Whether costs are bounded, and inputs therefore have to be known.
  bool bounds_cost() const { return max_cost_ < std::numeric_limits<double>::infinity(); }

 private:
  const v1::Graph* const graph_;
  int max_calls_ = std::numeric_limits<int>::max();
  double max_cost_ = std::numeric_limits<double>::infinity();
  int64_t conversation_bytes_ = 0;  // without the query
  int calls_ = 0;
  double cost_ = 0;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_QUERY_BUDGET_H_

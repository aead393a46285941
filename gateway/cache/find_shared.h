// What gateways share, for callers that wait for it.
#ifndef OCTOGATE_GATEWAY_CACHE_FIND_SHARED_H_
#define OCTOGATE_GATEWAY_CACHE_FIND_SHARED_H_

#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/steady_event.h"
#include "gateway/graph_state.h"

namespace octogate::gateway {

// What the graph's `shared`, its SharedAnswers or SharedDecisions, finds for a query: nothing where
// that has not come by `deadline`, until which this blocks at most.
template <typename Shared, typename Query>
typename Shared::Found FindShared(std::shared_ptr<const GraphState> graph, Shared& shared,
                                  const Query& query, absl::Time deadline) {
  // Outlives this call where the store is late, as the graph does.
  struct Waited {
    SteadyNotification came;
    typename Shared::Found found;
  };
  const auto waited = std::make_shared<Waited>();
  shared.Get(query, [graph = std::move(graph), waited](typename Shared::Found found) {
    waited->found = std::move(found);
    waited->came.Notify();
  });
  if (!waited->came.WaitUntil(ToSteady(deadline))) return {};
  return std::move(waited->found);
}

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_FIND_SHARED_H_

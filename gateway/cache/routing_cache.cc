#include "gateway/cache/routing_cache.h"

#include <optional>
#include <utility>

namespace octogate::gateway {

bool ReadsSession(const v1::Node& router, const router::RouteOptions& options) {
  return options.stay || router.router().hysteresis() > 0;
}

std::string DecisionKey(const GraphState& graph, const std::string& router,
                        const std::string& query, const router::RouteOptions& options) {
  if (graph.caches == nullptr || !graph.caches->decisions.enabled()) return "";
  const v1::Node* const node = graph.routing->FindNode(router);
  const bool reads_session = node != nullptr && ReadsSession(*node, options);
  return DecisionCache::KeyOf(options.context.tenant, router, query, options, reads_session);
}

void RouteCached(const std::shared_ptr<const GraphState>& graph, const std::string& router,
                 const std::string& query, router::RouteOptions options, bool bypass,
                 Metrics* metrics, router::RoutingSnapshot::Done done) {
  std::string key;
  if (!bypass && !options.all_heads) key = DecisionKey(*graph, router, query, options);
  if (key.empty()) {
    graph->routing->Route(router, query, std::move(options), std::move(done));
    return;
  }
  const uint64_t epoch = graph->caches->decisions.epoch();
  std::optional<v1::Decision> kept = graph->caches->decisions.Find(key);
  if (metrics != nullptr) metrics->OnCacheLookup(Metrics::Cache::kDecisions, kept.has_value());
  if (kept.has_value()) {
    done(*std::move(kept));
    return;
  }
  std::string tenant = options.context.tenant;
  graph->routing->Route(router, query, std::move(options),
                        [graph, epoch, tenant = std::move(tenant), key = std::move(key),
                         done = std::move(done)](absl::StatusOr<v1::Decision> decision) mutable {
                          if (decision.ok()) {
                            graph->caches->decisions.Put(tenant, std::move(key), *decision, epoch);
                          }
                          done(std::move(decision));
                        });
}

}  // namespace octogate::gateway

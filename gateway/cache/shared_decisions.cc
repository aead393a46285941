#include "gateway/cache/shared_decisions.h"

#include <algorithm>
#include <utility>

#include "gateway/cache/decision_cache.h"
#include "router/node_bounds.h"
#include "router/router.h"

namespace octogate::gateway {

SharedDecisions::SharedDecisions(SharedValues* values, const v1::Graph* graph, int64_t version,
                                 std::string_view manifest)
    : values_("decisions", kMaxBytes, values, version, manifest),
      graph_(*graph),
      version_(version) {}

void SharedDecisions::Get(const Query& query, std::function<void(Found found)> done) {
  values_.Get<v1::Decision>(
      query.tenant, query.key,
      [this, router = query.router](std::string_view content) { return Parse(router, content); },
      std::move(done));
}

absl::StatusOr<v1::Decision> SharedDecisions::Parse(const std::string& router,
                                                    std::string_view content) const {
  v1::Decision decision;
  if (!decision.ParseFromArray(content.data(), static_cast<int>(content.size())) ||
      !IsSound(router, decision)) {
    return absl::DataLossError("it is no decision of this router");
  }
  decision.DiscardUnknownFields();
  return DecisionCache::AsKept(std::move(decision));
}

bool SharedDecisions::IsSound(const std::string& router, const v1::Decision& decision) const {
  const v1::Node* const node = router::FindNode(graph_, router);
  if (node == nullptr || !node->has_router()) return false;
  const v1::RouterNode& choices = node->router();
  const auto is_choice = [&](const std::string& name) {
    return name == choices.fallback() ||
           std::find(choices.members().begin(), choices.members().end(), name) !=
               choices.members().end();
  };
  return decision.router() == router && decision.graph_version() == version_ &&
         is_choice(decision.node()) && router::IsRepeatable(decision);
}

void SharedDecisions::Put(const Query& query, const std::string& marks,
                          const v1::Decision& decision) {
  if (!IsSound(query.router, decision)) return;
  values_.Put(query.key, marks, decision.SerializeAsString(), kKeptFor);
}

}  // namespace octogate::gateway

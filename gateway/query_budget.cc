#include "gateway/query_budget.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gateway/catalog/table_choice.h"
#include "router/node_bounds.h"

namespace octogate::gateway {
namespace {

// What chat templates put around a message.
constexpr int64_t kTemplateTokens = 16;

}  // namespace

const v1::TenantLimits* FindTenant(const v1::GraphLimits& limits, const std::string& tenant) {
  const auto found =
      std::find_if(limits.tenants().begin(), limits.tenants().end(),
                   [&](const v1::TenantLimits& entry) { return entry.tenant() == tenant; });
  return found == limits.tenants().end() ? nullptr : &*found;
}

QueryBudget::QueryBudget(const v1::Graph* graph, const v1::GenerateRequest& request)
    : graph_(graph) {
  const v1::GraphLimits& limits = graph->spec().limits();
  if (limits.max_calls() > 0) max_calls_ = limits.max_calls();
  if (request.max_calls() > 0) max_calls_ = std::min(max_calls_, request.max_calls());
  if (limits.has_max_cost()) max_cost_ = limits.max_cost();
  if (const v1::TenantLimits* const tenant = FindTenant(limits, request.tenant())) {
    if (tenant->max_calls() > 0) max_calls_ = std::min(max_calls_, tenant->max_calls());
    if (tenant->has_max_cost()) max_cost_ = std::min(max_cost_, tenant->max_cost());
  }
  if (request.has_max_cost()) max_cost_ = std::min(max_cost_, request.max_cost());
  for (int i = 0; i + 1 < request.messages_size(); ++i) {
    conversation_bytes_ +=
        static_cast<int64_t>(request.messages(i).content().size()) + kTemplateTokens;
  }
}

std::string QueryBudget::WhyNot(const v1::Node& node, size_t input_bytes) const {
  if (node.has_choice()) {
    std::string first;
    for (const std::string& name : node.choice().members()) {
      const v1::Node* const member = router::FindNode(*graph_, name);
      std::string why = member == nullptr ? "" : WhyNot(*member, input_bytes);
      if (why.empty()) return "";
      if (first.empty()) first = std::move(why);
    }
    return first;
  }
  const int calls = router::MostCalls(*graph_, node);
  if (calls == 0) return "";
  if (calls > max_calls_ - calls_) {
    return absl::StrCat("it needs up to ", calls, calls == 1 ? " call, and " : " calls, and ",
                        max_calls_ - calls_, " of ", max_calls_, " are left (maxCalls)");
  }
  if (!bounds_cost()) return "";
  int64_t tokens = conversation_bytes_ + static_cast<int64_t>(input_bytes) +
                   static_cast<int64_t>(node.model().system().size()) + 2 * kTemplateTokens;
  if (node.has_retriever()) {
    const v1::Node* const asked = router::FindNode(*graph_, node.retriever().table_node());
    tokens += kMaxTablePromptBytes;
    if (asked != nullptr) tokens += static_cast<int64_t>(asked->model().system().size());
  }
  const double cost = router::MostCost(*graph_, node, tokens);
  if (cost <= max_cost_ - cost_) return "";
  return absl::StrFormat("it may cost %.6g, and %.6g of %.6g is left (maxCost)", cost,
                         std::max(0.0, max_cost_ - cost_), max_cost_);
}

void QueryBudget::Spend(int calls, double cost) {
  calls_ += calls;
  cost_ += cost;
}

}  // namespace octogate::gateway

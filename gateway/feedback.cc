#include "gateway/feedback.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/tenant.h"
#include "gateway/token_learning.h"

namespace octogate::gateway {
namespace {

constexpr int kDefaultListed = 50;

}  // namespace

absl::StatusOr<v1::FeedbackResponse> TakeFeedback(const v1::FeedbackRequest& request,
                                                  absl::Time deadline, const TraceStore& traces,
                                                  const GraphManager& graphs,
                                                  FeedbackStore* store) {
  const auto trace = traces.Get(request.trace_id(), deadline);
  // Whether another tenant has a trace of that id is nobody's business.
  if (!trace.ok() || (*trace)->tenant() != TenantOf(request) ||
      (*trace)->trace_id() != request.trace_id()) {
    return absl::NotFoundError(absl::StrCat("there is no trace ", Quoted(request.trace_id()),
                                            " of this tenant (any more)"));
  }
  if (!request.better_node().empty()) {
    const std::shared_ptr<const GraphState> graph = graphs.state();
    if (graph == nullptr || graph->FindNode(request.better_node()) == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("better_node: the graph has no node ", Quoted(request.better_node())));
    }
  }
  v1::FeedbackEntry entry;
  entry.set_trace_id(request.trace_id());
  entry.set_tenant((*trace)->tenant());
  entry.set_verdict(request.verdict());
  entry.set_better_node(request.better_node());
  entry.set_query((*trace)->query());
  entry.set_graph_version((*trace)->graph_version());
  for (const v1::TraceEvent& event : (*trace)->events()) {
    // Choices decide, too; they have members.
    if (event.event().has_decision() && event.event().decision().members().empty()) {
      entry.set_node(event.event().decision().node());
    }
  }
  OCTOGATE_RETURN_IF_ERROR(store->Add(std::move(entry), deadline));
  return v1::FeedbackResponse();
}

absl::StatusOr<v1::ListFeedbackResponse> ListFeedback(const v1::ListFeedbackRequest& request,
                                                      absl::Time deadline, FeedbackStore* store) {
  OCTOGATE_ASSIGN_OR_RETURN(std::vector<v1::FeedbackEntry> entries,
                            store->List(request.tenant(), deadline));
  const int limit = request.limit() == 0 ? kDefaultListed : request.limit();
  v1::ListFeedbackResponse response;
  response.set_total(static_cast<int>(entries.size()));
  for (v1::FeedbackEntry& entry : entries) {
    if (response.entries_size() == limit) break;
    *response.add_entries() = std::move(entry);
  }
  return response;
}

absl::StatusOr<v1::PromoteFeedbackResponse> PromoteFeedback(
    const v1::PromoteFeedbackRequest& request, absl::Time deadline, FeedbackStore* store,
    GraphManager* graphs) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<v1::FeedbackEntry> entries,
                            store->List(request.tenant(), deadline));
  // Oldest first, so that the graph does not depend on what is given later.
  std::map<std::string, std::vector<std::string>> lessons;
  std::vector<const v1::FeedbackEntry*> used;
  const auto& wanted = request.trace_ids();
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    if (entry->better_node().empty() || entry->query().empty()) continue;
    if (!request.node().empty() && entry->better_node() != request.node()) continue;
    if (!wanted.empty() &&
        std::find(wanted.begin(), wanted.end(), entry->trace_id()) == wanted.end()) {
      continue;
    }
    lessons[entry->better_node()].push_back(entry->query());
    used.push_back(&*entry);
  }
  v1::PromoteFeedbackResponse response;
  std::vector<std::string> left_out;
  const auto learn = [&](v1::Graph* graph) -> absl::Status {
    for (const auto& [node, queries] : lessons) {
      const absl::StatusOr<int> learned = AddLearnedExamples(node, queries, graph);
      if (!learned.ok()) {
        left_out.push_back(node);
        response.add_warnings(std::string(learned.status().message()));
        continue;
      }
      response.set_learned(response.learned() + *learned);
    }
    return absl::OkStatus();
  };
  OCTOGATE_ASSIGN_OR_RETURN(v1::ApplyGraphResponse applied,
                            graphs->Edit(learn, "feedback promote", request.dry_run(),
                                         request.expected_version(), deadline));
  response.set_version(applied.version());
  response.mutable_changes()->Swap(applied.mutable_changes());
  for (std::string& warning : *applied.mutable_warnings()) {
    response.add_warnings(std::move(warning));
  }
  for (const v1::FeedbackEntry* entry : used) {
    if (std::find(left_out.begin(), left_out.end(), entry->better_node()) != left_out.end()) {
      continue;
    }
    response.set_promoted(response.promoted() + 1);
    if (request.dry_run()) continue;
    // What stays by mistake teaches nothing twice: the node knows the query.
    if (const absl::Status status = store->Delete(*entry, deadline); !status.ok()) {
      response.add_warnings(absl::StrCat("feedback on ", entry->trace_id(),
                                         " was used but not removed: ", status.ToString()));
      break;
    }
  }
  return response;
}

}  // namespace octogate::gateway

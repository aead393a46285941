#include "gateway/decision_explanation.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "gateway/decision_course.h"
#include "gateway/tenant.h"

namespace octogate::gateway {
namespace {

constexpr int kDefaultLimit = 8;

}  // namespace

absl::StatusOr<v1::ExplainDecisionResponse> ExplainDecision(
    const v1::ExplainDecisionRequest& request, absl::Time deadline,
    std::shared_ptr<Cancellation> cancellation, const TraceStore& traces, GraphManager* graphs) {
  const std::shared_ptr<const GraphState> applied = graphs->state();
  if (applied == nullptr) {
    return absl::FailedPreconditionError(
        "no graph has been applied yet; apply one with octoctl apply -f");
  }
  RecordedCourse recorded;
  std::shared_ptr<const v1::Trace> trace;
  std::string tenant = TenantOf(request);
  int64_t version = request.graph_version();
  if (!request.trace_id().empty()) {
    OCTOGATE_ASSIGN_OR_RETURN(trace, traces.Get(request.trace_id(), deadline));
    recorded = CourseOf(*trace);
    if (recorded.decisions.empty()) {
      return absl::FailedPreconditionError(
          absl::StrCat("trace \"", trace->trace_id(), "\" has no decision to explain: the query ",
                       "entered \"", recorded.entry, "\", and no router decided"));
    }
    tenant = trace->tenant();
    if (version == 0) version = trace->graph_version();
  }

  v1::ExplainDecisionResponse response;
  std::shared_ptr<const router::RoutingSnapshot> snapshot = applied->routing;
  if (version != 0) {
    std::vector<std::string> warnings;
    auto prepared = graphs->PrepareRouting(version, "", "", deadline, &warnings);
    if (prepared.ok()) {
      snapshot = *std::move(prepared);
    } else if (request.graph_version() == 0 && absl::IsNotFound(prepared.status())) {
      response.add_warnings(absl::StrCat(
          "version ", version, ", by which the trace was decided, is ",
          "gone; this is what version ", applied->version(), " says, which is applied"));
    } else {
      return prepared.status();
    }
    for (std::string& warning : warnings) response.add_warnings(std::move(warning));
  }
  std::string entry = trace == nullptr ? request.router() : recorded.entry;
  if (entry.empty()) entry = snapshot->graph().spec().entry();
  const v1::Node* const node = snapshot->FindNode(entry);
  if (node == nullptr || !node->has_router()) {
    return absl::NotFoundError(absl::StrCat("version ", snapshot->version(), " has no router \"",
                                            entry, "\"; octoctl get nodes lists what there is"));
  }
  const router::CallContext context = {
      .deadline = deadline, .cancellation = std::move(cancellation), .tenant = std::move(tenant)};
  const int limit = request.limit() == 0 ? kDefaultLimit : request.limit();
  OCTOGATE_ASSIGN_OR_RETURN(
      std::vector<v1::ExplainedDecision> explained,
      ExplainCourse(*snapshot, entry, trace == nullptr ? request.query() : recorded.query, limit,
                    context));
  response.set_graph_version(snapshot->version());
  for (size_t i = 0; i < explained.size(); ++i) {
    // Up to where the course is another one.
    if (i < recorded.decisions.size() &&
        recorded.decisions[i]->router() == explained[i].decision().router()) {
      explained[i].set_recorded_node(recorded.decisions[i]->node());
    }
    *response.add_decisions() = std::move(explained[i]);
  }
  return response;
}

}  // namespace octogate::gateway

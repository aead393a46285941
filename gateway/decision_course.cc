#include "gateway/decision_course.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// Calls `decide` with each router that the query passes, from `entry` on, and what it is given.
// `decide` returns the decision. Returns the node that would run.
template <typename DecideStep>
absl::StatusOr<std::string> Walk(const router::RoutingSnapshot& snapshot, const std::string& entry,
                                 const std::string& query, DecideStep decide) {
  std::string name = entry;
  std::string argument = query;
  for (int routers = 0; routers < kMaxRouters; ++routers) {
    const v1::Node* const node = snapshot.FindNode(name);
    if (node == nullptr) {
      return absl::NotFoundError(absl::StrCat("the graph has no node ", Quoted(name)));
    }
    if (!node->has_router()) break;
    OCTOGATE_ASSIGN_OR_RETURN(const v1::Decision decision, decide(name, argument));
    name = decision.node();
    argument = decision.argument();
  }
  return name;
}

}  // namespace

absl::StatusOr<DecisionCourse> Decide(const router::RoutingSnapshot& snapshot,
                                      const std::string& entry, const std::string& query,
                                      const router::CallContext& context) {
  DecisionCourse course;
  const auto decide = [&](const std::string& router,
                          const std::string& argument) -> absl::StatusOr<v1::Decision> {
    absl::Notification decided;
    absl::StatusOr<v1::Decision> decision = absl::UnknownError("no decision");
    router::RouteOptions options;
    options.context = context;
    snapshot.Route(router, argument, std::move(options), [&](absl::StatusOr<v1::Decision> result) {
      decision = std::move(result);
      decided.Notify();
    });
    decided.WaitForNotification();
    if (decision.ok()) course.decisions.push_back(*decision);
    return decision;
  };
  OCTOGATE_ASSIGN_OR_RETURN(course.node, Walk(snapshot, entry, query, decide));
  return course;
}

absl::StatusOr<std::vector<v1::ExplainedDecision>> ExplainCourse(
    const router::RoutingSnapshot& snapshot, const std::string& entry, const std::string& query,
    int limit, const router::CallContext& context) {
  std::vector<v1::ExplainedDecision> explained;
  const auto decide = [&](const std::string& router,
                          const std::string& argument) -> absl::StatusOr<v1::Decision> {
    OCTOGATE_ASSIGN_OR_RETURN(v1::ExplainedDecision step,
                              snapshot.Explain(router, argument, limit, context));
    explained.push_back(std::move(step));
    return explained.back().decision();
  };
  OCTOGATE_RETURN_IF_ERROR(Walk(snapshot, entry, query, decide).status());
  return explained;
}

RecordedCourse CourseOf(const v1::Trace& trace) {
  RecordedCourse course;
  bool entered = false;
  for (const v1::TraceEvent& event : trace.events()) {
    if (event.event().has_node_entered() && !entered) {
      entered = true;
      course.entry = event.event().node_entered().node();
      course.query = event.event().node_entered().input();
    }
    if (!event.event().has_decision()) continue;
    const v1::Decision& decision = event.event().decision();
    if (!decision.members().empty()) break;  // Of a choice, at which courses of routers end.
    const std::string& expected =
        course.decisions.empty() ? course.entry : course.decisions.back()->node();
    if (decision.router() != expected) break;
    course.decisions.push_back(&decision);
  }
  // Of a longer query the trace itself keeps the beginning alone. A tool's result was routed by the
  // user's query.
  if (!absl::StartsWith(course.query, trace.query())) {
    course.query = trace.query();
  }
  return course;
}

}  // namespace octogate::gateway

// The decisions of one query from a router to the node that would run, all at once. Nodes do not
// run, and whether they are drained makes no difference.
#ifndef OCTOGATE_GATEWAY_DECISION_COURSE_H_
#define OCTOGATE_GATEWAY_DECISION_COURSE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "octogate/v1/admin.pb.h"
#include "octogate/v1/gateway.pb.h"
#include "router/router.h"

namespace octogate::gateway {

// Routers inside routers that one query passes at most; a graph has no cycles of routers.
inline constexpr int kMaxRouters = 64;

struct DecisionCourse {
  // One per router passed, outermost first.
  std::vector<v1::Decision> decisions;
  // The node that would run.
  std::string node;
};

// NOT_FOUND if there is no node `entry`; else errors of RoutingSnapshot::Route. Blocks.
absl::StatusOr<DecisionCourse> Decide(const router::RoutingSnapshot& snapshot,
                                      const std::string& entry, const std::string& query,
                                      const router::CallContext& context);

// The same decisions with their reasons; RoutingSnapshot::Explain. Blocks.
absl::StatusOr<std::vector<v1::ExplainedDecision>> ExplainCourse(
    const router::RoutingSnapshot& snapshot, const std::string& entry, const std::string& query,
    int limit, const router::CallContext& context);

// What a trace says of its first decisions: those of the router that it entered and of the routers
// inside of it that were handed the query.
struct RecordedCourse {
  std::string entry;  // the router
  std::string query;  // as it came to the router; cut where the trace was too long
  std::vector<const v1::Decision*> decisions;  // of the trace; empty if no router decided first
};
RecordedCourse CourseOf(const v1::Trace& trace);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_DECISION_COURSE_H_

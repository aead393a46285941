#ifndef OCTOGATE_ROUTER_PLAN_H_
#define OCTOGATE_ROUTER_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "octogate/v1/graph.pb.h"

// The course of one query through a graph, as a state machine without I/O: the caller runs the
// nodes and tells how they ended; the plan says what comes next.

namespace octogate::router {

// Whether the node hands the query over to one of its members, whose edges and then its own apply:
// a router does, and a choice of one call.
bool HandsOver(const v1::Node& node);

// How a node ended.
struct NodeOutcome {
  absl::Status status;  // Not OK: the node failed.
  // Of its output, in [0, 1], by each v1::ConfidenceMeasure; they count only where it succeeded.
  double confidence = 1.0;  // The mean.
  double minimum = 1.0;
  double entropy = 1.0;
  double expected_accuracy = 1.0;
  int64_t tokens = 0;  // That these are taken from; 0: something else says them.
};

// The number that `measure` chooses.
double ConfidenceOf(const NodeOutcome& outcome, v1::ConfidenceMeasure measure);

// Why the edge's condition holds, with its values: "confidence 0.42 < 0.50 (minimum of 12 tokens)".
std::string DescribeCondition(const v1::Edge& edge, const NodeOutcome& outcome);

// Whether an edge whose condition holds may be taken.
using EdgeFilter = std::function<bool(const v1::Edge&)>;

// One node that a query enters.
struct PlanStep {
  const v1::Node* node = nullptr;
  // The edge that led here; null for the first node and for the member a router chose.
  const v1::Edge* edge = nullptr;
  int number = 0;  // From 1.
};

class Plan {
 public:
  // `graph` is valid, has its defaults, and outlives the plan.
  explicit Plan(const v1::Graph* graph);

  // The first step: the node `entry`, or the graph's entry if it is empty. NOT_FOUND for an
  // unknown one.
  absl::StatusOr<PlanStep> Start(std::string_view entry = {});

  // The next step after the router or choice of the present step chose `member`. NOT_FOUND for an
  // unknown node, INVALID_ARGUMENT if the present node hands over to nobody.
  absl::StatusOr<PlanStep> HandOver(std::string_view member);

  // The next step after the present node has ended; a step without node: the query has ended, with
  // this node's outcome. The first edge of the manifest that leaves the node, whose condition
  // holds, and that may still be taken is taken; if there is none, the edges of the router that
  // handed over to the node apply to the same outcome, then those of the router around it. Edges
  // that `may_take` (may be null) refuses are passed over; it is asked about edges that would be
  // taken, in their order.
  //
  // Start, HandOver and Next return RESOURCE_EXHAUSTED where a further node would be more than
  // limits.max_steps.
  absl::StatusOr<PlanStep> Next(const NodeOutcome& outcome, const EdgeFilter& may_take = nullptr);

  // Whether Next might take an edge with that condition, be it the present node's or that of a
  // router around it: what the node produces may then not be the answer.
  bool HasOpenEdge(v1::EdgeCondition condition) const;
  // The edges with that condition that leave a node and that this query may still take, in the
  // manifest's order.
  std::vector<const v1::Edge*> OpenEdges(std::string_view node, v1::EdgeCondition condition) const;
  // As HasOpenEdge, for an edge on low confidence by that measure.
  bool HasOpenMeasure(v1::ConfidenceMeasure measure) const;

 private:
  template <typename Predicate>
  bool HasOpen(const Predicate& predicate) const;
  absl::StatusOr<PlanStep> Enter(const v1::Node* node, const v1::Edge* edge);
  const v1::Edge* TakeEdge(const v1::Node* from, const NodeOutcome& outcome,
                           const EdgeFilter& may_take);
  bool IsOpen(int edge) const;

  const v1::Graph& graph_;
  absl::flat_hash_map<std::string_view, const v1::Node*> nodes_;
  std::vector<int> visits_;               // Per edge.
  std::vector<const v1::Node*> routers_;  // That handed over, the outermost first.
  const v1::Node* current_ = nullptr;
  int steps_ = 0;
};

// An upper bound on the nodes that one query may enter if limits.max_steps did not stop it. The
// graph is valid. At most INT_MAX.
int WorstCaseSteps(const v1::Graph& graph);

// The same for the sum of a weight, not negative, over the nodes that are entered. At most INT_MAX.
double WorstCaseSum(const v1::Graph& graph, const std::function<double(const v1::Node&)>& weight);

// What a node was given last in a query, what it made of that, and why it failed; of the latter two
// one is empty.
struct NodeTexts {
  std::string input;
  std::string output;
  std::string error;
};

// The input that an edge gives to the next node: {query}, {input}, {output}, {error} and, of any
// node that has run before, {NODE.input}, {NODE.output} and {NODE.error} in `edge.input` replaced,
// by one pass: braces in the values are not looked at.
struct EdgeInput {
  std::string_view query;   // The user's query.
  std::string_view input;   // What the node left was given.
  std::string_view output;  // What it produced; empty if it failed.
  std::string_view error;   // Why it failed; empty if it did not.
  // Null for a node that has not run. No function: {NODE.…} is not looked for.
  std::function<const NodeTexts*(std::string_view node)> texts_of;
  // Rendering ends when the text has become longer than this.
  size_t max_bytes = std::numeric_limits<size_t>::max();
};
std::string RenderEdgeInput(const v1::Edge& edge, const EdgeInput& values);

// The nodes that the text of an `Edge.input` names as {NODE.input}, {NODE.output} or {NODE.error}.
std::vector<std::string> NodesNamedIn(std::string_view input);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_PLAN_H_

#include "gateway/traffic_replay.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/utf8.h"
#include "gateway/decision_course.h"
#include "gateway/tenant.h"
#include "router/node_bounds.h"

namespace octogate::gateway {
namespace {

constexpr char kNone[] = "none";
constexpr int kDefaultTraces = 1000;
constexpr int kDefaultChanges = 100;
constexpr size_t kMaxQueryBytes = 1024;

// Where a query went or would go.
struct Outcome {
  std::string node;
  double probability = 0;
  bool fallback = false;  // of the last router
  std::string reason;
  std::vector<std::string> path;  // every node that a router chose
};

Outcome OutcomeOf(const DecisionCourse& course) {
  Outcome outcome;
  outcome.node = course.node;
  for (const v1::Decision& decision : course.decisions) outcome.path.push_back(decision.node());
  if (!course.decisions.empty()) {
    const v1::Decision& last = course.decisions.back();
    outcome.probability = last.probability();
    outcome.fallback = last.fallback();
    outcome.reason = last.reason();
  }
  return outcome;
}

// What the scores alone chose.
Outcome OutcomeOf(const RecordedCourse& course) {
  Outcome outcome;
  for (const v1::Decision* decision : course.decisions) {
    outcome.node = decision->kept_from().empty() ? decision->node() : decision->kept_from();
    outcome.path.push_back(outcome.node);
    outcome.probability = decision->probability();
    outcome.fallback = decision->fallback();
    if (!decision->kept_from().empty()) {
      // The confidence was that of the node where the session is.
      outcome.probability = 0;
      for (const v1::HeadScore& head : decision->heads()) {
        for (const v1::TokenScore& score : head.scores()) {
          if (score.node() == outcome.node && (head.decided() || outcome.probability == 0)) {
            outcome.probability = score.probability() * head.live_probability();
          }
        }
      }
      outcome.fallback = std::none_of(decision->heads().begin(), decision->heads().end(),
                                      [](const v1::HeadScore& head) { return head.decided(); });
      break;  // Routers behind it were asked by the session alone.
    }
  }
  return outcome;
}

bool IsRight(const Outcome& outcome, const std::string& expected) {
  if (expected == kNone && outcome.fallback) return true;
  return outcome.node == expected ||
         std::find(outcome.path.begin(), outcome.path.end(), expected) != outcome.path.end();
}

double WorstCost(const v1::Graph& graph, const std::string& name, const std::string& query) {
  const v1::Node* const node = router::FindNode(graph, name);
  if (node == nullptr) return 0;
  double cost = router::MostCost(graph, *node, static_cast<int64_t>(query.size()));
  // A choice of one call costs what its dearest member does, and nothing itself.
  if (node->has_choice() && node->choice().max_calls() < 2) {
    for (const std::string& member : node->choice().members()) {
      cost = std::max(cost, WorstCost(graph, member, query));
    }
  }
  return cost;
}

// What is known of where a query should have gone.
struct Label {
  std::string expected;  // empty: not known
  bool wrong = false;    // not where it went
};

class Replay {
 public:
  Replay(const v1::ReplayTrafficRequest& request, const router::RoutingSnapshot& other)
      : other_(other),
        max_changes_(request.changes_limit() == 0 ? kDefaultChanges : request.changes_limit()) {}

  // `graph` is the one that `before` was decided by; null where it is gone.
  absl::Status Add(const std::string& trace_id, const std::string& query, const Outcome& before,
                   const v1::Graph* graph, const std::string& entry, const Label& label,
                   const router::CallContext& context) {
    OCTOGATE_ASSIGN_OR_RETURN(const DecisionCourse course, Decide(other_, entry, query, context));
    const Outcome after = OutcomeOf(course);
    response_.set_queries(response_.queries() + 1);
    ++moves_[{before.node, after.node}];
    if (graph == nullptr) {
      ++without_graph_;
    } else {
      AddCost(WorstCost(*graph, before.node, query), response_.mutable_before());
      AddCost(WorstCost(other_.graph(), after.node, query), response_.mutable_after());
    }
    if (!label.expected.empty()) {
      Count(IsRight(before, label.expected), response_.mutable_before());
      Count(IsRight(after, label.expected), response_.mutable_after());
    }
    if (label.wrong) {
      response_.set_wrong(response_.wrong() + 1);
      if (after.node != before.node) response_.set_wrong_moved(response_.wrong_moved() + 1);
    }
    if (after.node == before.node) return absl::OkStatus();
    response_.set_changed(response_.changed() + 1);
    if (response_.changes_size() == max_changes_) return absl::OkStatus();
    v1::ReplayChange& change = *response_.add_changes();
    change.set_query(SanitizeUtf8(query, kMaxQueryBytes));
    change.set_trace_id(trace_id);
    change.set_from(before.node);
    change.set_from_probability(before.probability);
    change.set_to(after.node);
    change.set_to_probability(after.probability);
    change.set_expected(label.expected);
    change.set_reason(after.reason);
    return absl::OkStatus();
  }

  void Skip() { response_.set_skipped(response_.skipped() + 1); }

  v1::ReplayTrafficResponse Finish() && {
    std::vector<std::pair<std::pair<std::string, std::string>, int>> moves(moves_.begin(),
                                                                           moves_.end());
    std::stable_sort(moves.begin(), moves.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    for (auto& [nodes, queries] : moves) {
      v1::ReplayMove& move = *response_.add_moves();
      move.set_from(std::move(nodes.first));
      move.set_to(std::move(nodes.second));
      move.set_queries(queries);
    }
    response_.mutable_before();
    response_.mutable_after();
    if (without_graph_ > 0) {
      response_.add_warnings(
          absl::StrCat("the versions that ", without_graph_,
                       " traces were decided by are gone or cannot be read: these are not "
                       "counted in the costs"));
    }
    return std::move(response_);
  }

 private:
  static void AddCost(double cost, v1::ReplaySide* side) {
    side->set_worst_cost(side->worst_cost() + cost);
  }
  static void Count(bool right, v1::ReplaySide* side) {
    side->set_labelled(side->labelled() + 1);
    if (right) side->set_right(side->right() + 1);
  }

  const router::RoutingSnapshot& other_;
  const int max_changes_;
  v1::ReplayTrafficResponse response_;
  std::map<std::pair<std::string, std::string>, int> moves_;
  int without_graph_ = 0;
};

// The graphs of versions, each asked for once; null for one that is gone.
class VersionGraphs {
 public:
  VersionGraphs(GraphManager* graphs, absl::Time deadline) : graphs_(graphs), deadline_(deadline) {}

  const v1::Graph* Find(int64_t version) {
    const auto [entry, is_new] = known_.try_emplace(version);
    if (is_new) {
      v1::GetGraphRequest request;
      request.set_version(version);
      absl::StatusOr<v1::GetGraphResponse> response = graphs_->Get(request, deadline_);
      if (response.ok()) {
        entry->second = std::make_unique<v1::Graph>(std::move(*response->mutable_graph()));
      }
    }
    return entry->second.get();
  }

 private:
  GraphManager* const graphs_;
  const absl::Time deadline_;
  absl::flat_hash_map<int64_t, std::unique_ptr<v1::Graph>> known_;
};

// By trace, what its tenant said of it.
using Labels = absl::flat_hash_map<std::string, Label>;

Labels LabelsOf(const std::vector<v1::FeedbackEntry>& entries) {
  Labels labels;
  for (const v1::FeedbackEntry& entry : entries) {
    Label& label =
        labels[absl::StrCat(entry.tenant().size(), ":", entry.tenant(), entry.trace_id())];
    label.expected = entry.verdict() == v1::VERDICT_RIGHT ? entry.node() : entry.better_node();
    label.wrong = entry.verdict() == v1::VERDICT_WRONG && entry.better_node().empty();
  }
  return labels;
}

absl::Status ReplayTraces(const v1::ReplayTrafficRequest& request, const TraceStore& traces,
                          FeedbackStore* feedback, GraphManager* graphs,
                          const router::RoutingSnapshot& other, router::CallContext context,
                          std::vector<std::string>* warnings, Replay* replay) {
  Labels labels;
  const auto entries = feedback->List(request.tenant(), context.deadline);
  if (entries.ok()) {
    labels = LabelsOf(*entries);
  } else {
    warnings->push_back(absl::StrCat("feedback could not be read, so that it does not count: ",
                                     entries.status().message()));
  }
  VersionGraphs versions(graphs, context.deadline);
  const int limit = request.limit() == 0 ? kDefaultTraces : request.limit();
  int taken = 0;
  for (const auto& trace : traces.List(std::numeric_limits<size_t>::max(), "", context.deadline)) {
    if (taken == limit) break;
    if (!request.tenant().empty() && trace->tenant() != request.tenant()) continue;
    ++taken;
    const RecordedCourse course = CourseOf(*trace);
    if (course.decisions.empty() || course.query.empty()) {
      replay->Skip();
      continue;
    }
    const v1::Graph* const graph = versions.Find(trace->graph_version());
    // What came in at the entry then would come in at the entry now.
    std::string entry = course.entry;
    if ((graph != nullptr && graph->spec().entry() == entry) || other.FindNode(entry) == nullptr) {
      entry = other.graph().spec().entry();
    }
    const auto label =
        labels.find(absl::StrCat(trace->tenant().size(), ":", trace->tenant(), trace->trace_id()));
    context.tenant = trace->tenant();
    OCTOGATE_RETURN_IF_ERROR(replay->Add(trace->trace_id(), course.query, OutcomeOf(course), graph,
                                         entry, label == labels.end() ? Label() : label->second,
                                         context));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ReplayTrafficResponse> ReplayTraffic(const v1::ReplayTrafficRequest& request,
                                                        absl::Time deadline,
                                                        std::shared_ptr<Cancellation> cancellation,
                                                        const TraceStore& traces,
                                                        FeedbackStore* feedback,
                                                        GraphManager* graphs) {
  const absl::Time start = absl::Now();
  const std::shared_ptr<const GraphState> applied = graphs->state();
  if (applied == nullptr) {
    return absl::FailedPreconditionError(
        "no graph has been applied yet; apply one with octoctl apply -f");
  }
  std::vector<std::string> warnings;
  OCTOGATE_ASSIGN_OR_RETURN(const std::shared_ptr<const router::RoutingSnapshot> other,
                            graphs->PrepareRouting(request.version(), request.manifest(),
                                                   request.source(), deadline, &warnings));
  router::CallContext context = {
      .deadline = deadline, .cancellation = std::move(cancellation), .tenant = kDefaultTenant};
  Replay replay(request, *other);
  if (request.queries().empty()) {
    OCTOGATE_RETURN_IF_ERROR(
        ReplayTraces(request, traces, feedback, graphs, *other, context, &warnings, &replay));
  }
  for (const v1::ReplayQuery& query : request.queries()) {
    OCTOGATE_ASSIGN_OR_RETURN(
        const DecisionCourse before,
        Decide(*applied->routing, applied->graph().spec().entry(), query.query(), context));
    OCTOGATE_RETURN_IF_ERROR(replay.Add("", query.query(), OutcomeOf(before), &applied->graph(),
                                        other->graph().spec().entry(), {query.node(), false},
                                        context));
  }
  v1::ReplayTrafficResponse response = std::move(replay).Finish();
  for (std::string& warning : warnings) response.add_warnings(std::move(warning));
  response.set_applied_version(applied->version());
  response.set_other_version(request.version());
  response.set_duration_us(absl::ToInt64Microseconds(absl::Now() - start));
  return response;
}

}  // namespace octogate::gateway

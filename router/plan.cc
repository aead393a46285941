#include "router/plan.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/strings.h"

namespace octogate::router {
namespace {

bool Holds(const v1::Edge& edge, const NodeOutcome& outcome) {
  switch (edge.on()) {
    case v1::EDGE_CONDITION_SUCCESS:
      return outcome.status.ok();
    case v1::EDGE_CONDITION_ERROR:
      return !outcome.status.ok();
    case v1::EDGE_CONDITION_LOW_CONFIDENCE:
      // Not `<`: a confidence that is no number is low.
      return outcome.status.ok() && !(ConfidenceOf(outcome, edge.measure()) >= edge.below());
    default:
      return false;
  }
}

// The heaviest walk from each node along edges without max_visits and into members, where a walk
// inside a router's sub-graph may be followed by one along the router's own edges.
class WeightBound {
 public:
  WeightBound(const v1::Graph& graph, const std::function<double(const v1::Node&)>& weight)
      : weight_(weight) {
    for (const v1::Node& node : graph.spec().nodes()) nodes_.emplace(node.name(), &node);
    for (const v1::Edge& edge : graph.spec().edges()) {
      if (edge.max_visits() == 0) edges_[edge.from()].push_back(&edge);
    }
  }

  double From(std::string_view name) {
    const auto [known, first] = heaviest_.try_emplace(name, 0);
    if (!first) return known->second;
    const v1::Node& node = *nodes_.at(name);
    double inside = 0;
    if (node.has_router()) {
      for (const std::string& member : node.router().members()) {
        inside = std::max(inside, From(member));
      }
      inside = std::max(inside, From(node.router().fallback()));
    } else if (HandsOver(node)) {
      for (const std::string& member : node.choice().members()) {
        inside = std::max(inside, From(member));
      }
    }
    double behind = 0;
    if (const auto edges = edges_.find(name); edges != edges_.end()) {
      for (const v1::Edge* edge : edges->second) behind = std::max(behind, From(edge->to()));
    }
    const double sum =
        std::min<double>(weight_(node) + inside + behind, std::numeric_limits<int>::max());
    heaviest_[name] = sum;
    return sum;
  }

 private:
  const std::function<double(const v1::Node&)>& weight_;
  absl::flat_hash_map<std::string_view, const v1::Node*> nodes_;
  absl::flat_hash_map<std::string_view, std::vector<const v1::Edge*>> edges_;
  absl::flat_hash_map<std::string_view, double> heaviest_;
};

const char* MeasureName(v1::ConfidenceMeasure measure) {
  switch (measure) {
    case v1::CONFIDENCE_MEASURE_MINIMUM:
      return "minimum";
    case v1::CONFIDENCE_MEASURE_ENTROPY:
      return "entropy";
    case v1::CONFIDENCE_MEASURE_EXPECTED_ACCURACY:
      return "expected accuracy";
    default:
      return "mean";
  }
}

// A "{NODE.input}", "{NODE.output}" or "{NODE.error}" that a text begins with.
struct Reference {
  std::string_view node;  // empty: it begins with none of them
  std::string NodeTexts::*text = nullptr;
  size_t size = 0;  // of all of it
};

Reference ReferenceAt(std::string_view text) {
  if (text.empty() || text.front() != '{') return {};
  size_t end = 1;
  while (end < text.size() && (absl::ascii_isdigit(text[end]) || absl::ascii_islower(text[end]) ||
                               text[end] == '-' || text[end] == '_')) {
    ++end;
  }
  const std::pair<std::string_view, std::string NodeTexts::*> texts[] = {
      {".input}", &NodeTexts::input},
      {".output}", &NodeTexts::output},
      {".error}", &NodeTexts::error}};
  for (const auto& [name, member] : texts) {
    if (text.substr(end, name.size()) != name) continue;
    return {text.substr(1, end - 1), member, end + name.size()};
  }
  return {};
}

}  // namespace

bool HandsOver(const v1::Node& node) {
  return node.has_router() || (node.has_choice() && node.choice().max_calls() < 2);
}

Plan::Plan(const v1::Graph* graph) : graph_(*graph), visits_(graph->spec().edges_size()) {
  for (const v1::Node& node : graph_.spec().nodes()) nodes_.emplace(node.name(), &node);
}

absl::StatusOr<PlanStep> Plan::Start(std::string_view entry) {
  const auto node = nodes_.find(entry.empty() ? std::string_view(graph_.spec().entry()) : entry);
  if (node == nodes_.end()) {
    return absl::NotFoundError(
        absl::StrCat("graph '", graph_.metadata().name(), "' has no node ", Quoted(entry)));
  }
  std::fill(visits_.begin(), visits_.end(), 0);
  routers_.clear();
  steps_ = 0;
  return Enter(node->second, nullptr);
}

absl::StatusOr<PlanStep> Plan::HandOver(std::string_view member) {
  if (current_ == nullptr || !HandsOver(*current_)) {
    return absl::InvalidArgumentError("only a router or a choice hands over to a member");
  }
  const auto node = nodes_.find(member);
  if (node == nodes_.end()) {
    return absl::NotFoundError(
        absl::StrCat("graph '", graph_.metadata().name(), "' has no node ", Quoted(member)));
  }
  routers_.push_back(current_);
  return Enter(node->second, nullptr);
}

double ConfidenceOf(const NodeOutcome& outcome, v1::ConfidenceMeasure measure) {
  switch (measure) {
    case v1::CONFIDENCE_MEASURE_MINIMUM:
      return outcome.minimum;
    case v1::CONFIDENCE_MEASURE_ENTROPY:
      return outcome.entropy;
    case v1::CONFIDENCE_MEASURE_EXPECTED_ACCURACY:
      return outcome.expected_accuracy;
    default:
      return outcome.confidence;
  }
}

std::string DescribeCondition(const v1::Edge& edge, const NodeOutcome& outcome) {
  switch (edge.on()) {
    case v1::EDGE_CONDITION_SUCCESS:
      return "the node succeeded";
    case v1::EDGE_CONDITION_ERROR:
      return absl::StrCat("the node failed with ", absl::StatusCodeToString(outcome.status.code()));
    case v1::EDGE_CONDITION_LOW_CONFIDENCE: {
      std::string text = absl::StrFormat("confidence %.3g < %.3g",
                                         ConfidenceOf(outcome, edge.measure()), edge.below());
      if (outcome.tokens > 0) {
        absl::StrAppend(&text, " (", MeasureName(edge.measure()), " of ", outcome.tokens,
                        outcome.tokens == 1 ? " token)" : " tokens)");
      }
      return text;
    }
    default:
      return "";
  }
}

absl::StatusOr<PlanStep> Plan::Next(const NodeOutcome& outcome, const EdgeFilter& may_take) {
  const v1::Node* from = current_;
  while (from != nullptr) {
    if (const v1::Edge* edge = TakeEdge(from, outcome, may_take); edge != nullptr) {
      return Enter(nodes_.at(edge->to()), edge);
    }
    from = nullptr;
    if (!routers_.empty()) {
      from = routers_.back();
      routers_.pop_back();
    }
  }
  current_ = nullptr;
  return PlanStep{};
}

absl::StatusOr<PlanStep> Plan::Enter(const v1::Node* node, const v1::Edge* edge) {
  const int max_steps = graph_.spec().limits().max_steps();
  if (steps_ >= max_steps) {
    return absl::ResourceExhaustedError(absl::StrCat("the query has entered ", steps_,
                                                     " nodes, the limit (limits.maxSteps), and "
                                                     "would enter '",
                                                     node->name(), "' next"));
  }
  current_ = node;
  return PlanStep{.node = node, .edge = edge, .number = ++steps_};
}

const v1::Edge* Plan::TakeEdge(const v1::Node* from, const NodeOutcome& outcome,
                               const EdgeFilter& may_take) {
  for (int i = 0; i < graph_.spec().edges_size(); ++i) {
    const v1::Edge& edge = graph_.spec().edges(i);
    if (edge.from() != from->name() || !Holds(edge, outcome)) continue;
    if (!IsOpen(i)) continue;
    if (may_take != nullptr && !may_take(edge)) continue;
    ++visits_[i];
    return &edge;
  }
  return nullptr;
}

template <typename Predicate>
bool Plan::HasOpen(const Predicate& predicate) const {
  for (int i = 0; i < graph_.spec().edges_size(); ++i) {
    const v1::Edge& edge = graph_.spec().edges(i);
    const auto leaves = [&](const v1::Node* node) { return edge.from() == node->name(); };
    if (predicate(edge) && IsOpen(i) &&
        ((current_ != nullptr && leaves(current_)) ||
         std::any_of(routers_.begin(), routers_.end(), leaves))) {
      return true;
    }
  }
  return false;
}

bool Plan::HasOpenEdge(v1::EdgeCondition condition) const {
  return HasOpen([&](const v1::Edge& edge) { return edge.on() == condition; });
}

std::vector<const v1::Edge*> Plan::OpenEdges(std::string_view node,
                                             v1::EdgeCondition condition) const {
  std::vector<const v1::Edge*> open;
  for (int i = 0; i < graph_.spec().edges_size(); ++i) {
    const v1::Edge& edge = graph_.spec().edges(i);
    if (edge.from() == node && edge.on() == condition && IsOpen(i)) open.push_back(&edge);
  }
  return open;
}

bool Plan::HasOpenMeasure(v1::ConfidenceMeasure measure) const {
  return HasOpen([&](const v1::Edge& edge) {
    return edge.on() == v1::EDGE_CONDITION_LOW_CONFIDENCE && edge.measure() == measure;
  });
}

bool Plan::IsOpen(int edge) const {
  const int max_visits = graph_.spec().edges(edge).max_visits();
  return max_visits == 0 || visits_[edge] < max_visits;
}

double WorstCaseSum(const v1::Graph& graph, const std::function<double(const v1::Node&)>& weight) {
  WeightBound bound(graph, weight);
  double sum = bound.From(graph.spec().entry());
  for (const v1::Edge& edge : graph.spec().edges()) {
    if (edge.max_visits() > 0) sum += edge.max_visits() * bound.From(edge.to());
  }
  return std::min<double>(sum, std::numeric_limits<int>::max());
}

int WorstCaseSteps(const v1::Graph& graph) {
  return static_cast<int>(WorstCaseSum(graph, [](const v1::Node&) { return 1.0; }));
}

std::string RenderEdgeInput(const v1::Edge& edge, const EdgeInput& values) {
  const std::pair<std::string_view, std::string_view> placeholders[] = {{"{query}", values.query},
                                                                        {"{input}", values.input},
                                                                        {"{output}", values.output},
                                                                        {"{error}", values.error}};
  const std::string_view text = edge.input();
  std::string rendered;
  for (size_t i = 0; i < text.size() && rendered.size() <= values.max_bytes;) {
    const auto* found =
        std::find_if(std::begin(placeholders), std::end(placeholders),
                     [&](const auto& p) { return text.substr(i, p.first.size()) == p.first; });
    if (found != std::end(placeholders)) {
      rendered.append(found->second);
      i += found->first.size();
    } else if (const Reference reference = ReferenceAt(text.substr(i));
               !reference.node.empty() && values.texts_of != nullptr) {
      const NodeTexts* const node = values.texts_of(reference.node);
      if (node != nullptr) rendered.append(node->*reference.text);
      i += reference.size;
    } else {
      rendered.push_back(text[i++]);
    }
  }
  return rendered;
}

std::vector<std::string> NodesNamedIn(std::string_view input) {
  std::vector<std::string> nodes;
  for (size_t i = input.find('{'); i != std::string_view::npos; i = input.find('{', i + 1)) {
    const std::string_view node = ReferenceAt(input.substr(i)).node;
    if (!node.empty()) nodes.emplace_back(node);
  }
  return nodes;
}

}  // namespace octogate::router

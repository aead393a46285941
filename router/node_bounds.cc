#include "router/node_bounds.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "router/manifest_decoder.h"
#include "router/plan.h"

namespace octogate::router {
namespace {

constexpr int kMaxBallots = 16;

int Ballots(const v1::VoteNode& vote) { return vote.members_size() * vote.samples(); }

// Waves of a vote end behind the first that may settle it.
int LeastBallots(const v1::VoteNode& vote) {
  const int all = Ballots(vote);
  const int wave = vote.parallel() > 0 ? std::min(vote.parallel(), all) : all;
  int enough = vote.enough() > 0 ? vote.enough() : all;
  // No answer weighs more than 1.
  if (vote.sure() > 0) enough = std::min(enough, static_cast<int>(std::ceil(vote.sure())));
  return std::min(all, (std::max(1, enough) + wave - 1) / wave * wave);
}

int64_t MaxOutputTokens(const v1::Graph& graph, const v1::Node& node) {
  switch (node.kind_case()) {
    case v1::Node::kModel:
      return node.model().max_tokens();
    case v1::Node::kReplay:
      return node.replay().max_tokens();
    case v1::Node::kVote: {
      int64_t most = 0;
      for (const std::string& name : node.vote().members()) {
        const v1::Node* const member = FindNode(graph, name);
        if (member == nullptr || member->has_vote() || member->has_verify()) continue;
        most = std::max(most, MaxOutputTokens(graph, *member));
      }
      return most;
    }
    default:
      return 0;
  }
}

// A node that a vote or a verifier asks itself. Others would run for ever, or need a plan.
const v1::Node* Inner(const v1::Graph& graph, std::string_view name, bool may_vote) {
  const v1::Node* const node = FindNode(graph, name);
  const bool right = node != nullptr &&
                     (node->has_model() || node->has_replay() || (may_vote && node->has_vote()));
  return right ? node : nullptr;
}

class Checker {
 public:
  explicit Checker(const v1::Graph& graph) : graph_(graph), spec_(graph.spec()) {}

  std::vector<GraphProblem> Run() {
    for (int i = 0; i < spec_.nodes_size(); ++i) CheckNode(i);
    if (problems_.empty()) CheckLimits();
    return std::move(problems_);
  }

 private:
  void Problem(std::string path, std::string message, bool warning = false) {
    problems_.push_back({std::move(path), std::move(message), warning});
  }

  void CheckInner(const std::string& path, const std::string& name, bool may_vote) {
    if (name.empty() || Inner(graph_, name, may_vote) != nullptr) return;
    const v1::Node* const node = FindNode(graph_, name);
    if (node == nullptr) {
      std::vector<std::string> known;
      for (const v1::Node& candidate : spec_.nodes()) known.push_back(candidate.name());
      Problem(path, absl::StrCat("there is no node ", Quoted(name),
                                 Suggest(name, std::move(known), "nodes")));
    } else {
      Problem(path, absl::StrCat("the node ", Quoted(name), " must be a model or replay node",
                                 may_vote ? ", or a vote" : ""));
    }
  }

  void CheckNode(int i) {
    const v1::Node& node = spec_.nodes(i);
    const std::string path = absl::StrCat("spec.nodes[", i, "]");
    if (node.has_model()) CheckExpected(path + ".model", node.model().expected());
    if (node.has_replay()) CheckExpected(path + ".replay", node.replay().expected());
    if (node.has_vote()) CheckVote(path + ".vote", node.vote());
    if (node.has_verify()) {
      CheckInner(path + ".verify.answer", node.verify().answer(), true);
      CheckInner(path + ".verify.judge", node.verify().judge(), false);
    }
  }

  template <typename Entries>
  void CheckExpected(const std::string& path, const Entries& entries) {
    for (int i = 1; i < entries.size(); ++i) {
      if (entries[i].up_to_tokens() > entries[i - 1].up_to_tokens()) continue;
      Problem(absl::StrCat(path, ".expected[", i, "].up_to_tokens"),
              absl::StrCat("is ", entries[i].up_to_tokens(), ", not more than the ",
                           entries[i - 1].up_to_tokens(), " before; entries go up in length"));
    }
  }

  void CheckVote(const std::string& path, const v1::VoteNode& vote) {
    for (int i = 0; i < vote.members_size(); ++i) {
      CheckInner(absl::StrCat(path, ".members[", i, "]"), vote.members(i), false);
    }
    const int ballots = Ballots(vote);
    if (ballots > kMaxBallots) {
      Problem(path + ".samples", absl::StrCat(vote.members_size(), " members with ", vote.samples(),
                                              " samples each are ", ballots, " answers; at most ",
                                              kMaxBallots, " are allowed"));
    }
    if (vote.enough() > ballots) {
      Problem(path + ".enough",
              absl::StrCat(vote.enough(), " equal answers cannot come from ", ballots, " answers"));
    }
    if (ballots == 1) {
      Problem(path,
              "a vote over one answer always has confidence 1; give it more members or "
              "samples",
              true);
    }
  }

  void CheckLimits() {
    const v1::GraphLimits& limits = spec_.limits();
    if (limits.has_max_cost()) {
      for (int i = 0; i < spec_.nodes_size(); ++i) {
        // A choice takes what the budget leaves of its members, which are nodes themselves.
        if (spec_.nodes(i).has_choice()) continue;
        const double cost = MostCost(graph_, spec_.nodes(i), 0);
        if (cost <= limits.max_cost()) continue;
        Problem(absl::StrCat("spec.nodes[", i, "]"),
                absl::StrCat("never entered: its answer alone may cost ", cost,
                             ", and limits.maxCost is ", limits.max_cost()));
      }
    }
    if (limits.max_calls() > 0) {
      for (int i = 0; i < spec_.nodes_size(); ++i) {
        if (spec_.nodes(i).has_choice()) continue;
        const int calls = MostCalls(graph_, spec_.nodes(i));
        if (calls <= limits.max_calls()) continue;
        Problem(absl::StrCat("spec.nodes[", i, "]"),
                absl::StrCat("never entered: it needs up to ", calls,
                             " calls, and limits.maxCalls is ", limits.max_calls()));
      }
    }
    if (!problems_.empty()) return;
    CheckEdges();
  }

  struct Least {
    int calls = std::numeric_limits<int>::max() / 2;
    int steps = std::numeric_limits<int>::max() / 2;
  };

  // What a query from the entry has used at least when it leaves each node, calls and steps each by
  // its own best way.
  absl::flat_hash_map<std::string_view, Least> LeastFromEntry() const {
    absl::flat_hash_map<std::string_view, std::vector<const v1::Node*>> next;
    absl::flat_hash_map<std::string_view, const v1::Node*> nodes;
    for (const v1::Node& node : spec_.nodes()) nodes.emplace(node.name(), &node);
    const auto add = [&](const std::string& from, const std::string& to) {
      if (nodes.contains(from) && nodes.contains(to)) next[from].push_back(nodes.at(to));
    };
    for (const v1::Node& node : spec_.nodes()) {
      for (const std::string& member : node.router().members()) add(node.name(), member);
      if (node.has_router()) add(node.name(), node.router().fallback());
      if (!HandsOver(node)) continue;
      for (const std::string& member : node.choice().members()) add(node.name(), member);
    }
    // The edges of a router follow what its members end with: as if the router itself took them,
    // which is never more than that.
    for (const v1::Edge& edge : spec_.edges()) add(edge.from(), edge.to());
    absl::flat_hash_map<std::string_view, Least> least;
    if (!nodes.contains(spec_.entry())) return least;
    std::deque<const v1::Node*> open = {nodes.at(spec_.entry())};
    least[open.front()->name()] = {LeastCalls(graph_, *open.front()), 1};
    // Shortest ways by relaxation, first in first out: at most nodes times edges.
    while (!open.empty()) {
      const v1::Node* const node = open.front();
      open.pop_front();
      const Least so_far = least[node->name()];
      for (const v1::Node* const to : next[node->name()]) {
        Least& known = least[to->name()];
        const int calls = so_far.calls + LeastCalls(graph_, *to);
        const int steps = so_far.steps + 1;
        if (calls >= known.calls && steps >= known.steps) continue;
        known.calls = std::min(known.calls, calls);
        known.steps = std::min(known.steps, steps);
        open.push_back(to);
      }
    }
    return least;
  }

  void CheckEdges() {
    const v1::GraphLimits& limits = spec_.limits();
    const auto least = LeastFromEntry();
    for (int i = 0; i < spec_.edges_size(); ++i) {
      const v1::Edge& edge = spec_.edges(i);
      const v1::Node* const from = FindNode(graph_, edge.from());
      const v1::Node* const to = FindNode(graph_, edge.to());
      if (from == nullptr || to == nullptr) continue;
      const std::string path = absl::StrCat("spec.edges[", i, "]");
      const int needed = to->has_choice() ? LeastCalls(graph_, *to) : MostCalls(graph_, *to);
      const auto too_many = [&](int used, absl::string_view who) {
        return absl::StrCat("never taken", who, ": '", edge.to(), "' needs up to ", needed,
                            " calls behind at least ", used, ", and limits.maxCalls is ",
                            limits.max_calls());
      };
      // A failed call counts as much as one that succeeds, but a vote may fail early.
      const bool succeeded = edge.on() != v1::EDGE_CONDITION_ERROR;
      const int used = succeeded ? LeastCalls(graph_, *from) : 0;
      if (limits.max_calls() > 0 && needed > 0 && used + needed > limits.max_calls()) {
        Problem(path, too_many(used, ""));
        continue;
      }
      const auto from_entry = least.find(edge.from());
      if (from_entry == least.end() || !succeeded) continue;
      if (limits.max_calls() > 0 && needed > 0 &&
          from_entry->second.calls + needed > limits.max_calls()) {
        Problem(path, too_many(from_entry->second.calls, " by a query from the entry"), true);
      } else if (from_entry->second.steps >= limits.max_steps()) {
        Problem(path,
                absl::StrCat("never taken by a query from the entry: it leads to node number ",
                             from_entry->second.steps + 1, " or later, and limits.maxSteps is ",
                             limits.max_steps()),
                true);
      }
    }
  }

  const v1::Graph& graph_;
  const v1::GraphSpec& spec_;
  std::vector<GraphProblem> problems_;
};

}  // namespace

const v1::Node* FindNode(const v1::Graph& graph, std::string_view name) {
  const auto& nodes = graph.spec().nodes();
  const auto found = std::find_if(nodes.begin(), nodes.end(),
                                  [&](const v1::Node& node) { return node.name() == name; });
  return found == nodes.end() ? nullptr : &*found;
}

int MostCalls(const v1::Graph& graph, const v1::Node& node) {
  switch (node.kind_case()) {
    case v1::Node::kModel:
    case v1::Node::kReplay:
      return 1;
    case v1::Node::kVote:
      return Ballots(node.vote());
    case v1::Node::kVerify: {
      const v1::Node* const answer = Inner(graph, node.verify().answer(), true);
      return (answer == nullptr ? 0 : MostCalls(graph, *answer)) + 1;
    }
    case v1::Node::kChoice:
      return HandsOver(node) ? 0 : std::min(2, node.choice().members_size());
    case v1::Node::kRetriever:
      return Inner(graph, node.retriever().table_node(), false) == nullptr ? 0 : 1;
    default:
      return 0;
  }
}

int LeastCalls(const v1::Graph& graph, const v1::Node& node) {
  switch (node.kind_case()) {
    case v1::Node::kVote:
      return LeastBallots(node.vote());
    case v1::Node::kVerify: {
      const v1::Node* const answer = Inner(graph, node.verify().answer(), true);
      return (answer == nullptr ? 0 : LeastCalls(graph, *answer)) + 1;
    }
    case v1::Node::kChoice:
      return HandsOver(node) ? 0 : 1;
    case v1::Node::kRetriever:
      return 0;  // One table is no choice.
    default:
      return MostCalls(graph, node);
  }
}

double CostOf(const v1::Node& node, int64_t input_tokens, int64_t output_tokens) {
  const v1::Price& price = node.has_replay() ? node.replay().price() : node.model().price();
  return (price.input() * static_cast<double>(input_tokens) +
          price.output() * static_cast<double>(output_tokens)) /
         1e6;
}

double MostCost(const v1::Graph& graph, const v1::Node& node, int64_t input_tokens) {
  switch (node.kind_case()) {
    case v1::Node::kModel:
    case v1::Node::kReplay:
      return CostOf(node, input_tokens, MaxOutputTokens(graph, node));
    case v1::Node::kVote: {
      double cost = 0;
      for (const std::string& name : node.vote().members()) {
        const v1::Node* const member = Inner(graph, name, false);
        if (member != nullptr)
          cost += node.vote().samples() * MostCost(graph, *member, input_tokens);
      }
      return cost;
    }
    case v1::Node::kVerify: {
      const v1::Node* const answer = Inner(graph, node.verify().answer(), true);
      const v1::Node* const judge = Inner(graph, node.verify().judge(), false);
      if (answer == nullptr || judge == nullptr) return 0;
      const auto prompt = static_cast<int64_t>(node.verify().prompt().size());
      return MostCost(graph, *answer, input_tokens) +
             MostCost(graph, *judge, prompt + 2 * input_tokens + MaxOutputTokens(graph, *answer));
    }
    case v1::Node::kChoice: {
      // The two dearest.
      double first = 0;
      double second = 0;
      for (const std::string& name : node.choice().members()) {
        const v1::Node* const member = HandsOver(node) ? nullptr : Inner(graph, name, false);
        if (member == nullptr) continue;
        const double cost = MostCost(graph, *member, input_tokens);
        second = std::max(second, std::min(first, cost));
        first = std::max(first, cost);
      }
      return first + second;
    }
    case v1::Node::kRetriever: {
      const v1::Node* const asked = Inner(graph, node.retriever().table_node(), false);
      return asked == nullptr ? 0 : MostCost(graph, *asked, input_tokens);
    }
    default:
      return 0;
  }
}

GraphBounds WorstCase(const v1::Graph& graph) {
  const v1::GraphLimits& limits = graph.spec().limits();
  GraphBounds bounds;
  bounds.steps = std::min(WorstCaseSteps(graph), limits.max_steps());
  bounds.time_ms = limits.timeout_ms();
  int most_calls = 0;
  double most_cost = 0;
  for (const v1::Node& node : graph.spec().nodes()) {
    most_calls = std::max(most_calls, MostCalls(graph, node));
    most_cost = std::max(most_cost, MostCost(graph, node, 0));
  }
  const double calls =
      std::min(WorstCaseSum(graph, [&](const v1::Node& node) { return MostCalls(graph, node); }),
               static_cast<double>(bounds.steps) * most_calls);
  bounds.calls = static_cast<int64_t>(calls);
  if (limits.max_calls() > 0) bounds.calls = std::min<int64_t>(bounds.calls, limits.max_calls());
  bounds.cost =
      std::min(WorstCaseSum(graph, [&](const v1::Node& node) { return MostCost(graph, node, 0); }),
               bounds.steps * most_cost);
  if (limits.has_max_cost()) bounds.cost = std::min(bounds.cost, limits.max_cost());
  return bounds;
}

std::vector<GraphProblem> CheckNodeBounds(const v1::Graph& graph) { return Checker(graph).Run(); }

}  // namespace octogate::router

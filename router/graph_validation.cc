#include "router/graph_validation.h"

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/strings.h"
#include "router/cache_validation.h"
#include "router/catalog_validation.h"
#include "router/choice_validation.h"
#include "router/graph_cycles.h"
#include "router/manifest_decoder.h"
#include "router/node_bounds.h"
#include "router/plan.h"

namespace octogate::router {
namespace {

constexpr int64_t kMaxExamples = 100'000;
constexpr int64_t kMaxMembers = 16'384;
constexpr int64_t kMaxExampleBytes = int64_t{16} << 20;
// More than are ever shown; what a hostile graph has beyond is not worth the time.
constexpr size_t kMaxProblems = 100;

class Validator {
 public:
  explicit Validator(const v1::Graph& graph) : spec_(graph.spec()), graph_(graph) {}

  std::vector<GraphProblem> Run() {
    CheckModels();
    CheckEncoders();
    CheckNames();
    CheckReference("spec.entry", spec_.entry());
    CheckSizes();
    if (Full() || !sizes_allowed_) return std::move(problems_);
    for (int i = 0; i < spec_.nodes_size(); ++i) CheckNode(i);
    for (int i = 0; i < spec_.edges_size(); ++i) CheckEdge(i);
    // What follows walks along references, so all of them must exist.
    if (problems_.empty() && references_exist_) {
      CheckCycles();
      CheckReachability();
    }
    if (problems_.empty()) {
      for (GraphProblem& problem : CheckNodeBounds(graph_)) {
        (problem.warning ? warnings_ : problems_).push_back(std::move(problem));
      }
      for (GraphProblem& problem : CheckCatalogs(graph_)) {
        (problem.warning ? warnings_ : problems_).push_back(std::move(problem));
      }
      for (GraphProblem& problem : CheckCache(graph_)) problems_.push_back(std::move(problem));
      for (GraphProblem& problem : CheckChoices(graph_)) {
        (problem.warning ? warnings_ : problems_).push_back(std::move(problem));
      }
    }
    if (problems_.empty() && references_exist_) CheckSteps();
    CheckUnusedModels();
    for (GraphProblem& warning : warnings_) problems_.push_back(std::move(warning));
    return std::move(problems_);
  }

 private:
  void Problem(std::string path, std::string message) {
    if (problems_.size() < kMaxProblems) problems_.push_back({std::move(path), std::move(message)});
  }
  void Warning(std::string path, std::string message) {
    if (warnings_.size() < kMaxProblems) {
      warnings_.push_back({std::move(path), std::move(message), true});
    }
  }
  bool Full() const { return problems_.size() >= kMaxProblems; }

  // The nodes that a vote, a verifier, a retriever or a choice asks itself, or hands over to.
  static std::vector<std::string> InnerNodes(const v1::Node& node) {
    if (node.has_choice()) return {node.choice().members().begin(), node.choice().members().end()};
    if (node.has_verify()) return {node.verify().answer(), node.verify().judge()};
    if (!node.retriever().table_node().empty()) return {node.retriever().table_node()};
    return {node.vote().members().begin(), node.vote().members().end()};
  }

  static std::string NodePath(int i) { return absl::StrCat("spec.nodes[", i, "]"); }

  void CheckModels() {
    for (int i = 0; i < spec_.models_size(); ++i) {
      const v1::Model& model = spec_.models(i);
      const std::string path = absl::StrCat("spec.models[", i, "]");
      if (!model.name().empty() && !models_.try_emplace(model.name(), i).second) {
        Problem(path + ".name",
                absl::StrCat("a second model '", model.name(), "'; names of models are unique"));
      }
      if (model.path().empty() == model.workers().empty()) {
        Problem(path, absl::StrCat("model ", Quoted(model.name()), " has ",
                                   model.path().empty() ? "neither" : "both",
                                   " 'path' and 'workers'; it needs exactly one of them"));
      }
      if (!model.workers().empty() && model.path().empty()) CheckRemoteOptions(model, path);
    }
  }

  void CheckEncoders() {
    const std::string& of_answers = spec_.cache().answers().encoder();
    if (!of_answers.empty()) CheckModelReference("spec.cache.answers.encoder", of_answers);
    for (int i = 0; i < spec_.catalogs_size(); ++i) {
      const std::string& encoder = spec_.catalogs(i).encoder();
      if (!encoder.empty()) {
        CheckModelReference(absl::StrCat("spec.catalogs[", i, "].encoder"), encoder);
      }
    }
  }

  // How a model is loaded is the business of whoever loads it.
  void CheckRemoteOptions(const v1::Model& model, const std::string& path) {
    const auto refuse = [&](bool set, const std::string& field, std::string_view key,
                            std::string_view flag) {
      if (!set) return;
      Problem(absl::StrCat(path, ".", field),
              absl::StrCat("'", ToAbsl(key), "' beside 'workers'; the workers of model ",
                           Quoted(model.name()), " load it themselves: start octogate-worker with ",
                           ToAbsl(flag), " instead"));
    };
    refuse(!model.weight_format().empty(), "weight_format", "weightFormat", "--weight-format");
    refuse(!model.kv_dtype().empty(), "kv_dtype", "kvDtype", "--kv-dtype");
    refuse(!model.activations().empty(), "activations", "activations", "--activations");
    refuse(model.has_speculation(), "speculation", "speculation", "--speculate");
    refuse(model.threads() != 0, "threads", "threads", "--threads");
    refuse(model.max_sequences() != 0, "max_sequences", "maxSequences", "--max-sequences");
    refuse(model.max_context() != 0, "max_context", "maxContext", "--max-context");
  }

  void CheckNames() {
    for (int i = 0; i < spec_.nodes_size(); ++i) {
      const std::string& name = spec_.nodes(i).name();
      if (name.empty()) continue;
      if (!nodes_.try_emplace(name, i).second) {
        Problem(NodePath(i) + ".name",
                absl::StrCat("a second node ", Quoted(name), "; names of nodes are unique"));
      }
    }
  }

  // Whether a node has that name. An empty one has been reported where it was parsed.
  bool CheckReference(std::string path, const std::string& name) {
    if (nodes_.contains(name)) return true;
    references_exist_ = false;
    if (name.empty() || Full()) return false;
    std::vector<std::string> known;
    for (const v1::Node& node : spec_.nodes()) known.push_back(node.name());
    Problem(std::move(path), absl::StrCat("there is no node ", Quoted(name),
                                          Suggest(name, std::move(known), "nodes")));
    return false;
  }

  void CheckModelReference(std::string path, const std::string& name) {
    used_models_.insert(name);
    if (name.empty() || models_.contains(name) || Full()) return;
    std::vector<std::string> known;
    for (const v1::Model& model : spec_.models()) known.push_back(model.name());
    Problem(std::move(path), absl::StrCat("there is no model ", Quoted(name),
                                          Suggest(name, std::move(known), "models")));
  }

  void CheckNode(int i) {
    const v1::Node& node = spec_.nodes(i);
    if (node.has_model()) {
      CheckModelReference(NodePath(i) + ".model.model", node.model().model());
    }
    if (node.has_router()) CheckRouter(node, NodePath(i) + ".router");
    // What is wrong with these is found in node_bounds.cc and choice_validation.cc.
    for (const std::string& inner : InnerNodes(node)) references_exist_ &= nodes_.contains(inner);
  }

  void CheckRouter(const v1::Node& node, const std::string& path) {
    const v1::RouterNode& router = node.router();
    absl::flat_hash_set<std::string_view> members;
    for (int i = 0; i < router.members_size(); ++i) {
      const std::string member_path = absl::StrCat(path, ".members[", i, "]");
      if (!CheckReference(member_path, router.members(i))) continue;
      if (!members.insert(router.members(i)).second) {
        Problem(member_path, absl::StrCat("a second member '", router.members(i), "'"));
      }
    }
    CheckReference(path + ".fallback", router.fallback());
    const std::vector<const v1::Node*> nodes = Members(router);
    absl::flat_hash_map<std::string_view, std::string_view> tokens;
    for (const v1::Node* member : nodes) tokens[member->name()] = member->token();
    CheckTokens(path + ".members", nodes, tokens, "");
    for (int i = 0; i < router.heads_size(); ++i) {
      const v1::Head& head = router.heads(i);
      const std::string head_path = absl::StrCat(path, ".heads[", i, "]");
      CheckWhenToDecide(head, head_path);
      if (head.has_encoder()) {
        CheckModelReference(head_path + ".encoder.model", head.encoder().model());
      }
      if (head.has_causal()) CheckCausal(head_path + ".causal", head.causal(), nodes);
    }
    if (!router.has_rewrite()) return;
    CheckCausal(path + ".rewrite.causal", router.rewrite().causal(), nodes);
    if (router.rewrite().causal().learned_rows()) {
      Problem(path + ".rewrite.causal.learnedRows",
              "a rewrite is written after a token of the model's vocabulary; remove it");
    }
    for (int i = 0; i < router.rewrite().members_size(); ++i) {
      const std::string& name = router.rewrite().members(i);
      if (name.empty() || members.contains(name) || Full()) continue;
      Problem(absl::StrCat(path, ".rewrite.members[", i, "]"),
              absl::StrCat(
                  "router '", node.name(), "' has no member ", Quoted(name),
                  Suggest(name, {router.members().begin(), router.members().end()}, "members")));
    }
  }

  // At most one of `threshold`, `risk` and `coverage`.
  void CheckWhenToDecide(const v1::Head& head, const std::string& path) {
    if (head.has_causal() && (head.has_risk() || head.has_coverage())) {
      Problem(path + (head.has_risk() ? ".risk" : ".coverage"),
              "a causal head has no held-out examples; set 'threshold'");
    } else if (head.has_coverage() && (head.has_threshold() || head.has_risk())) {
      Problem(path + ".coverage",
              absl::StrCat("a head has either 'coverage' or '",
                           head.has_risk() ? "risk" : "threshold", "'; remove one"));
    } else if (head.has_risk() && head.has_threshold()) {
      Problem(path + ".risk", "a head has either 'threshold' or 'risk'; remove one");
    } else if (head.has_coverage() && (head.coverage() <= 0 || head.coverage() >= 1)) {
      Problem(path + ".coverage",
              "no set, or only that of all nodes, covers so much; it must be above 0 and below 1, "
              "e.g. 0.95");
    }
  }

  std::vector<const v1::Node*> Members(const v1::RouterNode& router) const {
    std::vector<const v1::Node*> members;
    absl::flat_hash_set<std::string_view> seen;
    for (const std::string& name : router.members()) {
      const auto node = nodes_.find(name);
      if (node != nodes_.end() && seen.insert(name).second) {
        members.push_back(&spec_.nodes(node->second));
      }
    }
    return members;
  }

  void CheckCausal(const std::string& path, const v1::CausalHead& head,
                   const std::vector<const v1::Node*>& members) {
    CheckModelReference(path + ".model", head.model());
    if (!head.prompt().empty() && !absl::StrContains(head.prompt(), "{query}")) {
      Problem(path + ".prompt", "the prompt has no '{query}', so the model would not see it");
    }
    if (!head.prompt().empty() && !head.system().empty()) {
      Problem(path + ".system", "'system' beside 'prompt', which is the whole prompt; remove one");
    }
    absl::flat_hash_map<std::string_view, std::string_view> tokens;
    for (const v1::Node* member : members) tokens[member->name()] = member->token();
    for (const auto& [name, token] : head.tokens()) {
      const auto member = tokens.find(name);
      if (member != tokens.end()) {
        member->second = token;
      } else if (!Full()) {
        std::vector<std::string> known;
        for (const v1::Node* node : members) known.push_back(node->name());
        Problem(absl::StrCat(path, ".tokens[", name, "]"),
                absl::StrCat("the router has no member ", Quoted(name),
                             Suggest(name, std::move(known), "members")));
      }
    }
    CheckTokens(path, members, tokens, head.end_token());
  }

  // Tokens are told apart by their text, so none may contain another, nor the end token.
  void CheckTokens(const std::string& path, const std::vector<const v1::Node*>& members,
                   const absl::flat_hash_map<std::string_view, std::string_view>& tokens,
                   std::string_view end_token) {
    absl::flat_hash_map<std::string_view, std::string_view> owners;
    if (!end_token.empty()) owners.emplace(end_token, "the end token");
    for (const v1::Node* member : members) {
      const std::string_view token = tokens.at(member->name());
      const auto [owner, first] = owners.try_emplace(token, member->name());
      if (first) continue;
      Problem(path,
              absl::StrCat("the token ", Quoted(token), " stands for both ", Quoted(owner->second),
                           " and ", Quoted(member->name()), "; tokens within a router are unique"));
    }
    absl::flat_hash_set<size_t> lengths;
    for (const auto& [token, owner] : owners) lengths.insert(token.size());
    for (const auto& [token, owner] : owners) {
      for (const size_t length : lengths) {
        for (size_t begin = 0; length < token.size() && begin + length <= token.size(); ++begin) {
          const auto inner = owners.find(token.substr(begin, length));
          if (inner == owners.end()) continue;
          Problem(path, absl::StrCat("the token ", Quoted(token), " of ", Quoted(owner),
                                     " contains ", Quoted(inner->first), " of ",
                                     Quoted(inner->second), "; give one another spelling"));
        }
      }
    }
  }

  void CheckEdge(int i) {
    const v1::Edge& edge = spec_.edges(i);
    const std::string path = absl::StrCat("spec.edges[", i, "]");
    const bool known = CheckReference(path + ".from", edge.from());
    CheckReference(path + ".to", edge.to());
    if (edge.measure() != v1::CONFIDENCE_MEASURE_UNSPECIFIED &&
        edge.on() != v1::EDGE_CONDITION_LOW_CONFIDENCE) {
      Problem(path + ".measure", "'measure' goes with 'on: lowConfidence' only; remove it");
    }
    if (edge.has_below() && edge.on() != v1::EDGE_CONDITION_LOW_CONFIDENCE) {
      Problem(path + ".below", "'below' goes with 'on: lowConfidence' only; remove it");
    }
    if (!known) return;
    const v1::Node& from = spec_.nodes(nodes_.at(edge.from()));
    for (const std::string& name : NodesNamedIn(edge.input())) {
      CheckReference(path + ".input", name);
    }
    const bool is_tool = from.has_tool() || from.has_retriever() || from.has_sql();
    if (is_tool && edge.on() == v1::EDGE_CONDITION_LOW_CONFIDENCE) {
      Warning(path, absl::StrCat("never taken: the confidence of the tool '", from.name(),
                                 "' is always 1"));
    }
    // Edges without bound shadow later ones whose condition implies theirs.
    auto& always = always_taken_[edge.from()];
    const bool success =
        edge.on() == v1::EDGE_CONDITION_SUCCESS || edge.on() == v1::EDGE_CONDITION_LOW_CONFIDENCE;
    if (always.contains(success ? v1::EDGE_CONDITION_SUCCESS : v1::EDGE_CONDITION_ERROR)) {
      Warning(path, absl::StrCat("never taken: an earlier edge from '", edge.from(),
                                 "' always applies first; put this one before it"));
    }
    if (edge.max_visits() == 0) always.insert(edge.on());
  }

  // What bounds the time of everything else.
  void CheckSizes() {
    int64_t examples = 0;
    int64_t example_bytes = 0;
    int64_t members = 0;
    for (const v1::Node& node : spec_.nodes()) {
      examples += node.examples_size() + node.learned_examples_size();
      for (const std::string& example : node.examples()) {
        example_bytes += static_cast<int64_t>(example.size());
      }
      for (const std::string& example : node.learned_examples()) {
        example_bytes += static_cast<int64_t>(example.size());
      }
      members += node.router().members_size();
    }
    if (examples > kMaxExamples || example_bytes > kMaxExampleBytes) {
      Problem("spec.nodes", absl::StrCat("the nodes have ", examples, " examples of ",
                                         example_bytes, " bytes together; at most ", kMaxExamples,
                                         " of ", kMaxExampleBytes, " bytes are allowed"));
    }
    if (members > kMaxMembers) {
      Problem("spec.nodes",
              absl::StrCat("the routers have ", members, " members together; at most ", kMaxMembers,
                           " are allowed"));
    }
    sizes_allowed_ = examples <= kMaxExamples && members <= kMaxMembers;
  }

  int Index(const std::string& name) const { return nodes_.at(name); }

  // Arcs into members and the fallback.
  std::vector<Arc> HandOvers(int node) const {
    std::vector<Arc> arcs;
    const v1::RouterNode& router = spec_.nodes(node).router();
    const v1::ChoiceNode& choice = spec_.nodes(node).choice();
    for (int i = 0; i < choice.members_size() && HandsOver(spec_.nodes(node)); ++i) {
      arcs.push_back(
          {Index(choice.members(i)), absl::StrCat(NodePath(node), ".choice.members[", i, "]")});
    }
    for (int i = 0; i < router.members_size(); ++i) {
      arcs.push_back(
          {Index(router.members(i)), absl::StrCat(NodePath(node), ".router.members[", i, "]")});
    }
    if (!router.fallback().empty()) {
      arcs.push_back({Index(router.fallback()), NodePath(node) + ".router.fallback"});
    }
    return arcs;
  }

  std::string Names(const std::vector<int>& cycle) const {
    std::vector<std::string_view> names;
    for (const int node : cycle) names.push_back(spec_.nodes(node).name());
    names.push_back(names.front());
    return absl::StrJoin(names, " -> ",
                         [](std::string* out, std::string_view name) { out->append(name); });
  }

  void CheckCycles() {
    std::vector<std::vector<Arc>> arcs(spec_.nodes_size());
    for (int i = 0; i < spec_.nodes_size(); ++i) {
      if (HandsOver(spec_.nodes(i))) arcs[i] = HandOvers(i);
    }
    for (const Cycle& cycle : FindCycles(arcs)) {
      Problem(cycle.closing_path, absl::StrCat("a router would hand over to itself: ",
                                               Names(cycle.nodes), "; take one hop out"));
    }
    if (!problems_.empty()) return;
    for (int i = 0; i < spec_.edges_size(); ++i) {
      const v1::Edge& edge = spec_.edges(i);
      if (edge.max_visits() > 0) continue;
      arcs[Index(edge.from())].push_back({Index(edge.to()), absl::StrCat("spec.edges[", i, "]")});
    }
    for (const Cycle& cycle : FindCycles(arcs)) {
      Problem(cycle.closing_path,
              absl::StrCat("a query could go round without end: ", Names(cycle.nodes),
                           "; set 'maxVisits' on an edge of the cycle"));
    }
  }

  void CheckReachability() {
    std::vector<std::vector<int>> next(spec_.nodes_size());
    for (int i = 0; i < spec_.nodes_size(); ++i) {
      if (!spec_.nodes(i).has_router()) continue;
      for (const Arc& arc : HandOvers(i)) next[i].push_back(arc.to);
    }
    for (int i = 0; i < spec_.nodes_size(); ++i) {
      for (const std::string& inner : InnerNodes(spec_.nodes(i))) next[i].push_back(Index(inner));
    }
    for (const v1::Edge& edge : spec_.edges()) {
      next[Index(edge.from())].push_back(Index(edge.to()));
    }
    std::vector<bool> reached(spec_.nodes_size());
    std::vector<int> open = {Index(spec_.entry())};
    reached[open.front()] = true;
    while (!open.empty()) {
      const int node = open.back();
      open.pop_back();
      for (const int to : next[node]) {
        if (!reached[to]) open.push_back(to);
        reached[to] = true;
      }
    }
    for (int i = 0; i < spec_.nodes_size(); ++i) {
      if (reached[i]) continue;
      Problem(NodePath(i) + ".name",
              absl::StrCat("no query can reach the node '", spec_.nodes(i).name(),
                           "' from the entry '", spec_.entry(),
                           "'; make it a member of a router, vote, verifier or choice or the "
                           "target of an edge"));
    }
  }

  void CheckSteps() {
    const int steps = WorstCaseSteps(graph_);
    if (steps <= spec_.limits().max_steps()) return;
    Warning("spec.limits.max_steps",
            absl::StrCat("a query may want to enter up to ", steps,
                         " nodes; limits.maxSteps ends it after ", spec_.limits().max_steps()));
  }

  void CheckUnusedModels() {
    for (int i = 0; i < spec_.models_size(); ++i) {
      if (used_models_.contains(spec_.models(i).name())) continue;
      Warning(absl::StrCat("spec.models[", i, "].name"),
              absl::StrCat("no node uses the model ", Quoted(spec_.models(i).name())));
    }
  }

  const v1::GraphSpec& spec_;
  const v1::Graph& graph_;
  bool sizes_allowed_ = true;
  bool references_exist_ = true;
  absl::flat_hash_map<std::string, int> models_;
  absl::flat_hash_map<std::string, int> nodes_;
  absl::flat_hash_set<std::string> used_models_;
  absl::flat_hash_map<std::string, absl::flat_hash_set<int>> always_taken_;
  std::vector<GraphProblem> problems_;
  std::vector<GraphProblem> warnings_;
};

}  // namespace

std::vector<GraphProblem> ValidateGraph(const v1::Graph& graph) { return Validator(graph).Run(); }

}  // namespace octogate::router

#include "gateway/octoctl/graph_view.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <system_error>
#include <vector>

#include "absl/status/status.h"

namespace octogate::octoctl {
namespace {

using v1::Edge;
using v1::Graph;
using v1::Node;

std::string EdgeLabel(const Edge& edge) {
  std::string label;
  switch (edge.on()) {
    case v1::EDGE_CONDITION_SUCCESS:
      label = "on success";
      break;
    case v1::EDGE_CONDITION_ERROR:
      label = "on error";
      break;
    case v1::EDGE_CONDITION_LOW_CONFIDENCE: {
      char text[48];
      std::snprintf(text, sizeof(text), "on confidence under %.2g", edge.below());
      label = text;
      if (edge.measure() == v1::CONFIDENCE_MEASURE_MINIMUM) label += " (minimum)";
      if (edge.measure() == v1::CONFIDENCE_MEASURE_ENTROPY) label += " (entropy)";
      if (edge.measure() == v1::CONFIDENCE_MEASURE_EXPECTED_ACCURACY) {
        label += " (expected accuracy)";
      }
      break;
    }
    default:
      label = "?";
  }
  if (edge.max_visits() > 1) label += ", up to " + std::to_string(edge.max_visits()) + " times";
  return label;
}

std::string Summary(const Node& node) {
  switch (node.kind_case()) {
    case Node::kModel:
      return "model " + node.model().model();
    case Node::kTool:
      return "tool " + node.tool().tool();
    case Node::kRetriever:
      return "links of " + node.retriever().catalog() +
             (node.retriever().table_node().empty()
                  ? ""
                  : ", tables chosen by " + node.retriever().table_node());
    case Node::kSql:
      return (node.sql().check_only() ? "check of SQL on " : "SQL on ") + node.sql().catalog();
    case Node::kReplay:
      return "replay of " + node.replay().recording();
    case Node::kVote:
      return "vote of " +
             std::to_string(node.vote().members_size() * std::max(1, node.vote().samples()));
    case Node::kVerify:
      return node.verify().answer() + ", judged by " + node.verify().judge();
    case Node::kChoice:
      return ChoiceGoalText(node.choice()) + " of " + std::to_string(node.choice().members_size()) +
             (node.choice().max_calls() > 1 ? ", up to 2 calls" : "");
    case Node::kRouter: {
      std::string heads;
      for (const auto& head : node.router().heads()) {
        char text[48];
        const char* const format = head.has_coverage() ? "%s%s, coverage %.3g"
                                   : head.has_risk()   ? "%s%s, risk %.2g"
                                                       : "%s%s ≥ %.2g";
        std::snprintf(text, sizeof(text), format, heads.empty() ? "" : ", then ", HeadName(head),
                      head.has_coverage() ? head.coverage()
                      : head.has_risk()   ? head.risk()
                                          : head.threshold());
        heads += text;
      }
      return "router, " + heads;
    }
    default:
      return "node";
  }
}

class TextTree {
 public:
  TextTree(const Graph& graph, const Style& style) : graph_(graph), style_(style) {
    for (const Node& node : graph.spec().nodes()) nodes_[node.name()] = &node;
  }

  std::string Draw() {
    out_ << style_.bold << graph_.metadata().name() << style_.reset << "\n";
    FindHomes();
    DrawNode("", {graph_.spec().entry(), "entry"}, "", true);
    return out_.str();
  }

 private:
  struct Branch {
    std::string target;
    std::string label;
  };

  std::vector<Branch> Branches(const Node& node) const {
    std::vector<Branch> branches;
    bool fallback_is_member = false;
    for (const std::string& member : node.router().members()) {
      const bool fallback = member == node.router().fallback();
      fallback_is_member |= fallback;
      const auto found = nodes_.find(member);
      const std::string token = found != nodes_.end() && !found->second->token().empty()
                                    ? found->second->token()
                                    : "<fn:" + member + ">";
      branches.push_back({member, fallback ? token + ", fallback" : token});
    }
    if (node.has_router() && !fallback_is_member) {
      branches.push_back({node.router().fallback(), "fallback"});
    }
    for (const Edge& edge : graph_.spec().edges()) {
      if (edge.from() == node.name()) branches.push_back({edge.to(), EdgeLabel(edge)});
    }
    for (const std::string& member : node.vote().members()) {
      branches.push_back({member, "votes"});
    }
    for (const std::string& member : node.choice().members()) {
      branches.push_back({member, "may be chosen"});
    }
    if (!node.retriever().table_node().empty()) {
      branches.push_back({node.retriever().table_node(), "chooses tables"});
    }
    if (node.has_verify()) {
      branches.push_back({node.verify().answer(), "answers"});
      branches.push_back({node.verify().judge(), "judges"});
    }
    return branches;
  }

  // Every node is unfolded where it is met first, level by level.
  void FindHomes() {
    std::deque<std::string> queue = {graph_.spec().entry()};
    homes_[queue.front()] = "";
    while (!queue.empty()) {
      const std::string name = queue.front();
      queue.pop_front();
      const auto found = nodes_.find(name);
      if (found == nodes_.end()) continue;
      for (const Branch& branch : Branches(*found->second)) {
        if (homes_.emplace(branch.target, name).second) queue.push_back(branch.target);
      }
    }
  }

  void DrawNode(const std::string& parent, const Branch& branch, const std::string& indent,
                bool last) {
    out_ << indent << (last ? "└─ " : "├─ ") << style_.dim << OneLine(branch.label, 60)
         << style_.reset << " " << style_.cyan << OneLine(branch.target, 63) << style_.reset;
    const auto found = nodes_.find(branch.target);
    if (found == nodes_.end()) {
      out_ << " (missing)\n";
      return;
    }
    if (homes_[branch.target] != parent || !drawn_.insert(branch.target).second) {
      out_ << "\n";
      return;
    }
    out_ << style_.dim << "  " << Summary(*found->second) << style_.reset << "\n";
    const std::vector<Branch> branches = Branches(*found->second);
    for (size_t i = 0; i < branches.size(); ++i) {
      DrawNode(branch.target, branches[i], indent + (last ? "   " : "│  "),
               i + 1 == branches.size());
    }
  }

  const Graph& graph_;
  const Style& style_;
  std::map<std::string, const Node*> nodes_;
  std::map<std::string, std::string> homes_;  // node -> the node under which it is unfolded
  std::set<std::string> drawn_;
  std::ostringstream out_;
};

// A DOT string; the graph's names and texts come from strangers.
std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : Printable(text)) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (c == '\n') {
      quoted += "\\n";
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

// A folder of our own that is removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "octoctl-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace

std::string ChoiceGoalText(const octogate::v1::ChoiceNode& choice) {
  char text[64];
  switch (choice.policy()) {
    case v1::CHOICE_POLICY_CHEAPEST_ABOVE:
      std::snprintf(text, sizeof(text), "cheapest that is right with %.3g", choice.tolerance());
      return text;
    case v1::CHOICE_POLICY_FASTEST_ABOVE:
      std::snprintf(text, sizeof(text), "fastest that is right with %.3g", choice.quality());
      return text;
    default:
      std::snprintf(text, sizeof(text), "best under %.6g", choice.budget());
      return text;
  }
}

const char* HeadName(const octogate::v1::Head& head) {
  return head.has_lexical() ? "lexical" : head.has_encoder() ? "encoder" : "causal";
}

std::string GraphAsText(const Graph& graph, const Style& style) {
  return TextTree(graph, style).Draw();
}

std::string GraphAsDot(const Graph& graph) {
  std::ostringstream out;
  out << "digraph " << Quote(graph.metadata().name()) << " {\n"
      << "  rankdir=LR;\n"
      << "  node [fontname=\"sans-serif\", fontsize=11, style=filled, color=\"#57606a\"];\n"
      << "  edge [fontname=\"sans-serif\", fontsize=9, color=\"#57606a\"];\n";
  for (const Node& node : graph.spec().nodes()) {
    const char* shape = "box";
    const char* fill = "#ddf4ff";
    if (node.has_router()) {
      shape = "diamond";
      fill = "#fff8c5";
    } else if (node.has_tool()) {
      shape = "ellipse";
      fill = "#dafbe1";
    }
    out << "  " << Quote(node.name()) << " [shape=" << shape << ", fillcolor=\"" << fill
        << "\", label=" << Quote(node.name() + "\n" + Summary(node))
        << ", tooltip=" << Quote(node.description()) << "];\n";
    for (const std::string& member : node.router().members()) {
      const bool fallback = member == node.router().fallback();
      out << "  " << Quote(node.name()) << " -> " << Quote(member)
          << (fallback ? " [label=\"fallback\"]" : "") << ";\n";
    }
    bool listed = !node.has_router();
    for (const std::string& member : node.router().members()) {
      listed |= member == node.router().fallback();
    }
    if (!listed) {
      out << "  " << Quote(node.name()) << " -> " << Quote(node.router().fallback())
          << " [label=\"fallback\"];\n";
    }
  }
  for (const Edge& edge : graph.spec().edges()) {
    out << "  " << Quote(edge.from()) << " -> " << Quote(edge.to())
        << " [style=dashed, label=" << Quote(EdgeLabel(edge)) << "];\n";
  }
  out << "  octogate_entry [shape=point, label=\"\", xlabel=\"entry\"];\n"
      << "  octogate_entry -> " << Quote(graph.spec().entry()) << ";\n}\n";
  return out.str();
}

absl::StatusOr<std::string> GraphAsSvg(const Graph& graph) {
  const TemporaryFolder folder;
  if (folder.path().empty()) return absl::UnavailableError("cannot make a temporary folder");
  const std::filesystem::path dot = folder.path() / "graph.dot";
  const std::filesystem::path svg = folder.path() / "graph.svg";
  std::ofstream(dot, std::ios::binary) << GraphAsDot(graph);
  // The command line holds nothing that came from the graph.
  const std::string command =
      "timeout 20 dot -Tsvg '" + dot.string() + "' -o '" + svg.string() + "' 2>/dev/null";
  const int status = std::system(command.c_str());  // NOLINT(concurrency-mt-unsafe)
  const int code = status >= 0 ? (status >> 8) & 0xFF : -1;
  if (code == 127) {
    return absl::FailedPreconditionError(
        "SVG is drawn by Graphviz, which is not installed: apt install graphviz, or use -o dot");
  }
  if (code == 124) return absl::DeadlineExceededError("Graphviz took more than 20 s; use -o dot");
  if (code != 0) return absl::InternalError("Graphviz failed; -o dot shows what it was given");
  std::ostringstream content;
  content << std::ifstream(svg, std::ios::binary).rdbuf();
  return content.str();
}

}  // namespace octogate::octoctl

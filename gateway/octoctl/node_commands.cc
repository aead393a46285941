#include <iostream>
#include <string>

#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/graph_view.h"

namespace octogate::octoctl {
namespace {

std::string StateName(v1::NodeState state) {
  switch (state) {
    case v1::NODE_STATE_READY:
      return "Ready";
    case v1::NODE_STATE_LOADING:
      return "Loading";
    case v1::NODE_STATE_DRAINING:
      return "Draining";
    case v1::NODE_STATE_UNAVAILABLE:
      return "Unavailable";
    default:
      return "Unknown";
  }
}

std::string KindName(const v1::Node& node) {
  const auto* kind = v1::Node::descriptor()->FindFieldByNumber(node.kind_case());
  return kind == nullptr ? "unknown" : kind->json_name();
}

std::string Token(const v1::Node& node) {
  return node.token().empty() ? "<fn:" + node.name() + ">" : node.token();
}

std::string ReadyReplicas(const v1::NodeStatus& status) {
  if (status.replicas().empty()) return "";
  int ready = 0;
  for (const v1::ReplicaStatus& replica : status.replicas()) ready += replica.breaker() == "closed";
  return std::to_string(ready) + "/" + std::to_string(status.replicas_size());
}

grpc::Status ListNodes(Connection& connection, const std::string& name,
                       v1::ListNodesResponse& response) {
  v1::ListNodesRequest request;
  request.set_name(name);
  return connection.admin().ListNodes(connection.Context().get(), request, &response);
}

}  // namespace

ExitStatus GetNodes(Connection& connection, const std::string& name, Format format) {
  v1::ListNodesResponse response;
  if (auto status = ListNodes(connection, name, response); !status.ok()) {
    return connection.Report(status);
  }
  if (PrintStructured(response, format)) return kOk;
  if (format == Format::kName) {
    for (const v1::NodeStatus& node : response.nodes()) std::cout << node.node().name() << "\n";
    return kOk;
  }
  const bool wide = format == Format::kWide;
  std::vector<std::string> headings = {"NAME",     "KIND",    "STATE", "TOKEN",
                                       "REPLICAS", "QUERIES", "ERRORS"};
  if (wide) headings.insert(headings.end(), {"IN-FLIGHT", "EXAMPLES", "DESCRIPTION", "REASON"});
  Table table(headings);
  for (const v1::NodeStatus& status : response.nodes()) {
    const v1::Node& node = status.node();
    std::vector<std::string> row = {node.name(),
                                    KindName(node),
                                    StateName(status.state()),
                                    Token(node),
                                    ReadyReplicas(status),
                                    std::to_string(status.queries()),
                                    std::to_string(status.errors())};
    if (wide) {
      row.insert(row.end(), {std::to_string(status.in_flight()),
                             std::to_string(node.examples_size() + node.learned_examples_size()),
                             OneLine(node.description(), 60), status.reason()});
    }
    table.Add(std::move(row));
  }
  table.Print(std::cout);
  return kOk;
}

ExitStatus DescribeNode(Connection& connection, const std::string& name, Format format) {
  v1::ListNodesResponse response;
  if (auto status = ListNodes(connection, name, response); !status.ok()) {
    return connection.Report(status);
  }
  if (response.nodes().empty()) {
    std::cerr << "octoctl: no node '" << Printable(name) << "'; see 'octoctl get nodes'\n";
    return kNotFound;
  }
  if (PrintStructured(response.nodes(0), format)) return kOk;
  const v1::NodeStatus& status = response.nodes(0);
  const v1::Node& node = status.node();
  const auto line = [](const std::string& key, const std::string& value) {
    std::cout << key << ":" << std::string(key.size() < 13 ? 13 - key.size() : 1, ' ')
              << Printable(value) << "\n";
  };
  line("Name", node.name());
  line("Kind", KindName(node));
  line("Description", node.description());
  line("Token", Token(node));
  line("State",
       StateName(status.state()) + (status.reason().empty() ? "" : " (" + status.reason() + ")"));
  line("Queries", std::to_string(status.queries()) + ", " + std::to_string(status.errors()) +
                      " failed, " + std::to_string(status.in_flight()) + " now");
  if (node.has_model()) {
    line("Model", node.model().model());
    line("System", node.model().system());
    line("Max tokens", std::to_string(node.model().max_tokens()));
  }
  if (node.has_tool()) {
    line("Tool", node.tool().tool());
    for (const auto& [key, value] : node.tool().parameters()) line("  " + key, value);
  }
  if (node.has_replay()) {
    line("Recording",
         node.replay().recording() + (node.replay().keep_time() ? ", in the recorded time" : ""));
  }
  if (node.has_vote()) {
    const v1::VoteNode& vote = node.vote();
    std::string members;
    for (const std::string& member : vote.members()) {
      members += (members.empty() ? "" : ", ") + member;
    }
    line("Members", members);
    line("Answers",
         std::to_string(vote.members_size() * vote.samples()) +
             (vote.parallel() > 0 ? ", " + std::to_string(vote.parallel()) + " at the same time"
                                  : ""));
    if (vote.enough() > 0) line("Settled by", std::to_string(vote.enough()) + " equal answers");
  }
  if (node.has_choice()) {
    const v1::ChoiceNode& choice = node.choice();
    std::string members;
    for (const std::string& member : choice.members()) {
      members += (members.empty() ? "" : ", ") + member;
    }
    line("Members", members);
    line("Policy", ChoiceGoalText(choice));
    line("Calls", choice.max_calls() > 1 ? "up to 2" : "1");
    if (!choice.outcomes().empty()) line("Outcomes", choice.outcomes());
  }
  if (node.has_retriever()) {
    line("Catalog", node.retriever().catalog());
    if (!node.retriever().table_node().empty()) line("Tables", node.retriever().table_node());
  }
  if (node.has_verify()) {
    line("Answer", node.verify().answer());
    line("Judge", node.verify().judge());
    line("Prompt", node.verify().prompt());
  }
  if (node.has_router()) {
    std::string members;
    for (const std::string& member : node.router().members()) {
      members += (members.empty() ? "" : ", ") + member;
    }
    line("Members", members);
    line("Fallback", node.router().fallback());
    for (const v1::Head& head : node.router().heads()) {
      char number[16];
      std::snprintf(number, sizeof(number), "%.3g",
                    head.has_coverage() ? head.coverage()
                    : head.has_risk()   ? head.risk()
                                        : head.threshold());
      line("Head", std::string(HeadName(head)) +
                       (head.has_coverage() ? ", by prediction sets of coverage "
                        : head.has_risk()   ? ", wrong at most in a share of "
                                            : ", from probability ") +
                       number);
    }
  }
  for (const v1::ReplicaStatus& replica : status.replicas()) {
    line("Replica", replica.address() + ", breaker " + replica.breaker() + ", " +
                        std::to_string(replica.in_flight()) + " in flight" +
                        (replica.last_error().empty() ? "" : ", last: " + replica.last_error()));
  }
  if (!node.examples().empty()) std::cout << "Examples:\n";
  for (const std::string& example : node.examples()) {
    std::cout << "  - " << OneLine(example, 120) << "\n";
  }
  if (!node.learned_examples().empty()) std::cout << "Learned examples:\n";
  for (const std::string& example : node.learned_examples()) {
    std::cout << "  - " << OneLine(example, 120) << "\n";
  }
  return kOk;
}

ExitStatus DrainNode(Connection& connection, const std::string& name, bool undo, Format format) {
  v1::DrainNodeRequest request;
  request.set_name(name);
  request.set_undo(undo);
  v1::DrainNodeResponse response;
  const grpc::Status status =
      connection.admin().DrainNode(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  std::cout << "node " << Printable(name) << " is " << StateName(response.node().state()) << ", "
            << response.node().in_flight() << " queries under way\n";
  return kOk;
}

ExitStatus ShowVersion(Connection& connection, bool client_only, Format format) {
  v1::GetServerInfoResponse response;
  if (client_only) {
    std::cout << "octoctl " << OCTOGATE_VERSION << "\n";
    return kOk;
  }
  const grpc::Status status =
      connection.admin().GetServerInfo(connection.Context().get(), {}, &response);
  if (status.ok() && PrintStructured(response, format)) return kOk;
  std::cout << "octoctl " << OCTOGATE_VERSION << "\n";
  if (!status.ok()) return connection.Report(status);
  std::cout << "octogate " << Printable(response.version()) << ", up " << response.uptime_s()
            << " s, graph version " << response.graph_version();
  if (!response.backend().empty()) std::cout << ", " << Printable(response.backend());
  std::cout << "\n";
  return kOk;
}

}  // namespace octogate::octoctl

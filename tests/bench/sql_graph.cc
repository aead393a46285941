#include "tests/bench/sql_graph.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "gateway/manifest_files.h"
#include "router/graph_manifest.h"

namespace octogate::bench {
namespace {

void RemoveCorrection(v1::GraphSpec* spec) {
  const std::set<std::string> gone = {"widen", "correct"};
  auto& nodes = *spec->mutable_nodes();
  nodes.erase(std::remove_if(nodes.begin(), nodes.end(),
                             [&](const v1::Node& node) { return gone.contains(node.name()); }),
              nodes.end());
  auto& edges = *spec->mutable_edges();
  edges.erase(std::remove_if(edges.begin(), edges.end(),
                             [&](const v1::Edge& edge) {
                               return gone.contains(edge.from()) || gone.contains(edge.to());
                             }),
              edges.end());
}

void SetLinking(const SqlVariant& variant, v1::Node* node) {
  v1::LinkSettings& settings = *node->mutable_retriever()->mutable_settings();
  if (variant.token_budget > 0) {
    settings.set_token_budget(variant.token_budget);
    settings.set_max_columns(12);
    settings.set_mode(v1::LINK_MODE_FOCUSED);
    return;
  }
  if (variant.linking == SqlLinking::kWhole) settings.set_token_budget(1'000'000);
  if (variant.linking == SqlLinking::kFocused && node->name() == "link") {
    settings.set_mode(v1::LINK_MODE_FOCUSED);
  }
}

}  // namespace

absl::StatusOr<v1::Graph> SqlGraph(const std::filesystem::path& graphs, const SqlVariant& variant,
                                   const std::string& sqlite, const std::string& model_path) {
  const std::filesystem::path path = graphs / "sql.yaml";
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat(path.string(), ": cannot be read"));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  OCTOGATE_ASSIGN_OR_RETURN(
      const std::string manifest,
      gateway::InlineFiles(text, "sql.yaml", graphs.string(), router::kMaxManifestBytes));
  OCTOGATE_ASSIGN_OR_RETURN(router::GraphManifest parsed,
                            router::ParseGraphManifest(manifest, "sql.yaml"));
  v1::Graph graph = std::move(parsed.graph);
  v1::GraphSpec& spec = *graph.mutable_spec();
  if (spec.models_size() != 1 || spec.catalogs_size() != 1) {
    return absl::FailedPreconditionError("sql.yaml has not one model and one catalog");
  }
  spec.mutable_models(0)->set_path(model_path);
  spec.mutable_catalogs(0)->set_sqlite(sqlite);
  if (!variant.correction) RemoveCorrection(&spec);
  for (v1::Node& node : *spec.mutable_nodes()) {
    if (node.has_model() && !variant.grammar) node.mutable_model()->clear_grammar();
    if (node.has_retriever()) SetLinking(variant, &node);
    if (node.has_sql() && !node.sql().check_only()) {
      node.mutable_sql()->set_format(v1::ROW_FORMAT_JSON);
      node.mutable_sql()->set_max_rows(100'000);
      node.mutable_sql()->set_max_bytes(1 << 20);
    }
  }
  return graph;
}

SqlGateway::SqlGateway(const std::filesystem::path& root, gateway::ModelLoader load_model) {
  gateway::ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.graph.model_root = root.string();
  options.load_model = std::move(load_model);
  auto server = gateway::Server::Start(options, store_.get());
  started_ = server.status();
  if (!server.ok()) return;
  server_ = *std::move(server);
  server_->AwaitRestored(absl::Now() + absl::Seconds(30));
  stub_ = v1::Gateway::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                                   grpc::InsecureChannelCredentials()));
}

absl::Status SqlGateway::Apply(const v1::Graph& graph) {
  OCTOGATE_RETURN_IF_ERROR(started_);
  v1::ApplyGraphRequest request;
  request.set_manifest(router::GraphToYaml(graph));
  return server_->graphs().Apply(request, absl::Now() + absl::Minutes(5)).status();
}

SqlCourse SqlGateway::Ask(const std::string& question, absl::Duration timeout) {
  SqlCourse course;
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  v1::GenerateRequest request;
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(question);
  auto reader = stub_->Generate(&context, request);
  std::string rows;
  bool linked = false;
  v1::GenerateResponse event;
  while (reader->Read(&event)) {
    if (event.has_decision()) {
      course.question_class = event.decision().node();
    } else if (event.has_linked() && !linked) {
      linked = true;
      course.link_tokens = event.linked().link().rendered_tokens();
      course.linked_whole = event.linked().link().scope() == v1::LINK_SCOPE_FULL;
    } else if (event.has_node_entered()) {
      const v1::NodeEntered& entered = event.node_entered();
      if (entered.kind() == "model") ++course.model_calls;
      if (entered.node() == "check") course.statement = entered.input();
    } else if (event.has_tokens() && event.tokens().node() == "run") {
      rows += event.tokens().text();
    } else if (event.has_node_left()) {
      const v1::NodeLeft& left = event.node_left();
      course.milliseconds[left.node()].push_back(static_cast<double>(left.duration_us()) / 1e3);
      if (left.node() == "check") {
        ++course.checks;
        course.valid = left.code() == 0;
        if (!course.valid && course.first_error.empty()) course.first_error = left.error();
      } else if (left.node() == "run") {
        course.executable = left.code() == 0;
      }
    }
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) course.error = status.error_message();
  if (course.executable) {
    absl::StatusOr<SqlRows> parsed = ParseRows(rows);
    course.truncated = !parsed.ok();
    if (parsed.ok()) course.rows = *std::move(parsed);
  }
  return course;
}

}  // namespace octogate::bench

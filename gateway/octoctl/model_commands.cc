#include <cmath>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>

#include "gateway/octoctl/commands.h"

namespace octogate::octoctl {
namespace {

// Three digits, e.g. "0.00521".
std::string Short(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", value);
  return text;
}

std::string MiB(int64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

std::string Seconds(double seconds) {
  return Duration(std::isfinite(seconds) && seconds < 1e9
                      ? static_cast<int64_t>(std::lround(seconds * 1e6))
                      : 0);
}

std::string Joined(const google::protobuf::RepeatedPtrField<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ",") + name;
  return text;
}

std::string KindName(v1::ModelKind kind) {
  switch (kind) {
    case v1::MODEL_KIND_CAUSAL:
      return "causal";
    case v1::MODEL_KIND_ENCODER:
      return "encoder";
    default:
      return "?";
  }
}

std::string ReadyReplicas(const v1::ModelStatus& status) {
  int ready = 0;
  for (const v1::ReplicaStatus& replica : status.replicas()) {
    ready += replica.breaker() == "closed" && replica.has_info() && !replica.info().draining();
  }
  return std::to_string(ready) + "/" + std::to_string(status.replicas_size());
}

// Of the first replica that has said something; the others are meant to be equal.
std::optional<v1::WorkerInfoResponse> InfoOf(const v1::ModelStatus& status) {
  for (const v1::ReplicaStatus& replica : status.replicas()) {
    if (replica.has_info()) return replica.info();
  }
  return std::nullopt;
}

// The shortest and the longest step that was measured.
std::string StepCosts(const v1::WorkerInfoResponse& info) {
  if (info.step_costs().empty()) return "";
  const v1::WorkerStepCost& first = info.step_costs(0);
  const v1::WorkerStepCost& last = info.step_costs(info.step_costs_size() - 1);
  std::string text = std::to_string(first.rows()) + ": " + Seconds(first.seconds());
  if (info.step_costs_size() > 1) {
    text += ", " + std::to_string(last.rows()) + ": " + Seconds(last.seconds());
  }
  return text;
}

std::string StepTerms(const google::protobuf::RepeatedPtrField<v1::WorkerStepTerm>& terms) {
  std::string text;
  for (const v1::WorkerStepTerm& term : terms) {
    text +=
        (text.empty() ? "" : ", ") + std::to_string(term.count()) + ": +" + Seconds(term.seconds());
  }
  return text.empty() ? "not measured" : text;
}

void Line(const std::string& key, const std::string& value) {
  constexpr size_t kWidth = 16;
  std::cout << key << ":" << std::string(key.size() < kWidth ? kWidth - key.size() : 1, ' ')
            << Printable(value) << "\n";
}

void PrintInfo(const v1::WorkerInfoResponse& info) {
  Line("  Backend", info.backend() + ", release " + info.version());
  Line("  Fingerprint", info.fingerprint());
  Line("  Context", std::to_string(info.context_length()) + " tokens");
  Line("  Sequences", std::to_string(info.running()) + " running, " +
                          std::to_string(info.waiting()) + " waiting, " +
                          std::to_string(info.max_sequences()) + " at most");
  Line("  Weights", info.weight_format() +
                        (info.worst_weight_error() > 0
                             ? ", relative error " + Short(info.mean_weight_error()) +
                                   " in the mean, " + Short(info.worst_weight_error()) + " at worst"
                             : ""));
  Line("  KV cache", info.kv_dtype() + ", " + std::to_string(info.pages_used()) + " of " +
                         std::to_string(info.pages_total()) + " pages in use");
  Line("  Prefix cache", std::to_string(info.prefix_hit_tokens()) + " of " +
                             std::to_string(info.prefix_query_tokens()) + " tokens found");
  Line("  Preemptions", std::to_string(info.preemptions()) + ", " +
                            std::to_string(info.preemptions_saved()) + " saved, " +
                            std::to_string(info.preemptions_without_room()) + " without room; " +
                            std::to_string(info.restored_tokens()) + " tokens restored, " +
                            std::to_string(info.recomputed_tokens()) + " computed again");
  Line("  Swap space", info.swap_bytes() == 0 ? "none"
                                              : MiB(info.swap_bytes_used()) + " of " +
                                                    MiB(info.swap_bytes()) + " in use");
  std::string costs;
  for (const v1::WorkerStepCost& cost : info.step_costs()) {
    costs +=
        (costs.empty() ? "" : ", ") + std::to_string(cost.rows()) + ": " + Seconds(cost.seconds());
  }
  Line("  Step by rows", costs.empty() ? "not measured" : costs);
  Line("  By positions", StepTerms(info.step_context_costs()));
  Line("  By sequences", StepTerms(info.step_sequence_costs()));
}

grpc::Status DescribeModels(Connection& connection, const std::string& name,
                            v1::DescribeModelsResponse& response) {
  v1::DescribeModelsRequest request;
  request.set_name(name);
  return connection.admin().DescribeModels(connection.Context().get(), request, &response);
}

ExitStatus GetModelsWide(Connection& connection) {
  v1::DescribeModelsResponse response;
  if (auto status = DescribeModels(connection, "", response); !status.ok()) {
    return connection.Report(status);
  }
  Table table({"NAME", "KIND", "FAMILY", "PARAMETERS", "CONTEXT", "REPLICAS", "NODES", "WEIGHTS",
               "KV", "SEQUENCES", "STEP BY ROWS", "BACKEND"});
  for (const v1::ModelStatus& status : response.models()) {
    const v1::WorkerInfoResponse info = InfoOf(status).value_or(v1::WorkerInfoResponse());
    table.Add({status.model().name(), KindName(info.kind()), info.family(),
               std::to_string(info.parameters()), std::to_string(info.context_length()),
               ReadyReplicas(status), Joined(status.nodes()), info.weight_format(), info.kv_dtype(),
               std::to_string(info.max_sequences()), StepCosts(info), info.backend()});
  }
  table.Print(std::cout);
  return kOk;
}

}  // namespace

ExitStatus GetModels(Connection& connection, Format format) {
  if (format == Format::kWide) return GetModelsWide(connection);
  v1::ListModelsResponse response;
  const grpc::Status status =
      connection.gateway().ListModels(connection.Context().get(), {}, &response);
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  Table table({"NAME", "KIND", "FAMILY", "PARAMETERS", "CONTEXT", "REPLICAS", "NODES"});
  for (const v1::ModelInfo& model : response.models()) {
    if (format == Format::kName) {
      std::cout << model.name() << "\n";
      continue;
    }
    table.Add({model.name(), KindName(model.kind()), model.family(),
               std::to_string(model.parameters()), std::to_string(model.context_length()),
               std::to_string(model.replicas_ready()) + "/" + std::to_string(model.replicas()),
               Joined(model.nodes())});
  }
  if (format != Format::kName) table.Print(std::cout);
  return kOk;
}

ExitStatus DescribeModel(Connection& connection, const std::string& name, Format format) {
  v1::DescribeModelsResponse response;
  if (auto status = DescribeModels(connection, name, response); !status.ok()) {
    return connection.Report(status);
  }
  if (response.models().empty()) {
    std::cerr << "octoctl: no model '" << Printable(name) << "'; see 'octoctl get models'\n";
    return kNotFound;
  }
  if (PrintStructured(response.models(0), format)) return kOk;
  const v1::ModelStatus& status = response.models(0);
  const v1::Model& model = status.model();
  Line("Name", model.name());
  if (!model.path().empty()) Line("Path", model.path());
  if (!model.workers().empty()) Line("Workers", Joined(model.workers()));
  if (!model.weight_format().empty()) Line("Weight format", model.weight_format());
  if (!model.kv_dtype().empty()) Line("KV dtype", model.kv_dtype());
  if (model.threads() > 0) Line("Threads", std::to_string(model.threads()));
  if (model.max_sequences() > 0) Line("Max sequences", std::to_string(model.max_sequences()));
  if (model.max_context() > 0) Line("Max context", std::to_string(model.max_context()));
  Line("Nodes", Joined(status.nodes()));
  if (const auto info = InfoOf(status)) {
    Line("Family", info->family() + ", " + std::to_string(info->parameters()) + " parameters");
  }
  for (const v1::ReplicaStatus& replica : status.replicas()) {
    Line("Replica", replica.address() + ", breaker " + replica.breaker() + ", " +
                        std::to_string(replica.in_flight()) + " in flight" +
                        (replica.last_error().empty() ? "" : ", last: " + replica.last_error()));
    if (replica.has_info()) PrintInfo(replica.info());
  }
  return kOk;
}

}  // namespace octogate::octoctl

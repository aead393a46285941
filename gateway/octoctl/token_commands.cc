#include <cstdio>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/input.h"

namespace octogate::octoctl {
namespace {

std::string Percent(double share) {
  char text[16];
  std::snprintf(text, sizeof(text), "%.1f %%", 100 * share);
  return text;
}

std::string Decimal(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

template <typename Warnings>
void PrintWarnings(const Warnings& warnings) {
  for (const std::string& warning : warnings) {
    std::cerr << "octoctl: warning: " << Printable(warning) << "\n";
  }
}

template <typename Response>
void PrintVersion(const Response& response, bool dry_run) {
  if (response.changes().empty()) {
    std::cout << "unchanged, version " << response.version() << " stays\n";
  } else {
    std::cout << (dry_run ? "valid; would become version " : "applied as version ")
              << response.version() << "\n";
  }
}

void PrintEvaluation(const v1::EvaluateTokensResponse& result) {
  std::cout << "router " << Printable(result.router()) << ", graph version "
            << result.graph_version() << ": " << result.in_scope() << " queries in scope, "
            << result.out_of_scope() << " out of scope\n";
  if (result.in_scope() > 0) {
    std::cout << "accuracy             " << Percent(result.accuracy()) << "\n"
              << "calibration error    " << Decimal(result.calibration_error(), 3) << "\n";
  }
  if (result.out_of_scope() > 0) {
    std::cout << "out-of-scope recall  " << Percent(result.out_of_scope_recall()) << "\n";
  }
  std::cout << "latency              mean " << Duration(static_cast<int64_t>(result.mean_us()))
            << ", p50 " << Duration(result.p50_us()) << ", p99 " << Duration(result.p99_us())
            << "\n\n";
  Table heads({"HEAD", "THRESHOLD", "ASKED", "ERRORS", "DECIDED", "OF THESE RIGHT", "BEST IS RIGHT",
               "CALIBRATION ERROR"});
  for (const v1::HeadEvaluation& head : result.heads()) {
    heads.Add({head.head(), Decimal(head.threshold(), 2), std::to_string(head.asked()),
               std::to_string(head.errors()), std::to_string(head.decided()),
               head.decided() > 0 ? Percent(head.decided_accuracy()) : "-",
               head.asked() > 0 ? Percent(head.accuracy()) : "-",
               head.asked() > 0 ? Decimal(head.calibration_error(), 3) : "-"});
  }
  heads.Print(std::cout);
  if (result.confusions().empty()) return;
  std::cout << "\n";
  Table confusions({"EXPECTED", "ACTUAL", "QUERIES"});
  for (const v1::Confusion& confusion : result.confusions()) {
    confusions.Add({confusion.expected(), confusion.actual(), std::to_string(confusion.queries())});
  }
  confusions.Print(std::cout);
}

}  // namespace

ExitStatus LearnToken(Connection& connection, const TokenOptions& options, Format format) {
  std::string text;
  if (!ReadInput(options.file, kMaxInputBytes, text)) return kUsage;
  std::vector<std::string> queries;
  if (std::string error; !ParseQueries(text, queries, error)) {
    std::cerr << "octoctl: " << Printable(options.file) << ", " << error << "\n";
    return kUsage;
  }
  v1::LearnTokenRequest request;
  request.set_node(options.node);
  request.set_router(options.router);
  request.set_dry_run(options.dry_run);
  request.set_expected_version(options.expected_version);
  for (std::string& query : queries) request.add_examples(std::move(query));
  v1::LearnTokenResponse response;
  grpc::Status status;
  {
    const Progress progress("learning the token of " + Printable(options.node));
    status = connection.admin().LearnToken(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  PrintChanges(response.changes());
  PrintWarnings(response.warnings());
  std::cout << "node " << Printable(options.node)
            << (options.dry_run ? " would learn " : " learned ") << response.learned()
            << " examples, " << response.learned_total() << " in all";
  if (!options.dry_run) std::cout << ", in " << Duration(response.duration_us());
  std::cout << "\n";
  PrintVersion(response, options.dry_run);
  return kOk;
}

ExitStatus ForgetToken(Connection& connection, const TokenOptions& options, Format format) {
  v1::ForgetTokenRequest request;
  request.set_node(options.node);
  request.set_dry_run(options.dry_run);
  request.set_expected_version(options.expected_version);
  v1::ForgetTokenResponse response;
  const grpc::Status status =
      connection.admin().ForgetToken(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  PrintWarnings(response.warnings());
  std::cout << "node " << Printable(options.node)
            << (options.dry_run ? " would forget " : " forgot ") << response.forgotten()
            << " examples\n";
  PrintVersion(response, options.dry_run);
  return kOk;
}

ExitStatus EvaluateTokens(Connection& connection, const TokenOptions& options, Format format) {
  std::string text;
  if (!ReadInput(options.file, kMaxInputBytes, text)) return kUsage;
  std::vector<v1::LabelledQuery> queries;
  if (std::string error; !ParseLabelledQueries(text, queries, error)) {
    std::cerr << "octoctl: " << Printable(options.file) << ", " << error << "\n";
    return kUsage;
  }
  v1::EvaluateTokensRequest request;
  request.set_router(options.router);
  request.set_all_heads(options.all_heads);
  for (v1::LabelledQuery& query : queries) *request.add_queries() = std::move(query);
  v1::EvaluateTokensResponse response;
  grpc::Status status;
  {
    const Progress progress("routing " + std::to_string(queries.size()) + " queries");
    status = connection.admin().EvaluateTokens(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  PrintWarnings(response.warnings());
  PrintEvaluation(response);
  return kOk;
}

}  // namespace octogate::octoctl

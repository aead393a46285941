#include <algorithm>
#include <chrono>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "gateway/octoctl/bench_view.h"
#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/input.h"

namespace octogate::octoctl {
namespace {

// Calls that open the connection and warm caches, and do not count.
constexpr int kWarmUp = 10;

// Routes one query and adds what that took; false, with the status, where the call failed.
bool Measure(Connection& connection, const BenchOptions& options, const std::string& query,
             RouteTimes* times, grpc::Status* status) {
  v1::RouteRequest request;
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(query);
  request.set_node(options.router);
  request.set_tenant(options.tenant);
  v1::RouteResponse response;
  const auto start = std::chrono::steady_clock::now();
  *status = connection.gateway().Route(connection.Context().get(), request, &response);
  if (!status->ok()) return false;
  times->Add(std::chrono::duration_cast<std::chrono::microseconds>(
                 std::chrono::steady_clock::now() - start)
                 .count(),
             response);
  return true;
}

}  // namespace

ExitStatus BenchRoute(Connection& connection, const BenchOptions& options, Format format) {
  std::vector<RouteBenchResult> results;
  std::vector<v1::EvaluateTokensRequest> suites;
  for (const std::string& file : options.suites) {
    std::string text;
    if (!ReadInput(file, kMaxInputBytes, text)) return kUsage;
    std::vector<v1::LabelledQuery> queries;
    if (std::string error; !ParseLabelledQueries(text, queries, error)) {
      std::cerr << "octoctl: " << Printable(file) << ", " << error << "\n";
      return kUsage;
    }
    if (queries.empty()) {
      std::cerr << "octoctl: '" << Printable(file) << "' has no queries; give lines of NODE, a "
                << "tabulator and a query\n";
      return kUsage;
    }
    v1::EvaluateTokensRequest& request = suites.emplace_back();
    request.set_router(options.router);
    for (v1::LabelledQuery& query : queries) *request.add_queries() = std::move(query);
  }
  grpc::Status status;
  for (size_t s = 0; s < suites.size(); ++s) {
    const v1::EvaluateTokensRequest& request = suites[s];
    const std::string name = Printable(options.suites[s]);
    RouteBenchResult& result = results.emplace_back();
    result.suite = options.suites[s];
    {
      const Progress progress(name + ": routing " + std::to_string(request.queries_size()) +
                              " queries");
      status = connection.admin().EvaluateTokens(connection.Context().get(), request,
                                                 &result.evaluation);
    }
    if (!status.ok()) return connection.Report(status);
    const int calls = std::min(request.queries_size(), options.calls);
    const Progress progress(name + ": timing " + std::to_string(calls) + " calls");
    RouteTimes warm;
    for (int i = 0; i < std::min(calls, kWarmUp); ++i) {
      if (!Measure(connection, options, request.queries(i).query(), &warm, &status)) {
        return connection.Report(status);
      }
    }
    for (int i = 0; i < calls; ++i) {
      // Spread over the suite, whose queries of one node often follow one another.
      const int place = static_cast<int>(int64_t{i} * request.queries_size() / calls);
      if (!Measure(connection, options, request.queries(place).query(), &result.times, &status)) {
        return connection.Report(status);
      }
    }
  }
  for (const RouteBenchResult& result : results) {
    for (const std::string& warning : result.evaluation.warnings()) {
      std::cerr << "octoctl: warning: " << Printable(result.suite) << ": " << Printable(warning)
                << "\n";
    }
  }
  if (!PrintStructured(ToStruct(results), format)) PrintTables(results, std::cout);
  return kOk;
}

}  // namespace octogate::octoctl

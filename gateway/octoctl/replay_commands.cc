#include <cstdio>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/input.h"

namespace octogate::octoctl {
namespace {

std::string Decimal(double value, const char* form) {
  char text[48];
  std::snprintf(text, sizeof(text), form, value);
  return text;
}

std::string Share(int part, int whole) {
  return std::to_string(part) + " of " + std::to_string(whole) + " (" +
         Decimal(whole == 0 ? 0 : 100.0 * part / whole, "%.1f") + " %)";
}

void Print(const v1::ReplayTrafficResponse& replay) {
  std::cout << replay.queries() << " queries, " << Share(replay.changed(), replay.queries())
            << " would go elsewhere";
  if (replay.skipped() > 0) std::cout << "; " << replay.skipped() << " traces without a decision";
  std::cout << " (" << Duration(replay.duration_us()) << ")\n";
  const v1::ReplaySide& before = replay.before();
  const v1::ReplaySide& after = replay.after();
  if (before.labelled() > 0) {
    std::cout << "right       " << Share(before.right(), before.labelled()) << " → "
              << Share(after.right(), after.labelled()) << " of those whose node is known\n";
  }
  if (replay.wrong() > 0) {
    std::cout << "wrong       " << replay.wrong() << " by feedback without a better node, "
              << replay.wrong_moved() << " of them would go elsewhere\n";
  }
  if (before.worst_cost() > 0 || after.worst_cost() > 0) {
    std::cout << "worst cost  " << Decimal(before.worst_cost(), "%.6g") << " → "
              << Decimal(after.worst_cost(), "%.6g") << "\n";
  }
  std::cout << "\n";
  Table moves({"FROM", "TO", "QUERIES"});
  for (const v1::ReplayMove& move : replay.moves()) {
    moves.Add({move.from(), move.from() == move.to() ? "(stays)" : move.to(),
               std::to_string(move.queries())});
  }
  moves.Print(std::cout);
  if (replay.changes().empty()) return;
  std::cout << "\n";
  Table changes({"TRACE", "FROM", "P", "TO", "P", "EXPECTED", "QUERY"});
  for (const v1::ReplayChange& change : replay.changes()) {
    changes.Add({change.trace_id().empty() ? "-" : change.trace_id(), change.from(),
                 Decimal(change.from_probability(), "%.3f"), change.to(),
                 Decimal(change.to_probability(), "%.3f"),
                 change.expected().empty() ? "-" : change.expected(), OneLine(change.query(), 60)});
  }
  changes.Print(std::cout);
  if (replay.changes_size() < replay.changed()) {
    std::cout << "… the first " << replay.changes_size() << " of " << replay.changed() << "\n";
  }
}

}  // namespace

ExitStatus Replay(Connection& connection, const ReplayOptions& options, Format format) {
  v1::ReplayTrafficRequest request;
  request.set_version(options.version);
  request.set_tenant(options.tenant);
  request.set_limit(options.limit);
  request.set_changes_limit(options.changes);
  if (!options.graph.empty()) {
    if (!ReadManifest(options.graph, *request.mutable_manifest())) return kUsage;
    request.set_source(SourceName(options.graph));
  }
  if (!options.traces.empty()) {
    std::string text;
    if (!ReadInput(options.traces, kMaxInputBytes, text)) return kUsage;
    std::vector<v1::ReplayQuery> queries;
    std::string error;
    if (!ParseReplayQueries(text, queries, error)) {
      std::cerr << "octoctl: " << Printable(options.traces) << ", " << error << "\n";
      return kUsage;
    }
    if (queries.empty()) {
      std::cerr << "octoctl: '" << Printable(options.traces) << "' has no queries\n";
      return kUsage;
    }
    for (v1::ReplayQuery& query : queries) *request.add_queries() = std::move(query);
  }
  v1::ReplayTrafficResponse response;
  grpc::Status status;
  {
    const Progress progress(options.traces.empty()
                                ? "replaying traces"
                                : "replaying " + std::to_string(request.queries_size()) +
                                      " queries");
    status = connection.admin().ReplayTraffic(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  for (const std::string& warning : response.warnings()) {
    std::cerr << "octoctl: warning: " << Printable(warning) << "\n";
  }
  if (format == Format::kName) {
    for (const v1::ReplayChange& change : response.changes()) {
      if (!change.trace_id().empty()) std::cout << Printable(change.trace_id()) << "\n";
    }
    return kOk;
  }
  Print(response);
  return kOk;
}

}  // namespace octogate::octoctl

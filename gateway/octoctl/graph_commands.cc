#include <cstdio>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/graph_view.h"
#include "gateway/octoctl/input.h"

namespace octogate::octoctl {
namespace {

std::string Cost(double cost) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", cost);
  return text;
}

// "a query takes at most 4 nodes, 3 calls, cost 0.0123, 60 s".
std::string Describe(const v1::QueryBounds& bounds) {
  std::string text = "a query takes at most " + std::to_string(bounds.steps()) + " nodes, " +
                     std::to_string(bounds.calls()) + " calls, ";
  if (bounds.cost() > 0) text += "cost " + Cost(bounds.cost()) + " for what is written, ";
  return text + Duration(bounds.time_ms() * 1000);
}

}  // namespace

void PrintChanges(const google::protobuf::RepeatedPtrField<v1::GraphChange>& changes) {
  const Style style = StandardOutputStyle();
  for (const v1::GraphChange& change : changes) {
    const std::string path = OneLine(change.path(), 200);
    const std::string before = OneLine(change.before(), 200);
    const std::string after = OneLine(change.after(), 200);
    switch (change.kind()) {
      case v1::CHANGE_KIND_ADDED:
        std::cout << style.green << "+ " << path << (after.empty() ? "" : ": ") << after;
        break;
      case v1::CHANGE_KIND_REMOVED:
        std::cout << style.red << "- " << path << (before.empty() ? "" : ": ") << before;
        break;
      default:
        std::cout << style.yellow << "~ " << path << ": " << before << " → " << after;
    }
    std::cout << style.reset << "\n";
  }
}

ExitStatus Apply(Connection& connection, const ApplyOptions& options, Format format) {
  v1::ApplyGraphRequest request;
  if (!ReadManifest(options.file, *request.mutable_manifest())) return kUsage;
  request.set_source(SourceName(options.file));
  request.set_dry_run(options.dry_run);
  request.set_expected_version(options.expected_version);
  v1::ApplyGraphResponse response;
  grpc::Status status;
  {
    const Progress progress("applying " + request.source());
    status = connection.admin().ApplyGraph(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  PrintChanges(response.changes());
  for (const std::string& warning : response.warnings()) {
    std::cerr << "octoctl: warning: " << Printable(warning) << "\n";
  }
  if (response.has_bounds()) std::cout << Describe(response.bounds()) << "\n";
  if (response.changes().empty()) {
    std::cout << "unchanged, version " << response.version() << " stays\n";
  } else if (options.dry_run) {
    std::cout << "valid; would become version " << response.version() << "\n";
  } else {
    std::cout << "applied as version " << response.version() << "\n";
  }
  return kOk;
}

ExitStatus Diff(Connection& connection, const DiffOptions& options, Format format) {
  v1::DiffGraphRequest request;
  request.set_from_version(options.from_version);
  if (options.file.empty()) {
    request.set_to_version(options.to_version);
  } else {
    if (!ReadManifest(options.file, *request.mutable_manifest())) return kUsage;
    request.set_source(SourceName(options.file));
  }
  v1::DiffGraphResponse response;
  const grpc::Status status =
      connection.admin().DiffGraph(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (!PrintStructured(response, format)) PrintChanges(response.changes());
  return response.changes().empty() ? kOk : kDifferent;
}

ExitStatus Rollback(Connection& connection, int64_t version, Format format) {
  v1::RollbackGraphRequest request;
  request.set_version(version);
  v1::RollbackGraphResponse response;
  grpc::Status status;
  {
    const Progress progress("rolling back");
    status = connection.admin().RollbackGraph(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  PrintChanges(response.changes());
  std::cout << "applied as version " << response.version() << "\n";
  return kOk;
}

ExitStatus GetGraph(Connection& connection, int64_t version, Format format) {
  v1::GetGraphRequest request;
  request.set_version(version);
  v1::GetGraphResponse response;
  const grpc::Status status =
      connection.admin().GetGraph(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  const v1::Graph& graph = response.graph();
  switch (format) {
    case Format::kJson:
      std::cout << ToJson(response);
      break;
    case Format::kYaml:  // as it was applied, comments included
      std::cout << Printable(response.manifest());
      break;
    case Format::kName:
      std::cout << "graph/" << graph.metadata().name() << "\n";
      break;
    default: {
      std::vector<std::string> headings = {"NAME", "VERSION", "ENTRY", "NODES", "EDGES", "MODELS"};
      std::vector<std::string> row = {graph.metadata().name(),
                                      std::to_string(response.version()),
                                      graph.spec().entry(),
                                      std::to_string(graph.spec().nodes_size()),
                                      std::to_string(graph.spec().edges_size()),
                                      std::to_string(graph.spec().models_size())};
      if (format == Format::kWide) {
        const v1::QueryBounds& bounds = response.bounds();
        headings.insert(headings.end(), {"MOST-STEPS", "MOST-CALLS", "MOST-COST", "MOST-TIME"});
        row.insert(row.end(), {std::to_string(bounds.steps()), std::to_string(bounds.calls()),
                               Cost(bounds.cost()), Duration(bounds.time_ms() * 1000)});
      }
      Table table(headings);
      table.Add(std::move(row));
      table.Print(std::cout);
    }
  }
  return kOk;
}

ExitStatus GetVersions(Connection& connection, Format format) {
  v1::ListGraphVersionsResponse response;
  const grpc::Status status =
      connection.admin().ListGraphVersions(connection.Context().get(), {}, &response);
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  const bool wide = format == Format::kWide;
  std::vector<std::string> headings = {"VERSION", "GRAPH", "APPLIED", "NODES", "SOURCE"};
  if (wide) headings.emplace_back("SHA-256");
  Table table(headings);
  for (const v1::GraphVersion& version : response.versions()) {
    if (format == Format::kName) {
      std::cout << version.version() << "\n";
      continue;
    }
    std::vector<std::string> row = {
        std::to_string(version.version()) + (version.active() ? " *" : ""), version.name(),
        LocalTime(version.applied_at_ms()), std::to_string(version.nodes()), version.source()};
    if (wide) row.push_back(version.digest());
    table.Add(std::move(row));
  }
  if (format != Format::kName) table.Print(std::cout);
  return kOk;
}

ExitStatus View(Connection& connection, int64_t version, Picture picture,
                const std::string& out_file) {
  v1::GetGraphRequest request;
  request.set_version(version);
  v1::GetGraphResponse response;
  const grpc::Status status =
      connection.admin().GetGraph(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  std::string drawing;
  if (picture == Picture::kText) {
    drawing = GraphAsText(response.graph(), out_file.empty() ? StandardOutputStyle() : Style{});
  } else if (picture == Picture::kDot) {
    drawing = GraphAsDot(response.graph());
  } else {
    auto svg = GraphAsSvg(response.graph());
    if (!svg.ok()) {
      std::cerr << "octoctl: " << std::string(svg.status().message()) << "\n";
      return kFailed;
    }
    drawing = *std::move(svg);
  }
  if (out_file.empty()) {
    std::cout << drawing;
    return kOk;
  }
  std::ofstream file(out_file, std::ios::binary);
  file << drawing;
  file.close();
  if (!file) {
    std::cerr << "octoctl: cannot write '" << out_file << "'\n";
    return kFailed;
  }
  return kOk;
}

}  // namespace octogate::octoctl

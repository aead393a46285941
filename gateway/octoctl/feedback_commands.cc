#include <iostream>
#include <string>

#include "gateway/octoctl/commands.h"

namespace octogate::octoctl {

ExitStatus ListFeedback(Connection& connection, const FeedbackOptions& options, Format format) {
  v1::ListFeedbackRequest request;
  request.set_tenant(options.tenant);
  v1::ListFeedbackResponse response;
  const grpc::Status status =
      connection.admin().ListFeedback(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  Table table({"TRACE", "GIVEN", "TENANT", "VERDICT", "NODE", "BETTER", "QUERY"});
  for (const v1::FeedbackEntry& entry : response.entries()) {
    if (format == Format::kName) {
      std::cout << Printable(entry.trace_id()) << "\n";
      continue;
    }
    table.Add({entry.trace_id(), LocalTime(entry.given_at_ms()), entry.tenant(),
               entry.verdict() == v1::VERDICT_RIGHT ? "right" : "wrong", entry.node(),
               entry.better_node().empty() ? "-" : entry.better_node(),
               OneLine(entry.query(), 60)});
  }
  if (format == Format::kName) return kOk;
  table.Print(std::cout);
  if (response.total() > response.entries_size()) {
    std::cout << "… the newest " << response.entries_size() << " of " << response.total() << "\n";
  }
  return kOk;
}

ExitStatus GiveFeedback(Connection& connection, const FeedbackOptions& options, Format format) {
  if ((options.verdict == "better") == options.node.empty()) {
    std::cerr << (options.node.empty()
                      ? "octoctl: 'better' needs the node that should have answered\n"
                      : "octoctl: only 'better' goes with a node\n");
    return kUsage;
  }
  v1::FeedbackRequest request;
  request.set_trace_id(options.trace_id);
  request.set_verdict(options.verdict == "right" ? v1::VERDICT_RIGHT : v1::VERDICT_WRONG);
  request.set_better_node(options.node);
  request.set_tenant(options.tenant);
  v1::FeedbackResponse response;
  const grpc::Status status =
      connection.gateway().Feedback(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (!PrintStructured(response, format)) {
    std::cout << "kept; it changes nothing until 'octoctl feedback promote'\n";
  }
  return kOk;
}

ExitStatus PromoteFeedback(Connection& connection, const FeedbackOptions& options, Format format) {
  v1::PromoteFeedbackRequest request;
  request.set_tenant(options.tenant);
  request.set_node(options.node);
  for (const std::string& id : options.trace_ids) request.add_trace_ids(id);
  request.set_dry_run(options.dry_run);
  request.set_expected_version(options.expected_version);
  v1::PromoteFeedbackResponse response;
  grpc::Status status;
  {
    const Progress progress("learning from feedback");
    status = connection.admin().PromoteFeedback(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  PrintChanges(response.changes());
  for (const std::string& warning : response.warnings()) {
    std::cerr << "octoctl: warning: " << Printable(warning) << "\n";
  }
  std::cout << (options.dry_run ? "would promote " : "promoted ") << response.promoted()
            << " entries, " << response.learned() << " new examples\n";
  if (response.changes().empty()) {
    std::cout << "unchanged, version " << response.version() << " stays\n";
  } else {
    std::cout << (options.dry_run ? "valid; would become version " : "applied as version ")
              << response.version() << "\n";
  }
  return kOk;
}

}  // namespace octogate::octoctl

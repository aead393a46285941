#include <iostream>
#include <iterator>
#include <string>
#include <utility>

#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/explanation_view.h"
#include "gateway/octoctl/input.h"
#include "gateway/octoctl/trace_view.h"

namespace octogate::octoctl {
namespace {

constexpr size_t kMaxGrammarBytes = size_t{256} << 10;

std::string QueryText(const std::string& argument) {
  if (argument != "-") return argument;
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

template <typename Request>
void AddQuery(const QueryOptions& options, Request& request) {
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(QueryText(options.query));
  request.set_node(options.node);
  request.set_tenant(options.tenant);
  request.set_session(options.session);
}

void PrintWarnings(const v1::ExplainDecisionResponse& explanation) {
  for (const std::string& warning : explanation.warnings()) {
    std::cerr << "octoctl: warning: " << Printable(warning) << "\n";
  }
}

// "shell 0.97 (lexical was 0.97 sure, 0.80 needed)": which node a router chose
// and why, and what it made of the query if it rewrote it.
std::string Summary(const v1::Decision& decision, const std::string& query) {
  char probability[16];
  std::snprintf(probability, sizeof(probability), " %.2f", decision.probability());
  std::string summary =
      OneLine(decision.node(), 63) + probability + " (" + OneLine(decision.reason(), 200) + ")";
  if (!decision.argument().empty() && decision.argument() != query) {
    summary += " with '" + OneLine(decision.argument(), 200) + "'";
  }
  return summary;
}

// Prints what one query streams, in the way that was asked for.
class AnswerPrinter {
 public:
  AnswerPrinter(Format format, bool trace, std::string query)
      : format_(format),
        style_(StandardOutputStyle()),
        trace_(trace),
        query_(std::move(query)),
        view_(style_, std::cout) {}

  void Add(const v1::GenerateResponse& event) {
    if (format_ == Format::kJson || format_ == Format::kYaml) {
      *recorded_.add_events()->mutable_event() = event;
      if (event.has_finished()) recorded_.set_trace_id(event.finished().trace_id());
      return;
    }
    if (trace_) return view_.Add(event);
    if (event.has_decision()) {
      path_ += (path_.empty() ? "" : " → ") + Summary(event.decision(), query_);
    } else if (event.has_edge_taken()) {
      path_ += " → " + OneLine(event.edge_taken().to(), 63);
    } else if (event.has_tokens()) {
      const std::string text = Printable(event.tokens().text());
      if (!text.empty()) ended_line_ = text.back() == '\n';
      std::cout << text << std::flush;
    } else if (event.has_finished()) {
      if (event.finished().has_cached()) {
        const v1::CachedAnswer& cached = event.finished().cached();
        path_ = "kept answer of " + OneLine(event.finished().node(), 63) + ", " +
                Duration(cached.age_ms() * 1000) + " old";
        if (cached.query() != query_) path_ += ", to '" + OneLine(cached.query(), 200) + "'";
      }
      if (!ended_line_) std::cout << "\n";
      std::cout << std::flush;
      std::cerr << style_.dim << "— " << path_ << ", " << Duration(event.finished().duration_us());
      if (event.finished().speculation().drafted_tokens() > 0) {
        std::cerr << ", " << TokensAStep(event.finished().speculation());
      }
      std::cerr << style_.reset << "\n";
    }
  }

  void End(const grpc::Status& status) {
    if (format_ == Format::kJson || format_ == Format::kYaml) {
      recorded_.set_code(status.error_code());
      recorded_.set_error(status.error_message());
      PrintStructured(recorded_, format_);
    } else if (!status.ok() && !ended_line_) {
      std::cout << std::endl;
    }
  }

 private:
  const Format format_;
  const Style style_;
  const bool trace_;
  const std::string query_;
  TraceView view_;
  v1::Trace recorded_;
  std::string path_;
  bool ended_line_ = true;
};

// What the answer is limited to. False, and said so, where a file cannot be read.
bool AddGrammar(const QueryOptions& options, v1::GenerateRequest& request) {
  if (options.json) request.mutable_grammar()->mutable_json();
  const bool schema = !options.json_schema.empty();
  if (!schema && options.grammar.empty()) return true;
  v1::Grammar& grammar = *request.mutable_grammar();
  return ReadInput(schema ? options.json_schema : options.grammar, kMaxGrammarBytes,
                   schema ? *grammar.mutable_json_schema() : *grammar.mutable_ebnf());
}

}  // namespace

ExitStatus Route(Connection& connection, const QueryOptions& options, Format format) {
  v1::RouteRequest request;
  AddQuery(options, request);
  request.set_all_heads(options.all_heads);
  v1::RouteResponse response;
  grpc::Status status;
  {
    const Progress progress("routing");
    status = connection.gateway().Route(connection.Context().get(), request, &response);
  }
  if (!status.ok()) return connection.Report(status);
  v1::ExplainDecisionResponse explanation;
  // Choices have members, and no reasons beside them.
  if (options.explain && response.decisions_size() > 0 && response.decisions(0).members().empty()) {
    v1::ExplainDecisionRequest explain;
    explain.set_query(request.messages(0).content());
    explain.set_router(options.node);
    explain.set_tenant(options.tenant);
    const Progress progress("explaining");
    status = connection.admin().ExplainDecision(connection.Context().get(), explain, &explanation);
    if (!status.ok()) return connection.Report(status);
  }
  if (options.explain ? PrintStructured(response, "explanation", explanation, format)
                      : PrintStructured(response, format)) {
    return kOk;
  }
  if (format == Format::kName) {
    std::cout << Printable(response.node()) << "\n";
    return kOk;
  }
  PrintWarnings(explanation);
  const Style style = StandardOutputStyle();
  for (int i = 0; i < response.decisions_size(); ++i) {
    PrintDecision(response.decisions(i), style, std::cout);
    if (i < explanation.decisions_size() &&
        explanation.decisions(i).decision().router() == response.decisions(i).router()) {
      PrintExplanation(explanation.decisions(i), style, std::cout);
    }
  }
  std::cout << "└─ would run " << style.cyan << OneLine(response.node(), 63) << style.reset
            << " with: " << OneLine(response.argument(), 200) << "\n";
  return kOk;
}

ExitStatus Ask(Connection& connection, const QueryOptions& options, Format format) {
  v1::GenerateRequest request;
  AddQuery(options, request);
  request.set_max_tokens(options.max_tokens);
  request.set_max_calls(options.max_calls);
  if (options.max_cost) request.set_max_cost(*options.max_cost);
  if (options.quality) request.set_quality(*options.quality);
  if (options.temperature) request.mutable_sampling()->set_temperature(*options.temperature);
  request.set_bypass_cache(options.no_cache);
  if (!AddGrammar(options, request)) return kUsage;
  if (options.seed) request.mutable_sampling()->set_seed(*options.seed);
  const auto context = connection.Context();
  AnswerPrinter printer(format, options.trace, request.messages(0).content());
  auto reader = connection.gateway().Generate(context.get(), request);
  v1::GenerateResponse event;
  bool more;
  {
    const Progress progress("waiting for the first event");
    more = reader->Read(&event);
  }
  for (; more; more = reader->Read(&event)) printer.Add(event);
  const grpc::Status status = reader->Finish();
  printer.End(status);
  return connection.Report(status);
}

ExitStatus Explain(Connection& connection, const std::string& trace_id, Format format) {
  v1::GetTraceRequest request;
  request.set_trace_id(trace_id);
  v1::GetTraceResponse response;
  const grpc::Status status =
      connection.admin().GetTrace(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  v1::ExplainDecisionRequest explain;
  explain.set_trace_id(response.trace().trace_id());
  v1::ExplainDecisionResponse explanation;
  grpc::Status explained;
  {
    const Progress progress("explaining");
    explained =
        connection.admin().ExplainDecision(connection.Context().get(), explain, &explanation);
  }
  // A trace without a decision has nothing to explain; the trace is worth seeing in any case.
  if (!explained.ok() && explained.error_code() != grpc::StatusCode::FAILED_PRECONDITION) {
    std::cerr << "octoctl: warning: no reasons can be given: "
              << OneLine(explained.error_message(), 300) << "\n";
  }
  if (PrintStructured(response, "explanation", explanation, format)) return kOk;
  PrintWarnings(explanation);
  const v1::Trace& trace = response.trace();
  const Style style = StandardOutputStyle();
  std::cout << style.bold << OneLine(trace.query(), 300) << style.reset << "\n"
            << style.dim << LocalTime(trace.started_at_ms()) << ", tenant "
            << OneLine(trace.tenant(), 63) << style.reset << "\n";
  TraceView view(style, std::cout);
  int next = 0;
  for (const v1::TraceEvent& event : trace.events()) {
    view.Add(event.event());
    if (!event.event().has_decision() || next == explanation.decisions_size()) continue;
    const v1::ExplainedDecision& decision = explanation.decisions(next);
    if (decision.recorded_node().empty() ||
        decision.decision().router() != event.event().decision().router()) {
      continue;
    }
    ++next;
    PrintExplanation(decision, style, std::cout);
  }
  if (trace.code() != 0) {
    std::cout << "└─ " << style.red << "failed (" << trace.code() << "): " << style.reset
              << OneLine(trace.error(), 300) << " after " << Duration(trace.duration_us()) << "\n";
  }
  return kOk;
}

ExitStatus GetTraces(Connection& connection, const std::string& node, Format format) {
  v1::ListTracesRequest request;
  request.set_node(node);
  v1::ListTracesResponse response;
  const grpc::Status status =
      connection.admin().ListTraces(connection.Context().get(), request, &response);
  if (!status.ok()) return connection.Report(status);
  if (PrintStructured(response, format)) return kOk;
  Table table({"TRACE", "STARTED", "DURATION", "CODE", "GRAPH", "QUERY"});
  for (const v1::Trace& trace : response.traces()) {
    if (format == Format::kName) {
      std::cout << OneLine(trace.trace_id(), 64) << "\n";
      continue;
    }
    table.Add({trace.trace_id(), LocalTime(trace.started_at_ms()), Duration(trace.duration_us()),
               std::to_string(trace.code()), "v" + std::to_string(trace.graph_version()),
               OneLine(trace.query(), 60)});
  }
  if (format != Format::kName) table.Print(std::cout);
  return kOk;
}

}  // namespace octogate::octoctl

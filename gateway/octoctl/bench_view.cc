#include "gateway/octoctl/bench_view.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cstdio>

#include "gateway/octoctl/output.h"

namespace octogate::octoctl {
namespace {

std::string Formatted(const char* form, double value) {
  char text[48];
  std::snprintf(text, sizeof(text), form, value);
  return text;
}

std::string Percent(double share, int of) {
  return of == 0 ? "-" : Formatted("%.1f %%", 100 * share);
}

}  // namespace

void RouteTimes::Add(int64_t microseconds, const v1::RouteResponse& response) {
  microseconds_.push_back(microseconds);
  sum_us_ += static_cast<double>(microseconds);
  for (const v1::Decision& decision : response.decisions()) {
    decision_us_ += static_cast<double>(decision.duration_us());
    prompt_tokens_ += static_cast<double>(decision.usage().prompt_tokens());
    completion_tokens_ += static_cast<double>(decision.usage().completion_tokens());
  }
}

int64_t RouteTimes::Percentile(int percent) const {
  if (microseconds_.empty()) return 0;
  std::vector<int64_t> sorted = microseconds_;
  const size_t rank = (sorted.size() * static_cast<size_t>(percent) + 99) / 100;
  const auto place = sorted.begin() + static_cast<ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::nth_element(sorted.begin(), place, sorted.end());
  return *place;
}

google::protobuf::Struct ToStruct(const std::vector<RouteBenchResult>& results) {
  google::protobuf::Struct all;
  auto& suites = *(*all.mutable_fields())["suites"].mutable_list_value();
  for (const RouteBenchResult& result : results) {
    auto& fields = *suites.add_values()->mutable_struct_value()->mutable_fields();
    fields["suite"].set_string_value(result.suite);
    // Both are ours: one is always the other.
    (void)google::protobuf::util::JsonStringToMessage(ToJson(result.evaluation),
                                                      fields["evaluation"].mutable_struct_value());
    auto& route = *fields["route"].mutable_struct_value()->mutable_fields();
    route["calls"].set_number_value(static_cast<double>(result.times.calls()));
    route["p50Us"].set_number_value(static_cast<double>(result.times.Percentile(50)));
    route["p99Us"].set_number_value(static_cast<double>(result.times.Percentile(99)));
    route["meanUs"].set_number_value(result.times.mean_us());
    route["decisionUs"].set_number_value(result.times.decision_us());
    route["promptTokens"].set_number_value(result.times.prompt_tokens());
    route["completionTokens"].set_number_value(result.times.completion_tokens());
  }
  return all;
}

void PrintTables(const std::vector<RouteBenchResult>& results, std::ostream& out) {
  if (!results.empty()) {
    out << "router " << Printable(results.front().evaluation.router()) << ", graph version "
        << results.front().evaluation.graph_version() << "\n\n";
  }
  Table suites({"SUITE", "IN SCOPE", "ACCURACY", "CALIBRATION ERROR", "OUT OF SCOPE", "RECALL",
                "ROUTE P50", "P99", "DECISION", "TOKENS"});
  Table heads({"SUITE", "HEAD", "THRESHOLD", "ASKED", "DECIDED", "OF THESE RIGHT"});
  for (const RouteBenchResult& result : results) {
    const v1::EvaluateTokensResponse& evaluation = result.evaluation;
    suites.Add(
        {result.suite, std::to_string(evaluation.in_scope()),
         Percent(evaluation.accuracy(), evaluation.in_scope()),
         evaluation.in_scope() == 0 ? "-" : Formatted("%.3f", evaluation.calibration_error()),
         std::to_string(evaluation.out_of_scope()),
         Percent(evaluation.out_of_scope_recall(), evaluation.out_of_scope()),
         Duration(result.times.Percentile(50)), Duration(result.times.Percentile(99)),
         Duration(static_cast<int64_t>(result.times.decision_us() + 0.5)),
         Formatted("%.3g", result.times.prompt_tokens() + result.times.completion_tokens())});
    for (const v1::HeadEvaluation& head : evaluation.heads()) {
      heads.Add({result.suite, head.head(), Formatted("%.2f", head.threshold()),
                 std::to_string(head.asked()), std::to_string(head.decided()),
                 Percent(head.decided_accuracy(), head.decided())});
    }
  }
  suites.Print(out);
  out << "\n";
  heads.Print(out);
}

}  // namespace octogate::octoctl

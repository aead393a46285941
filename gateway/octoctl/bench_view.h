// What `octoctl bench` has measured, and how it is printed.
#ifndef OCTOGATE_GATEWAY_OCTOCTL_BENCH_VIEW_H_
#define OCTOGATE_GATEWAY_OCTOCTL_BENCH_VIEW_H_

#include <google/protobuf/struct.pb.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "octogate/v1/admin.pb.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::octoctl {

// Calls of Gateway.Route, as the client sees them.
class RouteTimes {
 public:
  // A call that took so long, and what it answered.
  void Add(int64_t microseconds, const v1::RouteResponse& response);

  size_t calls() const { return microseconds_.size(); }
  // The smallest that so many percent of all are not above; 0 without calls.
  int64_t Percentile(int percent) const;
  // Per call, 0 without calls: of the whole call, of the gateway's decisions alone, and the tokens
  // that heads and rewriting have read and written.
  double mean_us() const { return Mean(sum_us_); }
  double decision_us() const { return Mean(decision_us_); }
  double prompt_tokens() const { return Mean(prompt_tokens_); }
  double completion_tokens() const { return Mean(completion_tokens_); }

 private:
  double Mean(double sum) const {
    return calls() == 0 ? 0 : sum / static_cast<double>(microseconds_.size());
  }

  std::vector<int64_t> microseconds_;
  double sum_us_ = 0;
  double decision_us_ = 0;
  double prompt_tokens_ = 0;
  double completion_tokens_ = 0;
};

// What was measured on one file of labelled queries.
struct RouteBenchResult {
  std::string suite;  // Name of the file.
  v1::EvaluateTokensResponse evaluation;
  RouteTimes times;
};

// {"suites": [{"suite", "evaluation", "route"}]}: an EvaluateTokensResponse, and of the calls
// {"calls", "p50Us", "p99Us", "meanUs", "decisionUs", "promptTokens", "completionTokens"}.
google::protobuf::Struct ToStruct(const std::vector<RouteBenchResult>& results);

// A line for each suite, and one for each of its heads.
void PrintTables(const std::vector<RouteBenchResult>& results, std::ostream& out);

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_BENCH_VIEW_H_

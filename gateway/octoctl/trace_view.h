// Draws the course of a query for people, event by event: live for `ask
// --trace`, from a stored trace for `explain`.
//
// Not thread-safe.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_TRACE_VIEW_H_
#define OCTOGATE_GATEWAY_OCTOCTL_TRACE_VIEW_H_

#include <ostream>
#include <string>

#include "gateway/octoctl/output.h"
#include "octogate/v1/gateway.pb.h"

namespace octogate::octoctl {

// A decision with the scores of every head asked.
void PrintDecision(const octogate::v1::Decision& decision, const Style& style, std::ostream& out);

// "2.50 tokens a step": of a model's passes with those that verified drafts.
std::string TokensAStep(const octogate::v1::SpeculationUsage& usage);

class TraceView {
 public:
  TraceView(const Style& style, std::ostream& out) : style_(style), out_(out) {}

  void Add(const octogate::v1::GenerateResponse& event);

 private:
  void EndTokens();

  const Style& style_;
  std::ostream& out_;
  bool in_tokens_ = false;
};

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_TRACE_VIEW_H_

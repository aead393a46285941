// Draws for people why heads chose what they chose.

#ifndef OCTOGATE_GATEWAY_OCTOCTL_EXPLANATION_VIEW_H_
#define OCTOGATE_GATEWAY_OCTOCTL_EXPLANATION_VIEW_H_

#include <ostream>

#include "gateway/octoctl/output.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::octoctl {

// To stand below the decision (PrintDecision) that it is about.
void PrintExplanation(const octogate::v1::ExplainedDecision& explained, const Style& style,
                      std::ostream& out);

}  // namespace octogate::octoctl

#endif  // OCTOGATE_GATEWAY_OCTOCTL_EXPLANATION_VIEW_H_

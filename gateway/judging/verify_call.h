// Runs a verify node: one node's answer, and another one's judgement of it.
#ifndef OCTOGATE_GATEWAY_JUDGING_VERIFY_CALL_H_
#define OCTOGATE_GATEWAY_JUDGING_VERIFY_CALL_H_

#include <memory>
#include <optional>
#include <string_view>

#include "gateway/judging/judged_answer.h"
#include "gateway/model_client.h"

namespace octogate::gateway {

// The confidence that a judge's answer states, as v1::Judgement defines it; nothing where it states
// none. `first_probability` is that of the first token of the answer.
std::optional<double> ReadJudgement(std::string_view answer, v1::Judgement judgement,
                                    double first_probability);

// The answering node gets half of the time, the judge what is left then. Where the answer fails,
// the verifier fails with it; where the judge fails, is drained, or states nothing, the confidence
// is 0 and the event says why. `on_done` comes once, possibly before the function returns, on any
// thread.
std::shared_ptr<ModelCall> StartVerification(const v1::VerifyNode& verify, JudgingContext context,
                                             JudgedCallback on_done);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_JUDGING_VERIFY_CALL_H_

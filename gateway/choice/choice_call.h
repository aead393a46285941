// Runs a choice of two calls: one member's answer and, where it is doubtful, another one's.
#ifndef OCTOGATE_GATEWAY_CHOICE_CHOICE_CALL_H_
#define OCTOGATE_GATEWAY_CHOICE_CHOICE_CALL_H_

#include <memory>

#include "gateway/choice/choice_decision.h"
#include "gateway/judging/judged_answer.h"
#include "gateway/model_client.h"
#include "gateway/query_budget.h"

namespace octogate::gateway {

// Asks the member that `decision` names and, where its answer is right with less than
// `decision.sure`, the other one that router::ChooseSecond names, within what the first has left of
// the budget; a first member that fails counts as one without an answer. The first one gets half
// of the time. Of two answers the one that is more probably right counts, as
// router::AnswerPredictor says by what outcomes say of both; without outcomes the first one, unless
// it is none. The confidence is the probability that the answer is right.
//
// Where every member asked fails, the call fails as the first did. `on_done` comes once, possibly
// before the function returns, on any thread. `decision` is of `node`, and its status is OK.
std::shared_ptr<ModelCall> StartChoice(const NodeRuntime& node, ChoiceDecision decision,
                                       const QueryBudget& budget, JudgingContext context,
                                       JudgedCallback on_done);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CHOICE_CHOICE_CALL_H_

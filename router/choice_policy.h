// Which member a choice takes, given what is expected of each.
#ifndef OCTOGATE_ROUTER_CHOICE_POLICY_H_
#define OCTOGATE_ROUTER_CHOICE_POLICY_H_

#include <span>
#include <vector>

#include "octogate/v1/graph.pb.h"
#include "router/answer_predictor.h"

namespace octogate::router {

// What is expected of one member for a query.
struct MemberEstimate {
  double logit = 0;  // Log-odds of a right answer.
  double cost = 0;
  double duration_ms = 0;  // 0: not known, which is slower than everything that is.
  bool allowed = true;     // Whether it may be chosen.
};

// What is looked for.
struct ChoiceGoal {
  v1::ChoicePolicy policy = v1::CHOICE_POLICY_UNSPECIFIED;
  // The tolerance, budget or quality of the policy.
  double bound = 0;
};

struct Chosen {
  int member = -1;      // Negative: none may be chosen.
  bool reached = true;  // Whether the bound is kept.
};

// By the definitions at v1::ChoicePolicy. Of equally cheap or fast members the more probably right
// one is taken, of equally right ones the cheaper one, then the earlier. Without a member that
// keeps a bound of quality it is the most probably right one; without one in the budget, none.
Chosen ChooseMember(std::span<const MemberEstimate> members, const ChoiceGoal& goal);

// The first of at most two members that are asked: with BEST_UNDER that of the pair whose verdict
// is most probably right among those within the budget together, unless one alone is; otherwise as
// ChooseMember.
Chosen ChooseFirst(std::span<const MemberEstimate> members, const ChoiceGoal& goal,
                   const AnswerPredictor& answers);

// The member that is asked beside `first`, whose answer has the log-odds `first_logit` and has cost
// `spent`: none where that is probably right with `sure` or more, where no other is expected to
// help, or where none of these fits into the budget. Among those that help, as ChooseMember.
Chosen ChooseSecond(std::span<const MemberEstimate> members, const ChoiceGoal& goal,
                    const AnswerPredictor& answers, size_t first, double first_logit, double spent,
                    double sure);

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_CHOICE_POLICY_H_

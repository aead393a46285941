#include "router/choice_policy.h"

#include <limits>
#include <tuple>

#include "router/logistic_fit.h"

namespace octogate::router {
namespace {

double DurationOf(const MemberEstimate& member) {
  return member.duration_ms > 0 ? member.duration_ms : std::numeric_limits<double>::infinity();
}

// Lower is better; of equal ones the earlier counts.
using Rank = std::tuple<double, double, double>;

Rank RankOf(const MemberEstimate& member, v1::ChoicePolicy policy, bool reached) {
  if (reached && policy == v1::CHOICE_POLICY_CHEAPEST_ABOVE) {
    return {member.cost, -member.logit, DurationOf(member)};
  }
  if (reached && policy == v1::CHOICE_POLICY_FASTEST_ABOVE) {
    return {DurationOf(member), -member.logit, member.cost};
  }
  return {-member.logit, member.cost, DurationOf(member)};
}

}  // namespace

Chosen ChooseMember(std::span<const MemberEstimate> members, const ChoiceGoal& goal) {
  const bool by_cost = goal.policy == v1::CHOICE_POLICY_BEST_UNDER;
  for (const bool reached : {true, false}) {
    if (!reached && by_cost) break;
    Chosen best{.member = -1, .reached = reached};
    Rank lowest;
    for (size_t m = 0; m < members.size(); ++m) {
      const MemberEstimate& member = members[m];
      if (!member.allowed) continue;
      const bool keeps = by_cost ? member.cost <= goal.bound : Sigmoid(member.logit) >= goal.bound;
      if (reached && !keeps) continue;
      const Rank rank = RankOf(member, goal.policy, reached);
      if (best.member >= 0 && !(rank < lowest)) continue;
      best.member = static_cast<int>(m);
      lowest = rank;
    }
    if (best.member >= 0) return best;
  }
  return {.member = -1, .reached = false};
}

Chosen ChooseFirst(std::span<const MemberEstimate> members, const ChoiceGoal& goal,
                   const AnswerPredictor& answers) {
  const Chosen single = ChooseMember(members, goal);
  if (goal.policy != v1::CHOICE_POLICY_BEST_UNDER || single.member < 0) return single;
  Chosen best = single;
  double most = members[static_cast<size_t>(single.member)].logit;
  for (size_t a = 0; a < members.size(); ++a) {
    if (!members[a].allowed) continue;
    for (size_t b = 0; b < members.size(); ++b) {
      if (a == b || !members[b].allowed || members[a].cost + members[b].cost > goal.bound) continue;
      const double logit = answers.OfPair(a, members[a].logit, b, members[b].logit);
      if (logit <= most) continue;
      most = logit;
      best.member = static_cast<int>(a);
    }
  }
  return best;
}

Chosen ChooseSecond(std::span<const MemberEstimate> members, const ChoiceGoal& goal,
                    const AnswerPredictor& answers, size_t first, double first_logit, double spent,
                    double sure) {
  if (Sigmoid(first_logit) >= sure) return {};
  std::vector<MemberEstimate> others(members.begin(), members.end());
  for (size_t m = 0; m < others.size(); ++m) {
    others[m].logit = answers.IfAsked(first, first_logit, m, members[m].logit);
    others[m].allowed = members[m].allowed && m != first && others[m].logit > first_logit;
  }
  ChoiceGoal rest = goal;
  if (goal.policy == v1::CHOICE_POLICY_BEST_UNDER) rest.bound -= spent;
  return ChooseMember(others, rest);
}

}  // namespace octogate::router

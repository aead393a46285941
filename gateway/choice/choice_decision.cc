#include "gateway/choice/choice_decision.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/strings.h"
#include "gateway/choice/learned_choice.h"
#include "router/logistic_fit.h"
#include "router/node_bounds.h"
#include "router/plan.h"

namespace octogate::gateway {
namespace {

constexpr int kMeasuredCalls = 8;
constexpr double kBytesPerToken = 4;

const v1::Speed* SpeedOf(const v1::Node& node) {
  if (node.has_replay()) return node.replay().has_speed() ? &node.replay().speed() : nullptr;
  return node.model().has_speed() ? &node.model().speed() : nullptr;
}

// Tokens that the member usually writes.
double UsualTokens(const v1::Node& node, const LearnedChoice::Member& learned,
                   const v1::GenerateRequest& request) {
  const int32_t most = node.has_replay() ? node.replay().max_tokens() : node.model().max_tokens();
  double tokens = learned.mean_tokens > 0 ? learned.mean_tokens : most;
  if (request.max_tokens() > 0) tokens = std::min<double>(tokens, request.max_tokens());
  return tokens;
}

double UsualCost(const v1::Graph& graph, const v1::Node& node, double input_tokens,
                 double output_tokens) {
  const auto input = static_cast<int64_t>(input_tokens + 0.5);
  if (!node.has_model() && !node.has_replay()) return router::MostCost(graph, node, input);
  return router::CostOf(node, input, static_cast<int64_t>(output_tokens + 0.5));
}

double UsualDurationMs(const NodeRuntime& member, const LearnedChoice::Member& learned,
                       double output_tokens) {
  const MeanDuration& measured = member.counters->answers;
  if (measured.count() >= kMeasuredCalls) return absl::ToDoubleMilliseconds(measured.value());
  if (learned.mean_latency_ms > 0) return learned.mean_latency_ms;
  const v1::Speed* const speed = SpeedOf(*member.node);
  if (speed == nullptr) return 0;
  return speed->first_token_ms() + 1000 * output_tokens / speed->tokens_per_second();
}

router::ChoiceGoal GoalOf(const v1::ChoiceNode& choice, const v1::GraphLimits& limits,
                          const v1::GenerateRequest& request) {
  router::ChoiceGoal goal{.policy = choice.policy()};
  if (choice.policy() == v1::CHOICE_POLICY_BEST_UNDER) {
    goal.bound = choice.budget();
    return goal;
  }
  goal.bound =
      choice.policy() == v1::CHOICE_POLICY_CHEAPEST_ABOVE ? choice.tolerance() : choice.quality();
  const v1::TenantLimits* const tenant = FindTenant(limits, request.tenant());
  if (tenant != nullptr && tenant->has_quality()) goal.bound = tenant->quality();
  if (request.has_quality()) goal.bound = request.quality();
  return goal;
}

std::string Reason(const v1::ChoiceNode& choice, const ChoiceDecision& decision, bool reached) {
  const router::MemberEstimate& member = decision.members[static_cast<size_t>(decision.member)];
  const auto allowed = std::count_if(decision.members.begin(), decision.members.end(),
                                     [](const auto& candidate) { return candidate.allowed; });
  const double probability = router::Sigmoid(member.logit);
  const std::string of = absl::StrFormat("of %d members", allowed);
  if (choice.policy() == v1::CHOICE_POLICY_BEST_UNDER) {
    return absl::StrFormat("probably right with %.2f, the best %s under a budget of %.6g%s",
                           probability, of, decision.goal.bound,
                           choice.max_calls() > 1 ? ", with another one's help" : "");
  }
  const char* const what =
      choice.policy() == v1::CHOICE_POLICY_CHEAPEST_ABOVE ? "cheapest" : "fastest";
  if (reached) {
    return absl::StrFormat("the %s %s that are right with %.2f or more: %.2f", what, of,
                           decision.goal.bound, probability);
  }
  return absl::StrFormat("none %s is right with %.2f; the best one is with %.2f", of,
                         decision.goal.bound, probability);
}

}  // namespace

ChoiceDecision DecideChoice(const GraphState& graph, const NodeRuntime& node,
                            std::string_view query, std::string_view input,
                            const v1::GenerateRequest& request, const QueryBudget& budget,
                            const DrainList& drained) {
  const absl::Time started = absl::Now();
  const v1::ChoiceNode& choice = node.node->choice();
  const LearnedChoice& learned = *node.choice;
  ChoiceDecision decision;
  decision.goal = GoalOf(choice, graph.graph().spec().limits(), request);
  // Where the request or its tenant says what is wanted, that is what is sure enough, too.
  const bool by_quality = choice.policy() != v1::CHOICE_POLICY_BEST_UNDER;
  const double own = choice.has_tolerance() ? choice.tolerance() : choice.quality();
  decision.sure = by_quality && choice.sure() == own ? decision.goal.bound : choice.sure();

  const std::vector<double> logits = learned.Logits(query);
  const double conversation = static_cast<double>(budget.conversation_bytes());
  std::string refusal;
  bool all_drained = true;
  for (int m = 0; m < choice.members_size(); ++m) {
    const NodeRuntime& member = *graph.FindNode(choice.members(m));
    const LearnedChoice::Member& known = learned.members()[static_cast<size_t>(m)];
    const double input_tokens = (static_cast<double>(input.size()) + conversation +
                                 static_cast<double>(member.node->model().system().size())) /
                                kBytesPerToken;
    const double tokens = UsualTokens(*member.node, known, request);
    router::MemberEstimate& estimate = decision.members.emplace_back();
    estimate.logit = logits[static_cast<size_t>(m)];
    estimate.cost = UsualCost(graph.graph(), *member.node, input_tokens, tokens);
    estimate.duration_ms = UsualDurationMs(member, known, tokens);
    const bool is_drained = drained.Contains(choice.members(m));
    std::string why = is_drained ? "draining" : budget.WhyNot(*member.node, input.size());
    estimate.allowed = why.empty();
    if (!is_drained) all_drained = false;
    if (!is_drained && refusal.empty()) refusal = why;
    v1::MemberScore& score = *decision.event.add_members();
    score.set_node(choice.members(m));
    score.set_probability(router::Sigmoid(estimate.logit));
    score.set_cost(estimate.cost);
    score.set_duration_ms(estimate.duration_ms);
    score.set_excluded(std::move(why));
  }
  const bool two = choice.max_calls() > 1 && learned.answers() != nullptr;
  const router::Chosen chosen =
      two ? router::ChooseFirst(decision.members, decision.goal, *learned.answers())
          : router::ChooseMember(decision.members, decision.goal);
  decision.member = chosen.member;
  v1::Decision& event = decision.event;
  event.set_router(node.node->name());
  event.set_argument(std::string(input));
  event.set_graph_version(graph.version());
  if (chosen.member < 0) {
    const bool fits = std::any_of(decision.members.begin(), decision.members.end(),
                                  [](const auto& member) { return member.allowed; });
    if (all_drained) {
      decision.status = absl::UnavailableError("all members are draining");
    } else if (fits) {
      double least = std::numeric_limits<double>::infinity();
      for (const router::MemberEstimate& candidate : decision.members) {
        if (candidate.allowed) least = std::min(least, candidate.cost);
      }
      decision.status = absl::ResourceExhaustedError(
          absl::StrFormat("no member is expected to cost %.6g or less (budget); the cheapest one "
                          "that may be asked costs %.6g",
                          decision.goal.bound, least));
    } else {
      decision.status =
          absl::ResourceExhaustedError(absl::StrCat("no member may be asked: ", refusal));
    }
    return decision;
  }
  const v1::Node& member = *graph.FindNode(choice.members(chosen.member))->node;
  event.set_node(member.name());
  event.set_token(member.token());
  event.set_probability(
      router::Sigmoid(decision.members[static_cast<size_t>(chosen.member)].logit));
  event.set_head(learned.members()[static_cast<size_t>(chosen.member)].learned ? "outcomes"
                                                                               : "quality");
  event.set_fallback(!chosen.reached);
  event.set_reason(Reason(choice, decision, chosen.reached));
  event.set_duration_us(absl::ToInt64Microseconds(absl::Now() - started));
  return decision;
}

}  // namespace octogate::gateway

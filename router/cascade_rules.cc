#include "router/cascade_rules.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "router/decision_quality.h"
#include "router/encoder_ensemble.h"
#include "router/encoder_head.h"
#include "router/held_out.h"
#include "router/lexical_head.h"

namespace octogate::router {
namespace {

// Up to this many examples each is held out once.
constexpr size_t kFewHeldOut = 500;

using ScoreText = std::function<void(std::string_view text, HeadScores* scores)>;

// Trains a head on `examples`, for as long as `embeddings` live.
absl::StatusOr<ScoreText> TrainHead(const CascadeHead& head, const RoutingExamples& examples,
                                    absl::Time deadline) {
  const std::vector<bool> all(examples.classes.size(), true);
  if (head.settings->has_lexical()) {
    OCTOGATE_ASSIGN_OR_RETURN(const auto lexical,
                              LexicalHead::Train(head.settings->lexical(), examples, deadline));
    return ScoreText([lexical, all](std::string_view text, HeadScores* scores) {
      lexical->Score(text, all, scores);
    });
  }
  const ExampleEmbeddings* embeddings = head.embeddings;
  const auto vector_of = [embeddings](std::string_view text) {
    return std::span<const float>(embeddings->Find(text), embeddings->dimension());
  };
  const v1::EncoderHead& settings = head.settings->encoder();
  if (settings.ensemble()) {
    OCTOGATE_ASSIGN_OR_RETURN(const auto ensemble,
                              EncoderEnsemble::Train(settings, examples, *embeddings, deadline));
    return ScoreText([ensemble, all, vector_of](std::string_view text, HeadScores* scores) {
      ensemble->Score(text, vector_of(text), all, scores);
    });
  }
  OCTOGATE_ASSIGN_OR_RETURN(const auto classifier,
                            EmbeddingClassifier::Train(settings, examples, *embeddings, deadline));
  return ScoreText([classifier, all, vector_of](std::string_view text, HeadScores* scores) {
    classifier->Score(vector_of(text), all, scores);
  });
}

// What a head says about a held-out example.
struct HeldOutAnswer {
  ScoredDecision decision;
  double own = 0;     // The probability of its own class or, if it has none, of "none".
  double second = 0;  // That of the best candidate beside the best class.
};

HeldOutAnswer AnswerOf(const HeadScores& scores, int label) {
  const std::vector<float>& probabilities = scores.probabilities;
  const double none = 1 - scores.live_probability;
  const auto best = std::max_element(probabilities.begin(), probabilities.end());
  HeldOutAnswer answer;
  answer.decision = {.confidence = *best * scores.live_probability,
                     .right = best - probabilities.begin() == label};
  answer.second = none;
  for (auto other = probabilities.begin(); other != probabilities.end(); ++other) {
    if (other != best) answer.second = std::max(answer.second, *other * scores.live_probability);
  }
  const auto own = static_cast<size_t>(label);
  answer.own = own < probabilities.size() ? probabilities[own] * scores.live_probability : none;
  return answer;
}

// About each held-out example, in an order that is the same for all heads.
absl::StatusOr<std::vector<HeldOutAnswer>> AnswerHeldOut(const CascadeHead& head,
                                                         const RoutingExamples& examples,
                                                         absl::Time deadline) {
  std::vector<HeldOutAnswer> answers;
  const double none_importance = NoneImportance(examples);
  const int rounds = CountExamples(examples) <= kFewHeldOut ? kHeldOutParts : 1;
  for (int round = 0; round < rounds; ++round) {
    const HeldOutSplit split = HoldOut(examples, round);
    OCTOGATE_ASSIGN_OR_RETURN(const ScoreText score, TrainHead(head, split.kept, deadline));
    HeadScores scores;
    for (const auto& [text, label] : split.left_out) {
      score(text, &scores);
      HeldOutAnswer& answer = answers.emplace_back(AnswerOf(scores, label));
      const bool none = static_cast<size_t>(label) == examples.classes.size();
      if (none) answer.decision.importance = none_importance;
    }
  }
  return answers;
}

// Chosen on the answers about the examples that no head before took.
double ChooseThreshold(const v1::Head& head, const std::vector<HeldOutAnswer>& answers,
                       const std::vector<bool>& taken) {
  std::vector<ScoredDecision> decisions;
  std::vector<double> own;
  for (size_t i = 0; i < answers.size(); ++i) {
    if (taken[i]) continue;
    decisions.push_back(answers[i].decision);
    own.push_back(answers[i].own);
  }
  if (head.has_coverage()) return ProbabilityForCoverage(std::move(own), head.coverage());
  if (head.has_risk()) return ThresholdForRisk(std::move(decisions), head.risk());
  return head.threshold();
}

// Whether a cascade ends with a head of this threshold, which is that of prediction_set.h for one
// with `coverage`.
bool Takes(const v1::Head& head, double threshold, const HeldOutAnswer& answer) {
  const bool sure = answer.decision.confidence >= threshold;
  return head.has_coverage() ? !sure || answer.second < threshold : sure;
}

}  // namespace

absl::StatusOr<std::vector<double>> ChooseThresholds(const std::vector<CascadeHead>& heads,
                                                     const RoutingExamples& examples,
                                                     absl::Time deadline) {
  std::vector<double> thresholds;
  size_t last = 0;  // Heads up to the last one whose threshold is chosen.
  for (size_t h = 0; h < heads.size(); ++h) {
    const v1::Head& head = *heads[h].settings;
    thresholds.push_back(head.threshold());
    if (!head.has_risk() && !head.has_coverage()) continue;
    if (head.has_causal()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a causal head has no held-out examples to keep a ",
          head.has_risk() ? "risk" : "coverage", " on; give it a 'threshold' instead"));
    }
    last = h + 1;
  }
  std::vector<bool> taken;
  for (size_t h = 0; h < last; ++h) {
    const v1::Head& head = *heads[h].settings;
    if (head.has_causal()) continue;
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<HeldOutAnswer> answers,
                              AnswerHeldOut(heads[h], examples, deadline));
    taken.resize(answers.size());
    thresholds[h] = ChooseThreshold(head, answers, taken);
    for (size_t i = 0; i < answers.size(); ++i) {
      if (Takes(head, thresholds[h], answers[i])) taken[i] = true;
    }
  }
  return thresholds;
}

}  // namespace octogate::router

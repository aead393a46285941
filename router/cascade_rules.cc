#include "router/cascade_rules.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
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

// About each held-out example, in an order that is the same for all heads.
absl::StatusOr<std::vector<ScoredDecision>> DecideHeldOut(const CascadeHead& head,
                                                          const RoutingExamples& examples,
                                                          absl::Time deadline) {
  std::vector<ScoredDecision> decisions;
  const int rounds = CountExamples(examples) <= kFewHeldOut ? kHeldOutParts : 1;
  for (int round = 0; round < rounds; ++round) {
    const HeldOutSplit split = HoldOut(examples, round);
    OCTOGATE_ASSIGN_OR_RETURN(const ScoreText score, TrainHead(head, split.kept, deadline));
    HeadScores scores;
    for (const auto& [text, label] : split.left_out) {
      score(text, &scores);
      const auto best = std::max_element(scores.probabilities.begin(), scores.probabilities.end());
      decisions.push_back({.confidence = *best * scores.live_probability,
                           .right = best - scores.probabilities.begin() == label});
    }
  }
  return decisions;
}

}  // namespace

absl::StatusOr<std::vector<double>> ChooseThresholds(const std::vector<CascadeHead>& heads,
                                                     const RoutingExamples& examples,
                                                     absl::Time deadline) {
  std::vector<double> thresholds;
  size_t last = 0;  // Heads up to the last one with `risk`.
  for (size_t h = 0; h < heads.size(); ++h) {
    thresholds.push_back(heads[h].settings->threshold());
    if (!heads[h].settings->has_risk()) continue;
    if (heads[h].settings->has_causal()) {
      return absl::InvalidArgumentError("a causal head has no held-out examples to keep a risk on");
    }
    last = h + 1;
  }
  std::vector<bool> taken;
  for (size_t h = 0; h < last; ++h) {
    if (heads[h].settings->has_causal()) continue;
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<ScoredDecision> decisions,
                              DecideHeldOut(heads[h], examples, deadline));
    taken.resize(decisions.size());
    if (heads[h].settings->has_risk()) {
      std::vector<ScoredDecision> open;
      for (size_t i = 0; i < decisions.size(); ++i) {
        if (!taken[i]) open.push_back(decisions[i]);
      }
      thresholds[h] = ThresholdForRisk(std::move(open), heads[h].settings->risk());
    }
    for (size_t i = 0; i < decisions.size(); ++i) {
      if (decisions[i].confidence >= thresholds[h]) taken[i] = true;
    }
  }
  return thresholds;
}

}  // namespace octogate::router

#include "router/encoder_ensemble.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "common/status.h"
#include "router/candidate_softmax.h"
#include "router/class_places.h"
#include "router/held_out.h"
#include "router/lexical_learner.h"

namespace octogate::router {
namespace {

constexpr size_t kOpinions = std::tuple_size_v<Opinions>;
using Weights = std::array<double, kOpinions>;

// No opinion is surer than this that a class is wrong.
constexpr double kLeast = 1e-6;
// Neighbours never vote for most classes, which says little.
constexpr float kNeighbourLeast = 0.02F;
constexpr double kStart = 0.5;
// Strength of the pull towards kStart, in examples.
constexpr double kPrior = 2;

// Log-probabilities of classes and of "none".
std::vector<float> Logarithms(const HeadScores& scores) {
  std::vector<float> logarithms;
  logarithms.reserve(scores.probabilities.size() + 1);
  for (const float probability : scores.probabilities) {
    logarithms.push_back(
        static_cast<float>(std::log(probability * scores.live_probability + kLeast)));
  }
  logarithms.push_back(static_cast<float>(std::log(1 - scores.live_probability + kLeast)));
  return logarithms;
}

v1::LexicalHead LexicalSettings(const v1::EncoderHead& settings) {
  v1::LexicalHead lexical;
  lexical.set_hash_bits(16);
  lexical.set_epochs(settings.epochs());
  lexical.set_seed(settings.seed());
  return lexical;
}

std::vector<float> Pool(const Opinions& opinions, const Weights& weights) {
  std::vector<float> pooled(opinions[0].size(), 0);
  for (size_t k = 0; k < kOpinions; ++k) {
    const auto weight = static_cast<float>(weights[k]);
    for (size_t c = 0; c < pooled.size(); ++c) pooled[c] += weight * opinions[k][c];
  }
  return pooled;
}

struct Loss {
  double value = 0;
  Weights gradient{};
  std::array<Weights, kOpinions> curvature{};
};

Loss LossAt(const std::vector<Opinions>& opinions, const std::vector<int>& labels,
            const std::vector<double>& importance, const Weights& weights) {
  Loss loss;
  for (size_t k = 0; k < kOpinions; ++k) {
    const double off = weights[k] - kStart;
    loss.value += kPrior * off * off / 2;
    loss.gradient[k] += kPrior * off;
    loss.curvature[k][k] += kPrior;
  }
  for (size_t i = 0; i < labels.size(); ++i) {
    const std::vector<float> pooled = Pool(opinions[i], weights);
    const float max = *std::max_element(pooled.begin(), pooled.end());
    double sum = 0;
    Weights mean{};
    std::array<Weights, kOpinions> products{};
    for (size_t c = 0; c < pooled.size(); ++c) {
      const double p = std::exp(double{pooled[c]} - max);
      sum += p;
      for (size_t k = 0; k < kOpinions; ++k) {
        mean[k] += p * opinions[i][k][c];
        for (size_t m = 0; m <= k; ++m) {
          products[k][m] += p * opinions[i][k][c] * opinions[i][m][c];
        }
      }
    }
    const auto label = static_cast<size_t>(labels[i]);
    loss.value += importance[i] * (std::log(sum) + max - pooled[label]);
    for (size_t k = 0; k < kOpinions; ++k) mean[k] /= sum;
    for (size_t k = 0; k < kOpinions; ++k) {
      loss.gradient[k] += importance[i] * (mean[k] - opinions[i][k][label]);
      for (size_t m = 0; m <= k; ++m) {
        const double covariance = importance[i] * (products[k][m] / sum - mean[k] * mean[m]);
        loss.curvature[k][m] += covariance;
        if (m != k) loss.curvature[m][k] += covariance;
      }
    }
  }
  return loss;
}

// Solves curvature * step = gradient for the weights that are free; the curvature is positive
// definite. The others' steps are 0.
Weights NewtonStep(Loss loss, const std::array<bool, kOpinions>& free) {
  for (size_t k = 0; k < kOpinions; ++k) {
    if (free[k]) continue;
    loss.gradient[k] = 0;
    for (size_t m = 0; m < kOpinions; ++m) loss.curvature[k][m] = loss.curvature[m][k] = 0;
    loss.curvature[k][k] = 1;
  }
  for (size_t k = 0; k < kOpinions; ++k) {
    for (size_t row = k + 1; row < kOpinions; ++row) {
      const double factor = loss.curvature[row][k] / loss.curvature[k][k];
      for (size_t m = k; m < kOpinions; ++m) {
        loss.curvature[row][m] -= factor * loss.curvature[k][m];
      }
      loss.gradient[row] -= factor * loss.gradient[k];
    }
  }
  Weights step{};
  for (size_t k = kOpinions; k-- > 0;) {
    double rest = loss.gradient[k];
    for (size_t m = k + 1; m < kOpinions; ++m) rest -= loss.curvature[k][m] * step[m];
    step[k] = rest / loss.curvature[k][k];
  }
  return step;
}

}  // namespace

std::array<double, 4> FitPoolWeights(const std::vector<Opinions>& opinions,
                                     const std::vector<int>& labels,
                                     const std::vector<double>& importance) {
  constexpr int kMaxSteps = 25;
  constexpr double kLeastGain = 1e-6;
  Weights weights;
  weights.fill(kStart);
  Loss loss = LossAt(opinions, labels, importance, weights);
  for (int round = 0; round < kMaxSteps; ++round) {
    // A weight at its bound stays there while the loss would fall further below it.
    std::array<bool, kOpinions> free;
    for (size_t k = 0; k < kOpinions; ++k) free[k] = weights[k] > 0 || loss.gradient[k] < 0;
    const Weights step = NewtonStep(loss, free);
    bool better = false;
    for (double length = 1; length > 1e-4 && !better; length /= 2) {
      Weights next;
      for (size_t k = 0; k < kOpinions; ++k) {
        next[k] = std::max(0.0, weights[k] - length * step[k]);
      }
      Loss there = LossAt(opinions, labels, importance, next);
      if (there.value > loss.value - kLeastGain) continue;
      weights = next;
      loss = there;
      better = true;
    }
    if (!better) break;
  }
  return weights;
}

std::vector<ChosenHeldOut> ChooseHeldOut(
    const std::vector<std::pair<std::string_view, int>>& left_out, size_t classes, int rounds) {
  // Those of "none" come last.
  const auto first_none = std::find_if(
      left_out.begin(), left_out.end(),
      [classes](const auto& example) { return static_cast<size_t>(example.second) == classes; });
  const auto own = static_cast<size_t>(first_none - left_out.begin());
  const size_t most = kMaxOpinions / static_cast<size_t>(rounds) / (classes + 1);
  std::vector<ChosenHeldOut> chosen;
  const auto choose = [&chosen](size_t begin, size_t end, size_t at_most) {
    const size_t step = StepThrough(end - begin, at_most);
    const size_t before = chosen.size();
    for (size_t i = begin; i < end; i += step) chosen.push_back({.place = i});
    for (size_t k = before; k < chosen.size(); ++k) {
      chosen[k].stands_for =
          static_cast<double>(end - begin) / static_cast<double>(chosen.size() - before);
    }
  };
  const bool all = classes < kManyClasses;
  const size_t most_none = std::max<size_t>(1, most / 5);
  choose(0, own, all ? own : most - std::min(most, std::min(most_none, left_out.size() - own)));
  choose(own, left_out.size(), all ? left_out.size() : most_none);
  return chosen;
}

Opinions EncoderEnsemble::Parts::Ask(std::string_view text, std::span<const float> vector) const {
  const std::vector<bool> all(classes, true);
  Opinions opinions;
  HeadScores scores;
  lexical->Score(text, all, &scores);
  opinions[0] = Logarithms(scores);
  classifier->Score(vector, all, &scores);
  opinions[1] = Logarithms(scores);
  opinions[2] = nearest->Shares(vector);
  for (float& share : opinions[2]) share = std::log(share + kNeighbourLeast);
  opinions[3].assign(classes + 1, 0);
  opinions[3].back() = 1;
  return opinions;
}

absl::StatusOr<EncoderEnsemble::Parts> EncoderEnsemble::TrainParts(
    const v1::EncoderHead& settings, const RoutingExamples& examples,
    const ExampleEmbeddings& embeddings, absl::Time deadline) {
  Parts parts;
  parts.classes = examples.classes.size();
  OCTOGATE_ASSIGN_OR_RETURN(parts.lexical,
                            LexicalHead::Train(LexicalSettings(settings), examples, deadline));
  OCTOGATE_ASSIGN_OR_RETURN(parts.classifier,
                            EmbeddingClassifier::Train(settings, examples, embeddings, deadline));
  auto nearest = std::make_shared<NearestExamples>(parts.classes + 1, embeddings.dimension());
  std::vector<int> labels;
  for (size_t c = 0; c < parts.classes; ++c) {
    labels.insert(labels.end(), examples.classes[c].size(), static_cast<int>(c));
  }
  const std::vector<std::string_view> texts = EmbeddingClassifier::TextsOf(examples);
  labels.resize(texts.size(), static_cast<int>(parts.classes));
  for (size_t i = 0; i < texts.size(); ++i) {
    const float* vector = embeddings.Find(texts[i]);
    if (vector == nullptr) return absl::InternalError("an example has no vector");
    nearest->Add({vector, embeddings.dimension()}, labels[i]);
  }
  parts.nearest = std::move(nearest);
  return parts;
}

absl::StatusOr<std::shared_ptr<const EncoderEnsemble>> EncoderEnsemble::Train(
    const v1::EncoderHead& settings, const RoutingExamples& examples,
    const ExampleEmbeddings& embeddings, absl::Time deadline) {
  const std::shared_ptr<EncoderEnsemble> ensemble(new EncoderEnsemble());
  std::vector<Opinions> opinions;
  std::vector<int> labels;
  std::vector<double> importance;
  const double none_importance = NoneImportance(examples);
  const int rounds = CountExamples(examples) <= kFewExamples ? kHeldOutParts : 1;
  for (int round = 0; round < rounds; ++round) {
    const HeldOutSplit split = HoldOut(examples, round);
    OCTOGATE_ASSIGN_OR_RETURN(const Parts parts,
                              TrainParts(settings, split.kept, embeddings, deadline));
    for (const auto& [i, stands_for] : ChooseHeldOut(split.left_out, parts.classes, rounds)) {
      if (absl::Now() >= deadline) {
        return absl::DeadlineExceededError("asked held-out examples until the deadline");
      }
      const auto& [text, label] = split.left_out[i];
      const float* vector = embeddings.Find(text);
      if (vector == nullptr) return absl::InternalError("an example has no vector");
      opinions.push_back(parts.Ask(text, {vector, embeddings.dimension()}));
      labels.push_back(label);
      const bool none = static_cast<size_t>(label) == examples.classes.size();
      importance.push_back(stands_for * (none ? none_importance : 1));
    }
  }
  ensemble->weights_ = FitPoolWeights(opinions, labels, importance);
  OCTOGATE_ASSIGN_OR_RETURN(ensemble->parts_, TrainParts(settings, examples, embeddings, deadline));
  return ensemble;
}

absl::StatusOr<std::shared_ptr<const EncoderEnsemble>> EncoderEnsemble::Learn(
    const EncoderEnsemble& trained, const v1::EncoderHead& settings,
    const RoutingExamples& examples, const LearnedClasses& learned,
    const ExampleEmbeddings& embeddings, absl::Time deadline, std::vector<LexicalRow>* lexical_rows,
    std::vector<EmbeddingClassifier::Row>* encoder_rows) {
  const std::shared_ptr<EncoderEnsemble> ensemble(new EncoderEnsemble());
  ensemble->weights_ = trained.weights_;
  Parts& parts = ensemble->parts_;
  parts.classes = learned.trained.size();
  OCTOGATE_ASSIGN_OR_RETURN(
      parts.lexical, LearnLexical(trained.parts_.lexical, LexicalSettings(settings), examples,
                                  learned, deadline, lexical_rows));
  OCTOGATE_ASSIGN_OR_RETURN(
      parts.classifier, EmbeddingClassifier::Learn(*trained.parts_.classifier, settings, examples,
                                                   learned, embeddings, deadline, encoder_rows));
  auto nearest =
      std::make_shared<NearestExamples>(parts.classes + 1, trained.parts_.nearest,
                                        ClassPlaces(learned, trained.parts_.classes).place_of);
  for (const LearnedClasses::Row& row : learned.rows) {
    for (const std::string& text : row.texts) {
      const float* vector = embeddings.Find(text);
      if (vector == nullptr) return absl::InternalError("an example has no vector");
      nearest->Add({vector, embeddings.dimension()}, static_cast<int>(row.place));
    }
  }
  parts.nearest = std::move(nearest);
  return ensemble;
}

void EncoderEnsemble::Score(std::string_view text, std::span<const float> vector,
                            const std::vector<bool>& live, HeadScores* scores) const {
  ScoreLogits(Pool(parts_.Ask(text, vector), weights_), live, /*temperature=*/1, scores);
}

EncoderEnsemble::Explanation EncoderEnsemble::Explain(std::string_view text,
                                                      std::span<const float> vector, size_t a,
                                                      size_t b) const {
  Explanation explanation;
  const Opinions opinions = parts_.Ask(text, vector);
  for (size_t k = 0; k < kOpinions; ++k) {
    explanation.parts[k] = weights_[k] * (double{opinions[k][a]} - opinions[k][b]);
  }
  explanation.words = parts_.lexical->Explain(text, a, b).features;
  for (LexicalHead::Feature& feature : explanation.words) feature.contribution *= weights_[0];
  return explanation;
}

}  // namespace octogate::router

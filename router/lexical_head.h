#ifndef OCTOGATE_ROUTER_LEXICAL_HEAD_H_
#define OCTOGATE_ROUTER_LEXICAL_HEAD_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/graph.pb.h"
#include "router/calibration.h"
#include "router/lexical_features.h"
#include "router/lexical_row.h"
#include "router/lexical_vocabulary.h"
#include "router/quantized_model.h"
#include "router/routing_examples.h"
#include "router/scratch_pool.h"
#include "router/softmax_row.h"

namespace octogate::router {

class ManyLexicalModel;

// Scores classes of texts by their words, pairs of words and runs of characters
// (lexical_vocabulary.h), a linear softmax (softmax_regression.h), of which decisions read weights
// of 8 bits (quantized_model.h), and a temperature.
//
// How sure it says that it is, is measured: the temperature is the one under which examples that
// were held out of training are most probable. Two things lower its confidence in what it has never
// seen: features without example count in a text's length but give no evidence, and one more class,
// "none", is learned from generic texts. So a head with few examples is seldom sure, and what has
// nothing in common with any example goes to the next head or to the fallback.
//
// A trained head can learn further classes, one at a time, which leaves the logits of all others
// and the temperature as they are, bit by bit: a class gets a column of weights of its own, and
// words that no class knew before count for it alone (lexical_learner.h).
//
// With kManyClasses classes and more it is a ManyLexicalModel, whose decisions cost about the same
// for any number of them (many_lexical_model.h).
//
// Immutable and thread-safe once trained; the result depends on settings and examples alone.
class LexicalHead {
 public:
  using Scores = HeadScores;
  // A background text that is as close as this to an example (cosine) is on a class's subject, and
  // does not count as "none".
  static constexpr double kOnSubject = 0.35;

  // `settings` has its defaults. Time and memory are linear in the sizes of the examples, times the
  // number of classes where these are fewer than kManyClasses. RESOURCE_EXHAUSTED and
  // DEADLINE_EXCEEDED as TrainSoftmax, INVALID_ARGUMENT without any class.
  static absl::StatusOr<std::shared_ptr<const LexicalHead>> Train(const v1::LexicalHead& settings,
                                                                  const RoutingExamples& examples,
                                                                  absl::Time deadline);

  // `live[c]` false: class c cannot be chosen and gets 0. Fills `scores`, whose memory is reused.
  void Score(std::string_view text, const std::vector<bool>& live, Scores* scores) const;

  // Of each class, then of "none", before the temperature.
  std::vector<float> Logits(std::string_view text) const;

  double temperature() const { return temperature_; }

  // Why class `a` is more probable than class `b` (classes() stands for "none"): the difference of
  // their logits over the temperature, which is the logarithm of the ratio of their probabilities,
  // is the sum of `prior` and all contributions, but for rounding. Features that occur more than
  // once, e.g. runs of characters in several words, are summed up. Largest contributions first,
  // equal ones in the order of the text. With kManyClasses and more, the probability against that
  // of "none" is lower by what the head has missed. Slow; not for every query.
  struct Feature {
    LexicalVocabulary::NamedRow::Kind kind;
    std::string text;
    uint32_t count = 0;
    double contribution = 0;
  };
  struct Explanation {
    double prior = 0;
    std::vector<Feature> features;
  };
  Explanation Explain(std::string_view text, size_t a, size_t b) const;

  size_t classes() const { return classes_; }

  // Of each text from `first` on: whether one of the texts [0, own) is like it. Linear in the size
  // of all texts, times the number of those from `first` on.
  static std::vector<bool> FindOnSubject(const SparseRows& rows, size_t own, size_t first,
                                         size_t features);

 private:
  friend class LexicalLearner;
  friend absl::StatusOr<std::shared_ptr<const LexicalHead>> LearnLexical(
      const std::shared_ptr<const LexicalHead>& trained, const v1::LexicalHead& settings,
      const RoutingExamples& examples, const LearnedClasses& learned, absl::Time deadline,
      std::vector<LexicalRow>* rows);

  struct Scratch {
    LexicalFeatureExtractor extractor;
    GroupedRows rows;
    QuantizedLogits logits;
    std::vector<float> combined;
  };

  explicit LexicalHead(LexicalVocabulary vocabulary);

  static SoftmaxTraining TrainingOf(const v1::LexicalHead& settings, size_t classes);
  std::span<const float> ComputeLogits(std::string_view text, Scratch* scratch) const;

  size_t classes_ = 0;  // Without "none".
  // Of each class, then of "none"; empty where they are the model's columns, in this order.
  std::vector<ClassColumns> columns_;
  LexicalVocabulary vocabulary_;
  QuantizedModel model_;
  double temperature_ = 1;
  std::shared_ptr<const ManyLexicalModel> many_;  // Null with few classes.

  mutable ScratchPool<Scratch> scratch_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LEXICAL_HEAD_H_

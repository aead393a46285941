#ifndef OCTOGATE_ROUTER_ENCODER_ENSEMBLE_H_
#define OCTOGATE_ROUTER_ENCODER_ENSEMBLE_H_

#include <array>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/graph.pb.h"
#include "router/calibration.h"
#include "router/encoder_head.h"
#include "router/example_embeddings.h"
#include "router/lexical_head.h"
#include "router/lexical_row.h"
#include "router/nearest_examples.h"
#include "router/routing_examples.h"

namespace octogate::router {

// Opinions about one text: for each, a log-probability of every class and, last, of "none". What
// the last one says is the same of every text: 0 of classes and 1 of "none", so that its weight is
// how much more often "none" is right than the others together would have it.
using Opinions = std::array<std::vector<float>, 4>;

// The weights w >= 0 under which softmax(sum over k of w[k] * opinions[k]) makes the labels most
// probable (a logarithmic opinion pool: Genest and Zidek 1986), the i-th counting `importance[i]`
// times. The loss is convex in w; found by Newton's method with step halving. A slight pull towards
// the starting weights of 1/2 decides where few examples do not.
std::array<double, 4> FitPoolWeights(const std::vector<Opinions>& opinions,
                                     const std::vector<int>& labels,
                                     const std::vector<double>& importance);

// Classes of all held-out examples together that pool weights are fitted to, where a head has
// kManyClasses or more.
inline constexpr size_t kMaxOpinions = size_t{1} << 23;

// Which of the examples left out in one of `rounds` (HeldOutSplit::left_out) are asked about, and
// for how many of their kind each stands: all where there are fewer than kManyClasses, else about
// as many as kMaxOpinions allows, a fifth of them for "none" at most, spread over all classes.
struct ChosenHeldOut {
  size_t place = 0;
  double stands_for = 1;
};
std::vector<ChosenHeldOut> ChooseHeldOut(
    const std::vector<std::pair<std::string_view, int>>& left_out, size_t classes, int rounds);

// What an encoder head says with `ensemble` set: the words of a text (lexical_head.h), its vector
// (EmbeddingClassifier) and the nearest examples (nearest_examples.h), pooled. They err on
// different texts: linear rows know what a subject is about, neighbours know questions asked
// before, and words know names that the encoder has never seen. The weights are fitted to examples
// that all three were not trained on, which calibrates the pool, too; those of "none" count as
// NoneImportance says (held_out.h).
//
// Every class and every example counts in every decision, whose time is linear in both; with very
// many classes the head without an ensemble is the one whose time is not (encoder_head.h).
//
// Immutable and thread-safe once trained; the result depends on settings, examples and their
// vectors alone.
class EncoderEnsemble {
 public:
  // `embeddings` has a vector for each of EmbeddingClassifier::TextsOf(examples). Costs about twice
  // the training of the heads in it; five more times that for up to kFewExamples examples. Errors
  // as LexicalHead::Train.
  static absl::StatusOr<std::shared_ptr<const EncoderEnsemble>> Train(
      const v1::EncoderHead& settings, const RoutingExamples& examples,
      const ExampleEmbeddings& embeddings, absl::Time deadline);

  // What `trained`, which was trained with `settings` on `examples`, is with `learned.rows` added:
  // words and vector learn as LearnLexical and EmbeddingClassifier::Learn do, which take the rows;
  // neighbours are added; the weights stay. `embeddings` has a vector for each text. Errors as
  // there.
  static absl::StatusOr<std::shared_ptr<const EncoderEnsemble>> Learn(
      const EncoderEnsemble& trained, const v1::EncoderHead& settings,
      const RoutingExamples& examples, const LearnedClasses& learned,
      const ExampleEmbeddings& embeddings, absl::Time deadline,
      std::vector<LexicalRow>* lexical_rows, std::vector<EmbeddingClassifier::Row>* encoder_rows);

  // Up to this many examples each is held out once; of more, a fifth is.
  static constexpr size_t kFewExamples = 500;

  // `vector` is that of `text`.
  void Score(std::string_view text, std::span<const float> vector, const std::vector<bool>& live,
             HeadScores* scores) const;

  // Why class `a` is more probable than class `b` (the last one is "none"): what words, vector,
  // neighbours and the weight of "none" as such add to the logarithm of the ratio of their
  // probabilities, and what the words consist of. Slow; not for every query.
  struct Explanation {
    std::array<double, 4> parts;
    std::vector<LexicalHead::Feature> words;
  };
  Explanation Explain(std::string_view text, std::span<const float> vector, size_t a,
                      size_t b) const;

  size_t dimension() const { return parts_.classifier->dimension(); }
  // Of words, vector and neighbours, and of "none" as such.
  const std::array<double, 4>& weights() const { return weights_; }

 private:
  struct Parts {
    std::shared_ptr<const LexicalHead> lexical;
    std::shared_ptr<const EmbeddingClassifier> classifier;
    std::shared_ptr<const NearestExamples> nearest;

    Opinions Ask(std::string_view text, std::span<const float> vector) const;
    size_t classes = 0;
  };

  EncoderEnsemble() = default;
  static absl::StatusOr<Parts> TrainParts(const v1::EncoderHead& settings,
                                          const RoutingExamples& examples,
                                          const ExampleEmbeddings& embeddings, absl::Time deadline);

  Parts parts_;
  std::array<double, 4> weights_{};
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_ENCODER_ENSEMBLE_H_

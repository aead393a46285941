#ifndef OCTOGATE_ROUTER_MANY_LEXICAL_MODEL_H_
#define OCTOGATE_ROUTER_MANY_LEXICAL_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/calibration.h"
#include "router/candidate_softmax.h"
#include "router/lexical_features.h"
#include "router/lexical_vocabulary.h"
#include "router/quantized_model.h"
#include "router/routing_examples.h"
#include "router/scratch_pool.h"
#include "router/softmax_regression.h"

namespace octogate::router {

// What a lexical head is of kManyClasses classes and more: the same features, a candidate softmax
// (candidate_softmax.h), and for each word or run of characters the kMost classes that it says most
// about; fewer in a long text, which has many words. A decision reads those lists and so touches
// only classes that share a feature with the text: its time depends on the text and on kMost,
// hardly on the number of classes.
//
// Immutable and thread-safe once trained; the result depends on settings and examples alone.
class ManyLexicalModel {
 public:
  static constexpr size_t kMost = 64;
  // Of all lists together a decision reads about so much.
  static constexpr size_t kMaxRead = 8192;

  // `most`: kMost, or more in a comparison with a model that leaves nothing out. Errors as
  // LexicalHead::Train.
  static absl::StatusOr<std::shared_ptr<const ManyLexicalModel>> Train(
      int hash_bits, const SoftmaxTraining& training, const RoutingExamples& examples,
      absl::Time deadline, size_t most = kMost);

  // As LexicalHead::Score.
  void Score(std::string_view text, const std::vector<bool>& live, HeadScores* scores) const;

  // Of each class that has a feature of the text, of others kNoLogit; then of "none".
  std::vector<float> Logits(std::string_view text) const;

  double temperature() const { return temperature_; }
  const LexicalVocabulary& vocabulary() const { return vocabulary_; }
  // Of each class, then of "none".
  const std::vector<float>& bias() const { return bias_; }
  // What a row weighs for a class (the number of classes stands for "none") in a text for which the
  // vocabulary reads so many rows.
  double WeightOf(uint32_t row, size_t place, size_t rows_read) const;
  // Of memory, without the vocabulary.
  size_t bytes() const;

 private:
  struct Scratch {
    LexicalFeatureExtractor extractor;
    GroupedRows rows;
    std::vector<float> sums;
    std::vector<uint8_t> seen;  // Whether a class is among those touched.
    std::vector<uint32_t> touched;
    std::vector<ClassLogit> candidates;
    float none = 0;
  };

  explicit ManyLexicalModel(int hash_bits) : vocabulary_(hash_bits) {}

  // Makes of rows for training's features lists for those that decisions read.
  void Fold(const ClassRows& rows, const std::vector<std::string_view>& texts, size_t most);
  // The logits of the classes in scratch->touched, in scratch->sums; and that of "none".
  void Read(std::string_view text, Scratch* scratch) const;
  // How much is read of each list for a text of so many rows: of a long one less, which takes what
  // matters most, since that is in front.
  size_t MostOf(size_t rows_read) const;
  // Puts the live ones of the largest logits into scratch->candidates.
  static void Choose(const std::vector<bool>& live, Scratch* scratch);
  static void Clear(Scratch* scratch);

  size_t classes_ = 0;  // Without "none".
  LexicalVocabulary vocabulary_;
  ClassLists lists_;  // Of each row that the vocabulary reads.
  size_t max_read_ = kMaxRead;
  std::vector<float> none_;  // The same of "none".
  std::vector<float> bias_;  // Of each class, then of "none".
  double temperature_ = 1;
  double coverage_ = 1;

  mutable ScratchPool<Scratch> scratch_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_MANY_LEXICAL_MODEL_H_

#ifndef OCTOGATE_ROUTER_MANY_LEXICAL_MODEL_H_
#define OCTOGATE_ROUTER_MANY_LEXICAL_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/calibration.h"
#include "router/candidate_softmax.h"
#include "router/class_places.h"
#include "router/lexical_features.h"
#include "router/lexical_vocabulary.h"
#include "router/quantized_model.h"
#include "router/routing_examples.h"
#include "router/scratch_pool.h"
#include "router/softmax_regression.h"
#include "router/softmax_row.h"

namespace octogate::router {

// What a lexical head is of kManyClasses classes and more: the same features, a candidate softmax
// (candidate_softmax.h), and for each word or run of characters the kMost classes that it says most
// about; fewer in a long text, which has many words. A decision reads those lists and so touches
// only classes that share a feature with the text: its time depends on the text and on kMost,
// hardly on the number of classes.
//
// A trained model can learn further classes, which leaves all that it has as it is, and shares it
// but for the vocabulary: what that costs hardly depends on how many classes there are. What is
// learned is a row over the words and runs of characters of its own texts. A decision adds it up
// beside the lists, for every run of every word that it reads.
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

  // As LearnLexical (lexical_learner.h). `trained` has learned nothing yet. A class is told apart
  // from those that a decision about its texts would weigh (contrast_texts.h).
  static absl::StatusOr<std::shared_ptr<const ManyLexicalModel>> Learn(
      const ManyLexicalModel& trained, const SoftmaxTraining& training,
      const RoutingExamples& examples, const LearnedClasses& learned, absl::Time deadline,
      std::vector<std::shared_ptr<const SparseRow>>* rows);

  // As LexicalHead::Score.
  void Score(std::string_view text, const std::vector<bool>& live, HeadScores* scores) const;

  // Of each class that has a feature of the text, of others kNoLogit; then of "none".
  std::vector<float> Logits(std::string_view text) const;

  double temperature() const { return trained_->temperature; }
  const LexicalVocabulary& vocabulary() const { return vocabulary_; }
  // Of a class; the number of classes stands for "none".
  double BiasOf(size_t place) const;
  // What each of the rows that the vocabulary reads in a text weighs for a class.
  std::vector<double> WeightsOf(const std::vector<LexicalVocabulary::NamedRow>& rows,
                                size_t place) const;
  // Of memory, without the vocabulary; what models share counts for each.
  size_t bytes() const;

 private:
  // What training leaves behind.
  struct Trained {
    size_t classes = 0;       // Without "none".
    ClassLists lists;         // Of each row that the vocabulary reads.
    std::vector<float> none;  // The same of "none".
    std::vector<float> bias;  // Of each class, then of "none".
    // Of each term its runs, as rows: of term t runs[runs_begin[t]] to runs[runs_begin[t + 1]].
    std::vector<uint32_t> runs_begin;
    std::vector<uint32_t> runs;
    size_t max_read = kMaxRead;
    double temperature = 1;
    double coverage = 1;

    size_t rows() const { return none.size(); }
    std::span<const uint32_t> RunsOf(uint32_t row) const;
    // How much is read of each list for a text of so many rows: of a long one less, which takes
    // what matters most, since that is in front.
    size_t MostOf(size_t rows_read) const;
  };
  struct Scratch {
    LexicalFeatureExtractor extractor;
    GroupedRows rows;
    // Of each slot. A slot is one of the trained classes, or of those learned afterwards behind
    // them, or of "none", which is last.
    std::vector<float> sums;
    std::vector<uint8_t> seen;  // Whether a slot is among those touched.
    std::vector<uint32_t> touched;
    std::vector<ClassLogit> candidates;
    float none = 0;
  };

  ManyLexicalModel(LexicalVocabulary vocabulary, ClassPlaces places)
      : places_(std::move(places)), vocabulary_(std::move(vocabulary)) {}

  // Makes of rows for training's features lists for those that decisions read.
  void Fold(const ClassRows& rows, const std::vector<std::string_view>& texts, size_t most,
            Trained* trained) const;
  // Takes over what was learned: learned_ has changed.
  void SetLearned();
  // Fits learned.rows[r] on top of this model, which has those before it, and whose vocabulary has
  // its texts.
  absl::StatusOr<SparseRow> FitRow(const RoutingExamples& examples, const LearnedClasses& learned,
                                   size_t r, RowTraining training, absl::Time deadline);
  // How far a class is above what a decision about the text that was read would weigh it against.
  float MarginOf(size_t fitted, const Scratch& scratch) const;

  // The logits of the slots in scratch->touched, in scratch->sums; and that of "none".
  void Read(std::string_view text, Scratch* scratch) const;
  // Puts the live classes of the largest logits into scratch->candidates.
  void Choose(const std::vector<bool>& live, Scratch* scratch) const;
  static void Clear(Scratch* scratch);

  size_t SlotOf(size_t place) const;
  // Of the class, or negative.
  int PlaceOf(size_t slot) const;
  size_t none_slot() const { return bias_.size() - 1; }

  ClassPlaces places_;
  LexicalVocabulary vocabulary_;
  std::shared_ptr<const Trained> trained_;
  struct Learned {
    size_t place = 0;  // Of the class; places_.classes for "none".
    std::shared_ptr<const SparseRow> row;
  };
  std::vector<Learned> learned_;
  ClassLists learned_lists_;  // Of each row that the vocabulary reads, unless nothing is learned.
  std::vector<float> bias_;   // Of each slot.

  mutable ScratchPool<Scratch> scratch_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_MANY_LEXICAL_MODEL_H_

#ifndef OCTOGATE_ROUTER_LEXICAL_LEARNER_H_
#define OCTOGATE_ROUTER_LEXICAL_LEARNER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "octogate/v1/graph.pb.h"
#include "router/lexical_head.h"
#include "router/lexical_row.h"
#include "router/lexical_vocabulary.h"
#include "router/quantized_model.h"
#include "router/routing_examples.h"
#include "router/softmax_row.h"

namespace octogate::router {

// `trained`, which learned from `examples` by `settings`, with `learned.rows` added in their order:
// each is fitted to tell its texts from those before it. `rows` has those that have been fitted
// before, the others are set; one that was fitted differs in nothing from one that was kept.
// DEADLINE_EXCEEDED as TrainSoftmax.
absl::StatusOr<std::shared_ptr<const LexicalHead>> LearnLexical(
    const std::shared_ptr<const LexicalHead>& trained, const v1::LexicalHead& settings,
    const RoutingExamples& examples, const LearnedClasses& learned, absl::Time deadline,
    std::vector<LexicalRow>* rows);

// Adds classes to a trained lexical head of few classes, one after the other.
//
// The column of a class is fitted to tell its texts from those of all classes before it, whose
// columns stay as they are. Words and runs that no text before it has get rows of their own, where
// all other columns are zero. A class that was trained keeps its column, and what it learns is
// added to it.
//
// Deterministic: it makes no difference whether a column was fitted here or is taken from an
// earlier learner that was given the same until then. Not thread-safe; used once.
class LexicalLearner {
 public:
  // `trained` learned from `examples` by `settings`; the examples outlive the learner.
  LexicalLearner(std::shared_ptr<const LexicalHead> trained, const v1::LexicalHead& settings,
                 const RoutingExamples& examples);

  // Learns `row` of `learned`; `known` is its column where it has been fitted before, else null.
  // Time and memory are linear in the size of all texts. DEADLINE_EXCEEDED as TrainSoftmax.
  absl::StatusOr<std::shared_ptr<const QuantizedColumn>> Add(
      const LearnedClasses& learned, const LearnedClasses::Row& row,
      std::shared_ptr<const QuantizedColumn> known, absl::Time deadline);

  // The head that has learned them all.
  std::shared_ptr<const LexicalHead> Finish(const LearnedClasses& learned) &&;

 private:
  // Texts to tell apart, once there is something to fit.
  struct Examples {
    SparseRows rows;                          // for training
    std::vector<GroupedRows> reads;           // as decisions read them
    std::vector<SummedLogits> sums;           // of all columns
    std::vector<int> classes;                 // among those trained, "none" behind them
    std::vector<std::vector<uint32_t>> runs;  // of each term
    size_t background = 0;                    // the first text that is built in
    size_t background_end = 0;
  };

  // A column and what it belongs to.
  struct Added {
    int trained_place = -1;  // Among the columns that were trained; -1: none.
    size_t place = 0;
    std::vector<std::string> texts;
    std::shared_ptr<const QuantizedColumn> column;
  };

  void Prepare();
  // `rows` are the vectors of `texts`. Their sums are those of the columns that were trained.
  void AddTexts(const SparseRows& rows, const std::vector<std::string_view>& texts);
  // The sums have the first `before` columns that were added, too.
  void AddLearnedTexts(const SparseRows& rows, const std::vector<std::string>& texts,
                       size_t before);
  // Adds a column to the sums from `first` on.
  void Count(const Added& added, size_t first);
  // The class's own texts are those from `first_own` on and those that it was trained on.
  absl::StatusOr<QuantizedColumn> Fit(int trained_place, size_t first_own, absl::Time deadline);

  const std::shared_ptr<const LexicalHead> trained_;
  const v1::LexicalHead settings_;
  const RoutingExamples& texts_;
  LexicalVocabulary vocabulary_;
  std::vector<Added> added_;
  std::optional<Examples> examples_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LEXICAL_LEARNER_H_

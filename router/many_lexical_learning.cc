// ManyLexicalModel::Learn.
#include <algorithm>
#include <memory>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "router/background_queries.h"
#include "router/contrast_texts.h"
#include "router/lexical_head.h"
#include "router/many_lexical_model.h"

namespace octogate::router {
namespace {

// Of a class that is learned: its mean before it is fitted, as of those that are trained.
constexpr float kMeanLength = 8;

}  // namespace

void ManyLexicalModel::SetLearned() {
  bias_ = trained_->bias;
  bias_.insert(bias_.end() - 1, learned_.size(), 0);
  learned_lists_ = ClassLists();
  if (learned_.empty()) return;
  ClassRows rows;
  for (size_t l = 0; l < learned_.size(); ++l) {
    const SparseRow& row = *learned_[l].row;
    places_.learned_of[learned_[l].place] = static_cast<int>(l);
    bias_[SlotOf(learned_[l].place)] += row.bias;
    rows.entries.insert(rows.entries.end(), row.weights.begin(), row.weights.end());
    rows.begin.push_back(rows.entries.size());
  }
  learned_lists_ = ListClasses(rows, learned_.size(), vocabulary_.rows(), learned_.size());
  for (ClassLists::Item& item : learned_lists_.items) {
    item.index = static_cast<uint32_t>(SlotOf(learned_[item.index].place));
  }
}

float ManyLexicalModel::MarginOf(size_t fitted, const Scratch& scratch) const {
  std::vector<float> logits = {scratch.none};
  bool weighed = fitted == places_.classes;
  for (const ClassLogit& candidate : scratch.candidates) {
    logits.push_back(candidate.logit);
    weighed = weighed || candidate.index == fitted;
  }
  if (fitted == places_.classes) return SummedLogits(logits).MarginOf(scratch.none);
  if (places_.trained_of[fitted] < 0) return SummedLogits(logits).MarginOf(SummedLogits::kNoLogit);
  const size_t slot = SlotOf(fitted);
  const float before = scratch.seen[slot] != 0 ? scratch.sums[slot] : bias_[slot];
  if (!weighed) logits.push_back(before);
  return SummedLogits(logits).MarginOf(before);
}

absl::StatusOr<SparseRow> ManyLexicalModel::FitRow(const RoutingExamples& examples,
                                                   const LearnedClasses& learned, size_t r,
                                                   RowTraining training, absl::Time deadline) {
  const LearnedClasses::Row& row = learned.rows[r];
  const bool is_new = places_.trained_of[row.place] < 0;
  std::vector<std::string_view> taught(row.texts.begin(), row.texts.end());
  taught.insert(taught.end(), BackgroundQueries().begin(), BackgroundQueries().end());
  const std::vector<bool> on_subject = LexicalHead::FindOnSubject(
      vocabulary_.MakeRows(taught), row.texts.size(), row.texts.size(), vocabulary_.rows());
  const std::vector<bool> live(places_.classes, true);
  Scratch scratch;
  const auto nearest = [&](std::string_view text) {
    Read(text, &scratch);
    Choose(live, &scratch);
    Clear(&scratch);
    return scratch.candidates;
  };
  OCTOGATE_ASSIGN_OR_RETURN(
      const ContrastTexts texts,
      CollectContrastTexts(examples, learned, r, places_, nearest, on_subject, deadline));

  // The features of its own texts, numbered by the mean's entries.
  const SparseRows vectors = vocabulary_.MakeRows(texts.texts);
  std::vector<uint32_t> own_texts(texts.taught);
  std::iota(own_texts.begin(), own_texts.end(), 0);
  const ClassRows mean =
      MeanRows(vectors, std::vector<int>(texts.taught, 0), own_texts, 1, kMeanLength);
  std::vector<int> number_of(vocabulary_.rows(), -1);
  for (size_t k = 0; k < mean.entries.size(); ++k) {
    number_of[mean.entries[k].feature] = static_cast<int>(k);
  }
  SparseRows rows;
  std::vector<float> margins;
  std::vector<bool> own;
  std::vector<uint32_t> selected;
  for (uint32_t i = 0; i < texts.texts.size(); ++i) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError("weighed what a member learns until the deadline");
    }
    Read(texts.texts[i], &scratch);
    Choose(live, &scratch);
    margins.push_back(MarginOf(row.place, scratch));
    Clear(&scratch);
    for (size_t k = vectors.begin[i]; k < vectors.begin[i + 1]; ++k) {
      const auto [feature, value] = vectors.entries[k];
      const int number = number_of[feature];
      if (number < 0) continue;
      rows.entries.push_back({static_cast<uint32_t>(number), value});
      // A new class begins as its mean: what is fitted is what to change about that.
      if (is_new) margins.back() += value * mean.entries[static_cast<size_t>(number)].value;
    }
    rows.begin.push_back(rows.entries.size());
    own.push_back(i < texts.own);
    selected.push_back(i);
  }
  training.repeat = RepeatOf(texts.own);
  OCTOGATE_ASSIGN_OR_RETURN(
      const LinearRow fitted,
      FitSoftmaxRow(rows, own, margins, selected, mean.entries.size(), training, deadline));
  SparseRow sparse = {.weights = {}, .bias = fitted.bias};
  for (size_t k = 0; k < mean.entries.size(); ++k) {
    const auto [feature, begun] = mean.entries[k];
    const float weight = fitted.weights[k] + (is_new ? begun : 0);
    sparse.weights.push_back({feature, weight * vocabulary_.ValueOf(feature)});
  }
  return sparse;
}

absl::StatusOr<std::shared_ptr<const ManyLexicalModel>> ManyLexicalModel::Learn(
    const ManyLexicalModel& trained, const SoftmaxTraining& training,
    const RoutingExamples& examples, const LearnedClasses& learned, absl::Time deadline,
    std::vector<std::shared_ptr<const SparseRow>>* rows) {
  const std::shared_ptr<ManyLexicalModel> model(
      new ManyLexicalModel(trained.vocabulary_, ClassPlaces(learned, trained.places_.classes)));
  model->trained_ = trained.trained_;
  const RowTraining row_training = RowTrainingOf(training, kCandidates + 2);
  for (size_t r = 0; r < learned.rows.size(); ++r) {
    const auto& [place, texts] = learned.rows[r];
    if ((*rows)[r] == nullptr) model->SetLearned();
    model->vocabulary_.Extend({texts.begin(), texts.end()});
    if ((*rows)[r] == nullptr) {
      OCTOGATE_ASSIGN_OR_RETURN(SparseRow row,
                                model->FitRow(examples, learned, r, row_training, deadline));
      (*rows)[r] = std::make_shared<const SparseRow>(std::move(row));
    }
    model->learned_.push_back({.place = place, .row = (*rows)[r]});
  }
  model->SetLearned();
  return model;
}

}  // namespace octogate::router

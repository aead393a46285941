#include "router/lexical_learner.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "common/status.h"
#include "router/background_queries.h"
#include "router/many_lexical_model.h"

namespace octogate::router {
namespace {

// Which of the texts [first, end) are like one of those from `own` on.
std::vector<bool> FindOnSubject(const SparseRows& rows, size_t own, size_t first, size_t end,
                                size_t features) {
  std::vector<bool> found(end - first);
  std::vector<float> dense(features, 0);
  for (size_t e = own; e < rows.size(); ++e) {
    for (size_t k = rows.begin[e]; k < rows.begin[e + 1]; ++k) {
      dense[rows.entries[k].feature] = rows.entries[k].value;
    }
    for (size_t i = first; i < end; ++i) {
      double cosine = 0;
      for (size_t k = rows.begin[i]; k < rows.begin[i + 1]; ++k) {
        cosine += double{rows.entries[k].value} * dense[rows.entries[k].feature];
      }
      if (cosine > LexicalHead::kOnSubject) found[i - first] = true;
    }
    for (size_t k = rows.begin[e]; k < rows.begin[e + 1]; ++k) dense[rows.entries[k].feature] = 0;
  }
  return found;
}

void Append(const SparseRows& more, SparseRows* rows) {
  const size_t offset = rows->entries.size();
  rows->entries.insert(rows->entries.end(), more.entries.begin(), more.entries.end());
  for (size_t i = 1; i < more.begin.size(); ++i) rows->begin.push_back(offset + more.begin[i]);
}

// Without the rows that a model lacks.
GroupedRows WithRowsBelow(size_t end, const GroupedRows& rows) {
  GroupedRows kept = {.scale = rows.scale, .once = {}, .other = {}};
  std::copy_if(rows.once.begin(), rows.once.end(), std::back_inserter(kept.once),
               [end](uint32_t row) { return row < end; });
  std::copy_if(rows.other.begin(), rows.other.end(), std::back_inserter(kept.other),
               [end](const GroupedRows::Row& row) { return row.row < end; });
  return kept;
}

QuantizedColumn ColumnOf(const QuantizedModel& model, size_t place) {
  constexpr size_t kBlock = QuantizedModel::kBlock;
  QuantizedColumn column = {.weights = {}, .scale = model.scales[place], .bias = model.bias[place]};
  column.weights.reserve(model.rows());
  for (size_t row = 0; row < model.rows(); ++row) {
    column.weights.push_back(
        model.blocks[row * model.blocks_per_row + place / kBlock].weights[place % kBlock]);
  }
  return column;
}

// In Examples::classes, of texts of a class that was learned.
constexpr int kLearned = -1;

std::vector<std::string_view> Views(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

}  // namespace

LexicalLearner::LexicalLearner(std::shared_ptr<const LexicalHead> trained,
                               const v1::LexicalHead& settings, const RoutingExamples& examples)
    : trained_(std::move(trained)),
      settings_(settings),
      texts_(examples),
      vocabulary_(trained_->vocabulary_) {}

absl::StatusOr<std::shared_ptr<const QuantizedColumn>> LexicalLearner::Add(
    const LearnedClasses& learned, const LearnedClasses::Row& row,
    std::shared_ptr<const QuantizedColumn> known, absl::Time deadline) {
  Added added = {.trained_place = row.place == learned.trained.size()
                                      ? static_cast<int>(trained_->classes_)
                                      : learned.trained[row.place],
                 .place = row.place,
                 .texts = row.texts,
                 .column = std::move(known)};
  const SparseRows rows = vocabulary_.Extend(Views(added.texts));
  if (added.column == nullptr && !examples_.has_value()) Prepare();
  if (examples_.has_value()) {
    AddLearnedTexts(rows, added.texts, added_.size());
    if (added.column == nullptr) {
      const size_t first_own = examples_->rows.size() - added.texts.size();
      OCTOGATE_ASSIGN_OR_RETURN(QuantizedColumn column,
                                Fit(added.trained_place, first_own, deadline));
      added.column = std::make_shared<const QuantizedColumn>(std::move(column));
    }
    Count(added, 0);
  }
  added_.push_back(std::move(added));
  return added_.back().column;
}

void LexicalLearner::Prepare() {
  examples_.emplace();
  Examples& examples = *examples_;
  std::vector<std::string_view> texts;
  for (size_t c = 0; c < texts_.classes.size(); ++c) {
    texts.insert(texts.end(), texts_.classes[c].begin(), texts_.classes[c].end());
    examples.classes.resize(texts.size(), static_cast<int>(c));
  }
  texts.insert(texts.end(), texts_.none.begin(), texts_.none.end());
  examples.background = texts.size();
  texts.insert(texts.end(), BackgroundQueries().begin(), BackgroundQueries().end());
  examples.background_end = texts.size();
  examples.classes.resize(texts.size(), static_cast<int>(trained_->classes_));
  examples.runs = vocabulary_.FindRuns(texts);
  AddTexts(vocabulary_.MakeRows(texts), texts);
  for (size_t i = 0; i < added_.size(); ++i) {
    AddLearnedTexts(vocabulary_.MakeRows(Views(added_[i].texts)), added_[i].texts, i);
    Count(added_[i], 0);
  }
}

void LexicalLearner::AddTexts(const SparseRows& rows, const std::vector<std::string_view>& texts) {
  Append(rows, &examples_->rows);
  LexicalFeatureExtractor extractor;
  QuantizedLogits logits;
  for (const std::string_view text : texts) {
    GroupedRows& read = examples_->reads.emplace_back();
    vocabulary_.Read(text, &extractor, &read);
    std::sort(
        read.other.begin(), read.other.end(),
        [](const GroupedRows::Row& a, const GroupedRows::Row& b) { return a.value < b.value; });
    GroupedRows known = WithRowsBelow(trained_->model_.rows(), read);
    examples_->sums.emplace_back(std::span<const float>(
        logits.Compute(trained_->model_, LexicalVocabulary::Frequency, &known)));
  }
}

void LexicalLearner::AddLearnedTexts(const SparseRows& rows, const std::vector<std::string>& texts,
                                     size_t before) {
  const size_t first = examples_->rows.size();
  AddTexts(rows, Views(texts));
  examples_->classes.resize(examples_->rows.size(), kLearned);
  for (size_t i = 0; i < before; ++i) Count(added_[i], first);
}

void LexicalLearner::Count(const Added& added, size_t first) {
  std::optional<QuantizedColumn> trained;
  if (added.trained_place >= 0) trained = ColumnOf(trained_->model_, added.trained_place);
  for (size_t i = first; i < examples_->reads.size(); ++i) {
    const GroupedRows& read = examples_->reads[i];
    const float learned = LogitOf(*added.column, LexicalVocabulary::Frequency, read);
    if (!trained.has_value()) {
      examples_->sums[i].Change(SummedLogits::kNoLogit, learned);
      continue;
    }
    const float before = LogitOf(*trained, LexicalVocabulary::Frequency, read);
    examples_->sums[i].Change(before, before + learned);
  }
}

absl::StatusOr<QuantizedColumn> LexicalLearner::Fit(int trained_place, size_t first_own,
                                                    absl::Time deadline) {
  const Examples& examples = *examples_;
  const std::vector<bool> on_subject = FindOnSubject(examples.rows, first_own, examples.background,
                                                     examples.background_end, vocabulary_.rows());
  std::optional<QuantizedColumn> trained;
  if (trained_place >= 0) trained = ColumnOf(trained_->model_, trained_place);
  std::vector<bool> own(examples.rows.size());
  std::vector<float> margins(examples.rows.size());
  std::vector<uint32_t> selected;
  size_t owned = 0;
  for (size_t i = 0; i < examples.rows.size(); ++i) {
    own[i] = i >= first_own || (trained_place >= 0 && examples.classes[i] == trained_place);
    const float logit = trained.has_value()
                            ? LogitOf(*trained, LexicalVocabulary::Frequency, examples.reads[i])
                            : SummedLogits::kNoLogit;
    margins[i] = examples.sums[i].MarginOf(logit);
    const bool background = i >= examples.background && i < examples.background_end;
    if (background && !own[i] && on_subject[i - examples.background]) continue;
    owned += own[i] ? 1 : 0;
    selected.push_back(static_cast<uint32_t>(i));
  }
  const SoftmaxTraining base = LexicalHead::TrainingOf(settings_, trained_->classes_);
  RowTraining training = RowTrainingOf(base, trained_->classes_ + 2);
  training.repeat = RepeatOf(owned);
  OCTOGATE_ASSIGN_OR_RETURN(LinearRow row, FitSoftmaxRow(examples.rows, own, margins, selected,
                                                         vocabulary_.rows(), training, deadline));
  vocabulary_.FoldRuns(examples.runs, &row.weights);
  return QuantizeColumn(row.weights, row.bias);
}

std::shared_ptr<const LexicalHead> LexicalLearner::Finish(const LearnedClasses& learned) && {
  const std::shared_ptr<LexicalHead> head(new LexicalHead(std::move(vocabulary_)));
  head->classes_ = learned.trained.size();
  head->temperature_ = trained_->temperature_;
  head->model_ = trained_->model_;
  head->columns_ = TrainedColumns(learned, trained_->classes_);
  for (const Added& added : added_) {
    head->columns_[added.place].learned = static_cast<int>(head->model_.classes);
    AppendColumn(*added.column, &head->model_);
  }
  // The vocabulary may have rows that no column needed.
  head->model_.blocks.resize(head->vocabulary_.rows() * head->model_.blocks_per_row);
  return head;
}

absl::StatusOr<std::shared_ptr<const LexicalHead>> LearnLexical(
    const std::shared_ptr<const LexicalHead>& trained, const v1::LexicalHead& settings,
    const RoutingExamples& examples, const LearnedClasses& learned, absl::Time deadline,
    std::vector<LexicalRow>* rows) {
  if (trained->many_ != nullptr) {
    const std::shared_ptr<LexicalHead> head(new LexicalHead(LexicalVocabulary(/*hash_bits=*/1)));
    head->classes_ = learned.trained.size();
    head->temperature_ = trained->temperature_;
    std::vector<std::shared_ptr<const SparseRow>> sparse;
    for (const LexicalRow& row : *rows) sparse.push_back(row.sparse);
    OCTOGATE_ASSIGN_OR_RETURN(
        head->many_, ManyLexicalModel::Learn(*trained->many_,
                                             LexicalHead::TrainingOf(settings, trained->classes_),
                                             examples, learned, deadline, &sparse));
    for (size_t r = 0; r < sparse.size(); ++r) (*rows)[r].sparse = sparse[r];
    return head;
  }
  LexicalLearner learner(trained, settings, examples);
  for (size_t r = 0; r < learned.rows.size(); ++r) {
    OCTOGATE_ASSIGN_OR_RETURN(
        (*rows)[r].column,
        learner.Add(learned, learned.rows[r], std::move((*rows)[r].column), deadline));
  }
  return std::move(learner).Finish(learned);
}

}  // namespace octogate::router

// EmbeddingClassifier::Learn.
#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/status.h"
#include "router/background_queries.h"
#include "router/encoder_head.h"
#include "router/many_embedding_model.h"
#include "router/softmax_row.h"

namespace octogate::router {
namespace {

// In Examples::classes, of texts of a class that was learned.
constexpr int kLearned = -1;

// The texts to tell apart.
struct Examples {
  size_t dimension = 0;
  SparseRows rows;
  std::vector<SummedLogits> sums;  // of all columns
  std::vector<int> classes;        // among those trained, "none" behind them
  std::vector<int> extended;       // those trained that learn more
  std::vector<float> before;       // logits of those, text by text, as trained
  size_t background = 0;           // the first text that is built in
  size_t background_end = 0;

  size_t size() const { return rows.size(); }
  const SparseRows::Entry* vector(size_t i) const { return &rows.entries[rows.begin[i]]; }
  // What text i has from what was trained; kNoLogit of a class that was not.
  float TrainedLogit(size_t i, int trained) const {
    const auto found = std::find(extended.begin(), extended.end(), trained);
    if (trained < 0 || found == extended.end()) return SummedLogits::kNoLogit;
    return before[i * extended.size() + static_cast<size_t>(found - extended.begin())];
  }
  double Cosine(size_t i, size_t j) const {
    double sum = 0;
    for (size_t k = 0; k < dimension; ++k) {
      sum += double{vector(i)[k].value} * double{vector(j)[k].value};
    }
    return sum;
  }
};

// A column that was added, and which class of those trained it is of; -1: none.
struct Column {
  std::shared_ptr<const LinearRow> learned;
  int trained = -1;
};

float LogitOf(const LinearRow& row, const SparseRows::Entry* vector) {
  float logit = row.bias;
  for (size_t i = 0; i < row.weights.size(); ++i) logit += vector[i].value * row.weights[i];
  return logit;
}

void AppendColumn(const LinearRow& row, LinearModel* model) {
  constexpr size_t kLanes = 8;
  LinearModel wider = {.features = model->features, .classes = model->classes + 1};
  wider.stride = (wider.classes + kLanes - 1) / kLanes * kLanes;
  wider.weights.assign(wider.features * wider.stride, 0);
  wider.bias.assign(wider.stride, 0);
  std::copy_n(model->bias.begin(), model->classes, wider.bias.begin());
  wider.bias[model->classes] = row.bias;
  for (size_t f = 0; f < wider.features; ++f) {
    std::copy_n(&model->weights[f * model->stride], model->classes,
                &wider.weights[f * wider.stride]);
    wider.weights[f * wider.stride + model->classes] = row.weights[f];
  }
  *model = std::move(wider);
}

// Adds the column to the sums from `first` on.
void Count(const Column& column, size_t first, Examples* examples) {
  for (size_t i = first; i < examples->size(); ++i) {
    const float learned = LogitOf(*column.learned, examples->vector(i));
    const float before = examples->TrainedLogit(i, column.trained);
    examples->sums[i].Change(before, column.trained < 0 ? learned : before + learned);
  }
}

// The class's own texts are those from `first_own` on and those that it was trained on.
absl::StatusOr<LinearRow> Fit(const Examples& examples, int trained, size_t first_own,
                              RowTraining training, absl::Time deadline) {
  std::vector<bool> own(examples.size());
  std::vector<float> margins(examples.size());
  std::vector<uint32_t> selected;
  size_t owned = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    own[i] = i >= first_own || (trained >= 0 && examples.classes[i] == trained);
    margins[i] = examples.sums[i].MarginOf(examples.TrainedLogit(i, trained));
    bool on_subject = false;
    if (!own[i] && i >= examples.background && i < examples.background_end) {
      for (size_t e = first_own; e < examples.size() && !on_subject; ++e) {
        on_subject = examples.Cosine(i, e) > EmbeddingClassifier::kOnSubject;
      }
    }
    if (on_subject) continue;
    owned += own[i] ? 1 : 0;
    selected.push_back(static_cast<uint32_t>(i));
  }
  training.repeat = RepeatOf(owned);
  return FitSoftmaxRow(examples.rows, own, margins, selected, examples.dimension, training,
                       deadline);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const EmbeddingClassifier>> EmbeddingClassifier::Learn(
    const EmbeddingClassifier& trained, const v1::EncoderHead& settings,
    const RoutingExamples& examples, const LearnedClasses& learned,
    const ExampleEmbeddings& embeddings, absl::Time deadline, std::vector<Row>* rows) {
  const std::shared_ptr<EmbeddingClassifier> classifier(new EmbeddingClassifier(trained));
  if (trained.many_ != nullptr) {
    OCTOGATE_ASSIGN_OR_RETURN(
        classifier->many_, ManyEmbeddingModel::Learn(*trained.many_, TrainingOf(settings), examples,
                                                     learned, embeddings, deadline, rows));
    return classifier;
  }
  const size_t classes = examples.classes.size();
  classifier->columns_ = TrainedColumns(learned, classes);
  const RowTraining training = RowTrainingOf(TrainingOf(settings), classes + 2);

  const auto add_texts = [&](const std::vector<std::string_view>& texts,
                             Examples* all) -> absl::Status {
    for (const std::string_view text : texts) {
      const float* vector = embeddings.Find(text);
      if (vector == nullptr) return absl::InternalError("an example has no vector");
      for (size_t i = 0; i < all->dimension; ++i) {
        all->rows.entries.push_back({static_cast<uint32_t>(i), vector[i]});
      }
      all->rows.begin.push_back(all->rows.entries.size());
      const std::vector<float> logits = trained.Logits({vector, all->dimension});
      all->sums.emplace_back(logits);
      for (const int place : all->extended) {
        all->before.push_back(logits[static_cast<size_t>(place)]);
      }
    }
    return absl::OkStatus();
  };
  const auto trained_place = [&](const LearnedClasses::Row& row) {
    return row.place == learned.trained.size() ? static_cast<int>(classes)
                                               : learned.trained[row.place];
  };
  // Only where there is something to fit.
  std::optional<Examples> all;
  std::vector<Column> columns;
  const auto add_learned = [&](size_t r) -> absl::Status {
    const std::vector<std::string>& texts = learned.rows[r].texts;
    const size_t first = all->size();
    OCTOGATE_RETURN_IF_ERROR(add_texts({texts.begin(), texts.end()}, &*all));
    all->classes.resize(all->size(), kLearned);
    for (size_t i = 0; i < r; ++i) Count(columns[i], first, &*all);
    return absl::OkStatus();
  };
  const auto prepare = [&]() -> absl::Status {
    all.emplace();
    all->dimension = embeddings.dimension();
    for (const LearnedClasses::Row& row : learned.rows) {
      if (trained_place(row) >= 0) all->extended.push_back(trained_place(row));
    }
    OCTOGATE_RETURN_IF_ERROR(add_texts(TextsOf(examples), &*all));
    for (size_t c = 0; c < classes; ++c) {
      all->classes.resize(all->classes.size() + examples.classes[c].size(), static_cast<int>(c));
    }
    all->classes.resize(all->size(), static_cast<int>(classes));
    all->background_end = all->size();
    all->background = all->size() - BackgroundQueries().size();
    for (size_t r = 0; r < columns.size(); ++r) {
      OCTOGATE_RETURN_IF_ERROR(add_learned(r));
      Count(columns[r], 0, &*all);
    }
    return absl::OkStatus();
  };

  for (size_t r = 0; r < learned.rows.size(); ++r) {
    const size_t place = learned.rows[r].place;
    Column column = {.learned = (*rows)[r], .trained = trained_place(learned.rows[r])};
    if (column.learned == nullptr && !all.has_value()) OCTOGATE_RETURN_IF_ERROR(prepare());
    if (all.has_value()) {
      OCTOGATE_RETURN_IF_ERROR(add_learned(r));
      if (column.learned == nullptr) {
        OCTOGATE_ASSIGN_OR_RETURN(
            LinearRow row, Fit(*all, column.trained, all->size() - learned.rows[r].texts.size(),
                               training, deadline));
        column.learned = std::make_shared<const LinearRow>(std::move(row));
      }
      Count(column, 0, &*all);
    }
    (*rows)[r] = column.learned;
    // Behind those that were trained, each class's as one.
    classifier->columns_[place].learned = static_cast<int>(classes + 1 + r);
    AppendColumn(*column.learned, &classifier->model_);
    columns.push_back(std::move(column));
  }
  return classifier;
}

}  // namespace octogate::router

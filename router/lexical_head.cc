#include "router/lexical_head.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "common/status.h"
#include "router/background_queries.h"
#include "router/candidate_softmax.h"
#include "router/many_lexical_model.h"
#include "router/softmax_regression.h"

namespace octogate::router {
namespace {

constexpr double kLearningRate = 0.15;
// What training leaves to each wrong class, and to all of them at most. The more classes, the more
// it gains: rare words are not driven to extremes to tell apart what is told apart already. Chosen,
// like the learning rate, on the validation texts of CLINC150 and held-out training texts of
// MMLU-Pro.
constexpr double kSmoothingPerClass = 0.001;
constexpr double kMaxSmoothing = 0.2;

}  // namespace

std::vector<bool> LexicalHead::FindOnSubject(const SparseRows& rows, size_t own, size_t first,
                                             size_t features) {
  // Of each feature, the texts from `first` on that have it: most features have none.
  struct Occurrence {
    size_t text;
    float value;
  };
  std::vector<std::vector<Occurrence>> occurrences(features);
  for (size_t i = first; i < rows.size(); ++i) {
    for (size_t k = rows.begin[i]; k < rows.begin[i + 1]; ++k) {
      occurrences[rows.entries[k].feature].push_back({i - first, rows.entries[k].value});
    }
  }
  std::vector<bool> found(rows.size() - first);
  std::vector<double> cosines(found.size());
  for (size_t e = 0; e < own; ++e) {
    std::fill(cosines.begin(), cosines.end(), 0.0);
    for (size_t k = rows.begin[e]; k < rows.begin[e + 1]; ++k) {
      const SparseRows::Entry& entry = rows.entries[k];
      for (const Occurrence& other : occurrences[entry.feature]) {
        cosines[other.text] += entry.value * other.value;
      }
    }
    for (size_t i = 0; i < found.size(); ++i) {
      if (cosines[i] > LexicalHead::kOnSubject) found[i] = true;
    }
  }
  return found;
}

SoftmaxTraining LexicalHead::TrainingOf(const v1::LexicalHead& settings, size_t classes) {
  return {.epochs = settings.epochs(),
          .seed = settings.seed(),
          .learning_rate = kLearningRate,
          .smoothing = std::min(kMaxSmoothing, kSmoothingPerClass * static_cast<double>(classes))};
}

LexicalHead::LexicalHead(LexicalVocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

absl::StatusOr<std::shared_ptr<const LexicalHead>> LexicalHead::Train(
    const v1::LexicalHead& settings, const RoutingExamples& examples, absl::Time deadline) {
  if (examples.classes.empty()) {
    return absl::InvalidArgumentError("a lexical head needs at least one class");
  }
  if (examples.classes.size() >= kManyClasses) {
    const std::shared_ptr<LexicalHead> head(new LexicalHead(LexicalVocabulary(/*hash_bits=*/1)));
    head->classes_ = examples.classes.size();
    OCTOGATE_ASSIGN_OR_RETURN(
        head->many_,
        ManyLexicalModel::Train(settings.hash_bits(), TrainingOf(settings, examples.classes.size()),
                                examples, deadline));
    head->temperature_ = head->many_->temperature();
    return head;
  }
  const std::shared_ptr<LexicalHead> head(new LexicalHead(LexicalVocabulary(settings.hash_bits())));
  head->classes_ = examples.classes.size();
  const int none = static_cast<int>(head->classes_);

  std::vector<std::string_view> texts;
  std::vector<int> labels;
  for (size_t c = 0; c < examples.classes.size(); ++c) {
    for (const std::string& text : examples.classes[c]) {
      texts.push_back(text);
      labels.push_back(static_cast<int>(c));
    }
  }
  const size_t own = texts.size();
  texts.insert(texts.end(), examples.none.begin(), examples.none.end());
  const size_t background = texts.size();
  texts.insert(texts.end(), BackgroundQueries().begin(), BackgroundQueries().end());
  labels.resize(texts.size(), none);

  const SparseRows rows = head->vocabulary_.Index(texts);
  const std::vector<bool> on_subject =
      FindOnSubject(rows, own, background, head->vocabulary_.rows());
  std::vector<uint32_t> selected;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (i >= background && on_subject[i - background]) continue;
    selected.push_back(static_cast<uint32_t>(i));
  }

  const SoftmaxTraining training = TrainingOf(settings, examples.classes.size());
  const auto train = [&](const std::vector<uint32_t>& some) {
    return TrainSoftmax(rows, labels, some, head->vocabulary_.rows(), head->classes_ + 1, training,
                        deadline);
  };
  const auto logits_of = [&](const LinearModel& model, uint32_t i) {
    std::vector<float> logits = model.bias;
    FindAddRows()(rows.entries.data() + rows.begin[i], rows.entries.data() + rows.begin[i + 1],
                  model.weights.data(), model.stride, logits.data());
    logits.resize(model.classes);
    return logits;
  };
  OCTOGATE_ASSIGN_OR_RETURN(head->temperature_,
                            HeldOutTemperature(selected, labels, train, logits_of));
  OCTOGATE_ASSIGN_OR_RETURN(LinearModel model, train(selected));
  head->vocabulary_.FoldRuns(texts, &model);
  head->model_ = Quantize(model);
  return head;
}

void LexicalHead::Score(std::string_view text, const std::vector<bool>& live,
                        Scores* scores) const {
  if (many_ != nullptr) return many_->Score(text, live, scores);
  std::unique_ptr<Scratch> scratch = scratch_.Take();
  ScoreLogits(ComputeLogits(text, scratch.get()), live, temperature_, scores);
  scratch_.Return(std::move(scratch));
}

std::vector<float> LexicalHead::Logits(std::string_view text) const {
  if (many_ != nullptr) return many_->Logits(text);
  Scratch scratch;
  const std::span<const float> logits = ComputeLogits(text, &scratch);
  return {logits.begin(), logits.end()};
}

LexicalHead::Explanation LexicalHead::Explain(std::string_view text, size_t a, size_t b) const {
  // The model's columns that make up a class.
  const auto columns_of = [this](size_t place) {
    std::vector<size_t> columns;
    if (columns_.empty()) {
      columns.push_back(place);
      return columns;
    }
    for (const int column : {columns_[place].trained, columns_[place].learned}) {
      if (column >= 0) columns.push_back(static_cast<size_t>(column));
    }
    return columns;
  };
  const std::vector<size_t> columns_a = columns_of(a);
  const std::vector<size_t> columns_b = columns_of(b);
  float scale = 0;
  std::vector<LexicalVocabulary::NamedRow> rows =
      (many_ != nullptr ? many_->vocabulary() : vocabulary_).Name(text, &scale);
  const auto weight_of = [&](uint32_t row, const std::vector<size_t>& columns) {
    double weight = 0;
    for (const size_t c : columns) {
      const QuantizedModel::Block& block =
          model_.blocks[row * model_.blocks_per_row + c / QuantizedModel::kBlock];
      weight += double{model_.scales[c]} * block.weights[c % QuantizedModel::kBlock];
    }
    return weight;
  };
  Explanation explanation;
  std::vector<double> differences;  // Of each row.
  if (many_ != nullptr) {
    explanation.prior = many_->BiasOf(a) - many_->BiasOf(b);
    differences = many_->WeightsOf(rows, a);
    const std::vector<double> of_b = many_->WeightsOf(rows, b);
    for (size_t i = 0; i < rows.size(); ++i) differences[i] -= of_b[i];
  } else {
    for (const size_t c : columns_a) explanation.prior += model_.bias[c];
    for (const size_t c : columns_b) explanation.prior -= model_.bias[c];
    for (const LexicalVocabulary::NamedRow& row : rows) {
      differences.push_back(weight_of(row.row, columns_a) - weight_of(row.row, columns_b));
    }
  }
  explanation.prior /= temperature_;
  // By name, since a run may come from several words, and kind.
  std::map<std::pair<int, std::string>, size_t> places;
  for (size_t i = 0; i < rows.size(); ++i) {
    LexicalVocabulary::NamedRow& row = rows[i];
    const auto [place, is_new] =
        places.try_emplace({row.kind, row.name}, explanation.features.size());
    if (is_new) explanation.features.push_back({.kind = row.kind, .text = std::move(row.name)});
    Feature& feature = explanation.features[place->second];
    feature.count += row.count;
    feature.contribution +=
        double{LexicalVocabulary::Frequency(row.count)} * scale * differences[i] / temperature_;
  }
  std::stable_sort(explanation.features.begin(), explanation.features.end(),
                   [](const Feature& x, const Feature& y) {
                     return std::abs(x.contribution) > std::abs(y.contribution);
                   });
  return explanation;
}

std::span<const float> LexicalHead::ComputeLogits(std::string_view text, Scratch* scratch) const {
  vocabulary_.Read(text, &scratch->extractor, &scratch->rows);
  const std::vector<float>& columns =
      scratch->logits.Compute(model_, LexicalVocabulary::Frequency, &scratch->rows);
  if (columns_.empty()) return std::span<const float>(columns).first(classes_ + 1);
  CombineColumns(columns, columns_, &scratch->combined);
  return scratch->combined;
}

}  // namespace octogate::router

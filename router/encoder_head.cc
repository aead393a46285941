#include "router/encoder_head.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "router/background_queries.h"
#include "router/candidate_softmax.h"
#include "router/encoder_ensemble.h"
#include "router/exponential.h"
#include "router/many_embedding_model.h"
#include "router/vector_groups.h"

namespace octogate::router {
namespace {

// Chosen on the validation texts of CLINC150 and held-out training texts of MMLU-Pro, with vectors
// of all-MiniLM-L6-v2.
constexpr double kLearningRate = 0.15;
constexpr double kSmoothing = 0.02;

double Dot(const float* a, const float* b, size_t size) {
  double sum = 0;
  for (size_t i = 0; i < size; ++i) sum += double{a[i]} * double{b[i]};
  return sum;
}

// Puts the logarithm of the sum of exponentials of each class's rows in their place.
void SumRows(const std::vector<size_t>& first_row, std::vector<float>* logits) {
  const size_t classes = first_row.size() - 1;
  for (size_t c = 0; c < classes; ++c) {
    const auto begin = logits->begin() + static_cast<ptrdiff_t>(first_row[c]);
    const auto end = logits->begin() + static_cast<ptrdiff_t>(first_row[c + 1]);
    float logit = *begin;
    if (end - begin > 1) {
      const float max = *std::max_element(begin, end);
      float sum = 0;
      for (auto row = begin; row != end; ++row) sum += Exponential(*row - max);
      logit = max + std::log(sum);
    }
    (*logits)[c] = logit;  // No class has less than one row: it has been read.
  }
  logits->erase(logits->begin() + static_cast<ptrdiff_t>(classes),
                logits->begin() + static_cast<ptrdiff_t>(first_row.back()));
}

// A vector as the trainer takes it.
void Append(std::span<const float> vector, SparseRows* rows) {
  for (size_t i = 0; i < vector.size(); ++i) {
    rows->entries.push_back({static_cast<uint32_t>(i), vector[i]});
  }
  rows->begin.push_back(rows->entries.size());
}

}  // namespace

struct EmbeddingClassifier::Lessons {
  size_t classes = 0;  // Without "none".
  size_t dimension = 0;
  std::vector<int> labels;           // Of each text; `classes` for "none".
  std::vector<const float*> values;  // Its vector,
  SparseRows vectors;                // and as the trainer takes it.
  std::vector<uint32_t> selected;    // The texts that count.

  const SparseRows::Entry* vector(size_t i) const {
    return vectors.entries.data() + vectors.begin[i];
  }

  static absl::StatusOr<Lessons> Of(const RoutingExamples& examples,
                                    const ExampleEmbeddings& embeddings);
};

absl::StatusOr<EmbeddingClassifier::Lessons> EmbeddingClassifier::Lessons::Of(
    const RoutingExamples& examples, const ExampleEmbeddings& embeddings) {
  Lessons lessons;
  lessons.classes = examples.classes.size();
  lessons.dimension = embeddings.dimension();
  for (size_t c = 0; c < lessons.classes; ++c) {
    lessons.labels.insert(lessons.labels.end(), examples.classes[c].size(), static_cast<int>(c));
  }
  const size_t own = lessons.labels.size();
  const std::vector<std::string_view> texts = TextsOf(examples);
  const size_t background = texts.size() - BackgroundQueries().size();
  lessons.labels.resize(texts.size(), static_cast<int>(lessons.classes));
  for (size_t i = 0; i < texts.size(); ++i) {
    const float* vector = embeddings.Find(texts[i]);
    if (vector == nullptr) return absl::InternalError("an example has no vector");
    lessons.values.push_back(vector);
    Append({vector, lessons.dimension}, &lessons.vectors);
    const auto near = [&](const float* other) {
      return Dot(vector, other, lessons.dimension) > kOnSubject;
    };
    if (i >= background &&
        std::any_of(lessons.values.begin(), lessons.values.begin() + static_cast<ptrdiff_t>(own),
                    near)) {
      continue;
    }
    lessons.selected.push_back(static_cast<uint32_t>(i));
  }
  return lessons;
}

SoftmaxTraining EmbeddingClassifier::TrainingOf(const v1::EncoderHead& settings) {
  return {.epochs = settings.epochs(),
          .seed = settings.seed(),
          .learning_rate = kLearningRate,
          .smoothing = kSmoothing};
}

absl::Status EmbeddingClassifier::Divide(const Lessons& lessons, uint64_t seed, absl::Time deadline,
                                         std::vector<int>* row_of, std::vector<size_t>* first_row) {
  const size_t per_row =
      std::max(kExamplesPerRow, (lessons.labels.size() + kMaxRows - 1) / kMaxRows);
  // Of each class and, last, of "none", which stays in one.
  std::vector<size_t> counts(lessons.classes + 1, 0);
  for (const int label : lessons.labels) ++counts[static_cast<size_t>(label)];
  const auto rows_of = [&](size_t c) {
    return c == lessons.classes ? 1 : std::clamp<size_t>(counts[c] / per_row, 1, kMaxRowsOfClass);
  };
  size_t rows = 0;
  for (size_t c = 0; c <= lessons.classes; ++c) rows += rows_of(c);
  if (rows == lessons.classes + 1) return absl::OkStatus();

  first_row->push_back(0);
  size_t first = 0;  // Texts of one class follow one another.
  for (size_t c = 0; c <= lessons.classes; ++c) {
    const std::vector<const float*> own(
        lessons.values.begin() + static_cast<ptrdiff_t>(first),
        lessons.values.begin() + static_cast<ptrdiff_t>(first + counts[c]));
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<uint32_t> groups,
                              GroupVectors(own, lessons.dimension, rows_of(c), seed, deadline));
    uint32_t last = 0;
    for (const uint32_t group : groups) {
      row_of->push_back(static_cast<int>(first_row->back() + group));
      last = std::max(last, group);
    }
    first_row->push_back(first_row->back() + last + 1);
    first += counts[c];
  }
  return absl::OkStatus();
}

std::vector<std::string_view> EmbeddingClassifier::TextsOf(const RoutingExamples& examples) {
  std::vector<std::string_view> texts;
  for (const std::vector<std::string>& own : examples.classes) {
    texts.insert(texts.end(), own.begin(), own.end());
  }
  texts.insert(texts.end(), examples.none.begin(), examples.none.end());
  texts.insert(texts.end(), BackgroundQueries().begin(), BackgroundQueries().end());
  return texts;
}

absl::StatusOr<std::shared_ptr<const EmbeddingClassifier>> EmbeddingClassifier::Train(
    const v1::EncoderHead& settings, const RoutingExamples& examples,
    const ExampleEmbeddings& embeddings, absl::Time deadline) {
  if (examples.classes.empty()) {
    return absl::InvalidArgumentError("an encoder head needs at least one class");
  }
  const std::shared_ptr<EmbeddingClassifier> classifier(new EmbeddingClassifier());
  classifier->add_rows_ = FindAddRows();
  classifier->dimension_ = embeddings.dimension();
  if (examples.classes.size() >= kManyClasses) {
    OCTOGATE_ASSIGN_OR_RETURN(
        classifier->many_,
        ManyEmbeddingModel::Train(TrainingOf(settings), examples, embeddings, deadline));
    classifier->temperature_ = classifier->many_->temperature();
    return classifier;
  }
  OCTOGATE_ASSIGN_OR_RETURN(const Lessons lessons, Lessons::Of(examples, embeddings));

  const SoftmaxTraining training = TrainingOf(settings);
  struct Form {
    std::vector<int> rows;          // Of each text.
    std::vector<size_t> first_row;  // As first_row_.
    size_t count = 0;
    HeldOutFit fit;
  };
  const auto train = [&](const Form& form, const std::vector<uint32_t>& some) {
    return TrainSoftmax(lessons.vectors, form.rows, some, lessons.dimension, form.count, training,
                        deadline);
  };
  const auto fit = [&](Form* form) -> absl::Status {
    const auto logits_of = [&](const LinearModel& model, uint32_t i) {
      std::vector<float> logits = model.bias;
      classifier->add_rows_(lessons.vector(i), lessons.vector(i + 1), model.weights.data(),
                            model.stride, logits.data());
      logits.resize(model.classes);
      if (!form->first_row.empty()) SumRows(form->first_row, &logits);
      return logits;
    };
    OCTOGATE_ASSIGN_OR_RETURN(
        form->fit,
        FitHeldOut(
            lessons.selected, lessons.labels,
            [&](const std::vector<uint32_t>& some) { return train(*form, some); }, logits_of));
    return absl::OkStatus();
  };
  Form form = {.rows = lessons.labels, .first_row = {}, .count = lessons.classes + 1, .fit = {}};
  OCTOGATE_RETURN_IF_ERROR(fit(&form));
  Form divided;
  OCTOGATE_RETURN_IF_ERROR(
      Divide(lessons, training.seed, deadline, &divided.rows, &divided.first_row));
  if (!divided.rows.empty()) {
    divided.count = divided.first_row.back();
    OCTOGATE_RETURN_IF_ERROR(fit(&divided));
    if (divided.fit.loss < form.fit.loss) form = std::move(divided);
  }
  OCTOGATE_ASSIGN_OR_RETURN(classifier->model_, train(form, lessons.selected));
  classifier->first_row_ = std::move(form.first_row);
  classifier->temperature_ = form.fit.temperature;
  return classifier;
}

void EmbeddingClassifier::Score(std::span<const float> vector, const std::vector<bool>& live,
                                HeadScores* scores) const {
  if (many_ != nullptr) return many_->Score(vector, live, scores);
  ScoreLogits(Logits(vector), live, temperature_, scores);
}

std::vector<float> EmbeddingClassifier::Logits(std::span<const float> vector) const {
  if (many_ != nullptr) return many_->Logits(vector);
  SparseRows rows;
  rows.entries.reserve(vector.size());
  Append(vector, &rows);
  std::vector<float> logits = model_.bias;
  add_rows_(rows.entries.data(), rows.entries.data() + rows.entries.size(), model_.weights.data(),
            model_.stride, logits.data());
  logits.resize(model_.classes);
  if (!first_row_.empty()) SumRows(first_row_, &logits);
  if (columns_.empty()) return logits;
  std::vector<float> combined;
  CombineColumns(logits, columns_, &combined);
  return combined;
}

EncoderHead::EncoderHead(std::shared_ptr<const EmbeddingClassifier> classifier,
                         std::shared_ptr<EmbeddingModel> model)
    : classifier_(std::move(classifier)), model_(std::move(model)) {}

EncoderHead::EncoderHead(std::shared_ptr<const EncoderEnsemble> ensemble,
                         std::shared_ptr<EmbeddingModel> model)
    : ensemble_(std::move(ensemble)), model_(std::move(model)) {}

void EncoderHead::Score(std::string_view query, const std::vector<bool>& live,
                        const CallContext& context,
                        std::function<void(absl::StatusOr<Scores>)> done) const {
  v1::WorkerEmbedRequest request;
  request.add_inputs(std::string(query));
  request.set_cut_long_inputs(true);
  model_->Embed(
      request, context,
      [head = shared_from_this(), query = std::string(query), live,
       done = std::move(done)](absl::StatusOr<v1::WorkerEmbedResponse> response) {
        if (!response.ok()) return done(response.status());
        const size_t dimension = head->ensemble_ != nullptr ? head->ensemble_->dimension()
                                                            : head->classifier_->dimension();
        if (response->embeddings_size() != 1 ||
            static_cast<size_t>(response->embeddings(0).values_size()) != dimension) {
          return done(absl::InternalError(
              absl::StrCat("the encoder's answer is not one vector of ", dimension, " values")));
        }
        Scores scores;
        scores.usage = response->usage();
        const std::span<const float> vector(response->embeddings(0).values().data(), dimension);
        if (head->ensemble_ != nullptr) {
          head->ensemble_->Score(query, vector, live, &scores);
        } else {
          head->classifier_->Score(vector, live, &scores);
        }
        done(std::move(scores));
      });
}

}  // namespace octogate::router

// ManyEmbeddingModel::Learn.
#include <algorithm>
#include <memory>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "retrieval/dot_product.h"
#include "router/background_queries.h"
#include "router/contrast_texts.h"
#include "router/encoder_head.h"
#include "router/many_embedding_model.h"

namespace octogate::router {
namespace {

// Of a class that is learned: its mean before it is fitted, as of those that are trained.
constexpr float kMeanLength = 10;

absl::StatusOr<std::vector<const float*>> VectorsOf(const std::vector<std::string_view>& texts,
                                                    const ExampleEmbeddings& embeddings) {
  std::vector<const float*> vectors;
  for (const std::string_view text : texts) {
    vectors.push_back(embeddings.Find(text));
    if (vectors.back() == nullptr) return absl::InternalError("an example has no vector");
  }
  return vectors;
}

}  // namespace

float ManyEmbeddingModel::MarginOf(size_t fitted, std::span<const float> vector) const {
  const std::vector<bool> live(places_.classes, true);
  std::vector<float> logits = {Logit(places_.classes, vector)};
  bool weighed = fitted == places_.classes;
  for (const Near& near : FindNearest(vector, live)) {
    logits.push_back(Logit(near.place, vector));
    weighed = weighed || near.place == fitted;
  }
  const float before = Logit(fitted, vector);
  if (!weighed && before != SummedLogits::kNoLogit) logits.push_back(before);
  return SummedLogits(logits).MarginOf(before);
}

absl::StatusOr<LinearRow> ManyEmbeddingModel::FitRow(const RoutingExamples& examples,
                                                     const LearnedClasses& learned, size_t r,
                                                     std::span<const float> mean,
                                                     const ExampleEmbeddings& embeddings,
                                                     RowTraining training,
                                                     absl::Time deadline) const {
  static const retrieval::DotProductFunction dot = retrieval::FindDotProduct();
  const size_t dimension = embeddings.dimension();
  const LearnedClasses::Row& row = learned.rows[r];
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<const float*> taught,
                            VectorsOf({row.texts.begin(), row.texts.end()}, embeddings));
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<const float*> background,
                            VectorsOf(BackgroundQueries(), embeddings));
  std::vector<bool> on_subject;
  for (const float* const vector : background) {
    on_subject.push_back(std::any_of(taught.begin(), taught.end(), [&](const float* own) {
      return dot(vector, own, dimension) > EmbeddingClassifier::kOnSubject;
    }));
  }
  const std::vector<bool> live(places_.classes, true);
  const auto nearest = [&](std::string_view text) {
    std::vector<ClassLogit> found;
    for (const Near& near : FindNearest({embeddings.Find(text), dimension}, live)) {
      found.push_back({near.place, near.similarity});
    }
    return found;
  };
  OCTOGATE_ASSIGN_OR_RETURN(
      const ContrastTexts texts,
      CollectContrastTexts(examples, learned, r, places_, nearest, on_subject, deadline));
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<const float*> vectors,
                            VectorsOf(texts.texts, embeddings));

  SparseRows rows;
  std::vector<float> margins;
  std::vector<bool> own;
  std::vector<uint32_t> selected;
  for (uint32_t i = 0; i < vectors.size(); ++i) {
    if (absl::Now() >= deadline) {
      return absl::DeadlineExceededError("weighed what a member learns until the deadline");
    }
    for (size_t k = 0; k < dimension; ++k) {
      rows.entries.push_back({static_cast<uint32_t>(k), vectors[i][k]});
    }
    rows.begin.push_back(rows.entries.size());
    margins.push_back(MarginOf(row.place, {vectors[i], dimension}));
    // A new class begins as its mean: what is fitted is what to change about that.
    if (!mean.empty()) margins.back() += kMeanLength * dot(mean.data(), vectors[i], dimension);
    own.push_back(i < texts.own);
    selected.push_back(i);
  }
  training.repeat = RepeatOf(texts.own);
  OCTOGATE_ASSIGN_OR_RETURN(
      LinearRow fitted, FitSoftmaxRow(rows, own, margins, selected, dimension, training, deadline));
  for (size_t k = 0; k < mean.size(); ++k) fitted.weights[k] += kMeanLength * mean[k];
  return fitted;
}

absl::StatusOr<std::shared_ptr<const ManyEmbeddingModel>> ManyEmbeddingModel::Learn(
    const ManyEmbeddingModel& trained, const SoftmaxTraining& training,
    const RoutingExamples& examples, const LearnedClasses& learned,
    const ExampleEmbeddings& embeddings, absl::Time deadline,
    std::vector<std::shared_ptr<const LinearRow>>* rows) {
  const std::shared_ptr<ManyEmbeddingModel> model(
      new ManyEmbeddingModel(ClassPlaces(learned, trained.places_.classes)));
  model->trained_ = trained.trained_;
  const size_t classes = model->places_.classes;
  const RowTraining row_training = RowTrainingOf(training, kCandidates + 2);
  for (size_t r = 0; r < learned.rows.size(); ++r) {
    const auto& [place, texts] = learned.rows[r];
    Learned added = {.place = place, .mean = {}, .row = (*rows)[r]};
    if (place != classes) {
      OCTOGATE_ASSIGN_OR_RETURN(const std::vector<const float*> vectors,
                                VectorsOf({texts.begin(), texts.end()}, embeddings));
      std::vector<uint32_t> all(texts.size());
      std::iota(all.begin(), all.end(), 0);
      const std::vector<int> labels(texts.size(), 0);
      added.mean = std::move(MeansOf(vectors, labels, all, 1, embeddings.dimension()).front());
    }
    if (added.row == nullptr) {
      const bool is_new = model->places_.trained_of[place] < 0;
      OCTOGATE_ASSIGN_OR_RETURN(
          LinearRow row,
          model->FitRow(examples, learned, r,
                        is_new ? std::span<const float>(added.mean) : std::span<const float>(),
                        embeddings, row_training, deadline));
      added.row = std::make_shared<const LinearRow>(std::move(row));
    }
    (*rows)[r] = added.row;
    model->places_.learned_of[place] = static_cast<int>(model->learned_.size());
    model->learned_.push_back(std::move(added));
  }
  return model;
}

}  // namespace octogate::router

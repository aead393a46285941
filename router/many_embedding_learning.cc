// ManyEmbeddingModel::Learn.
#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/status.h"
#include "retrieval/dot_product.h"
#include "router/background_queries.h"
#include "router/encoder_head.h"
#include "router/many_embedding_model.h"

namespace octogate::router {
namespace {

// A learned class shows its texts as often as one with this many would, within kMaxRepeat times.
constexpr size_t kTextsOfClass = 100;
constexpr size_t kMaxRepeat = 8;
// Texts of other classes that a class is told apart from, beside those of "none".
constexpr size_t kMaxOthers = 512;
// Of a class that is learned: its mean before it is fitted, as of those that are trained.
constexpr float kMeanLength = 10;

}  // namespace

class ManyEmbeddingModel::RowFitter {
 public:
  RowFitter(const ManyEmbeddingModel& model, const RoutingExamples& examples,
            const LearnedClasses& learned, const ExampleEmbeddings& embeddings)
      : model_(model), examples_(examples), learned_(learned), embeddings_(embeddings) {}

  // The row of learned.rows[r], on top of the model, which has those before it.
  absl::StatusOr<LinearRow> Fit(size_t r, std::span<const float> mean, RowTraining training,
                                absl::Time deadline) {
    const LearnedClasses::Row& row = learned_.rows[r];
    const size_t dimension = embeddings_.dimension();
    for (const std::string& text : row.texts) {
      OCTOGATE_RETURN_IF_ERROR(AddText(text, row.place, /*own=*/true));
    }
    const size_t taught = vectors_.size();
    OCTOGATE_RETURN_IF_ERROR(AddTextsOf(row.place, r, row.place, vectors_.size() + kMaxOthers));
    const size_t own = vectors_.size();
    // What the new texts would be taken for.
    for (const size_t place : NearestPlaces(row.place, taught)) {
      if (vectors_.size() >= own + kMaxOthers) break;
      OCTOGATE_RETURN_IF_ERROR(AddTextsOf(place, r, row.place, own + kMaxOthers));
    }
    if (row.place != model_.classes_) OCTOGATE_RETURN_IF_ERROR(AddNone(r, taught));

    SparseRows rows;
    for (size_t i = 0; i < vectors_.size(); ++i) {
      for (size_t k = 0; k < dimension; ++k) {
        rows.entries.push_back({static_cast<uint32_t>(k), vectors_[i][k]});
      }
      rows.begin.push_back(rows.entries.size());
      // A new class begins as its mean: what is fitted is what to change about that.
      if (mean.empty()) continue;
      margins_[i] += kMeanLength * dot_(mean.data(), vectors_[i], dimension);
    }
    std::vector<uint32_t> selected(vectors_.size());
    for (uint32_t i = 0; i < selected.size(); ++i) selected[i] = i;
    training.repeat = static_cast<int>(
        std::clamp<size_t>(kTextsOfClass / std::max<size_t>(own, 1), 1, kMaxRepeat));
    OCTOGATE_ASSIGN_OR_RETURN(LinearRow fitted, FitSoftmaxRow(rows, own_, margins_, selected,
                                                              dimension, training, deadline));
    for (size_t k = 0; k < mean.size(); ++k) fitted.weights[k] += kMeanLength * mean[k];
    return fitted;
  }

 private:
  absl::Status AddText(std::string_view text, size_t fitted, bool own) {
    const float* const values = embeddings_.Find(text);
    if (values == nullptr) return absl::InternalError("an example has no vector");
    const std::span<const float> vector(values, embeddings_.dimension());
    // Against what a decision would weigh.
    std::vector<float> logits = {model_.Logit(model_.classes_, vector)};
    bool weighed = fitted == model_.classes_;
    for (const Near& near : model_.FindNearest(vector, live_)) {
      logits.push_back(model_.Logit(near.place, vector));
      weighed = weighed || near.place == fitted;
    }
    const float before = model_.Logit(fitted, vector);
    if (!weighed && before != SummedLogits::kNoLogit) logits.push_back(before);
    vectors_.push_back(values);
    margins_.push_back(SummedLogits(logits).MarginOf(before));
    own_.push_back(own);
    return absl::OkStatus();
  }

  // Those that the class was trained on, or has learned before row r, until there are `most`.
  absl::Status AddTextsOf(size_t place, size_t r, size_t fitted, size_t most) {
    const auto add = [&](const std::vector<std::string>& texts) -> absl::Status {
      for (const std::string& text : texts) {
        if (vectors_.size() >= most) break;
        OCTOGATE_RETURN_IF_ERROR(AddText(text, fitted, place == fitted));
      }
      return absl::OkStatus();
    };
    if (place == model_.classes_) {
      OCTOGATE_RETURN_IF_ERROR(add(examples_.none));
    } else if (const int trained = model_.trained_of_[place]; trained >= 0) {
      OCTOGATE_RETURN_IF_ERROR(add(examples_.classes[static_cast<size_t>(trained)]));
    }
    for (size_t before = 0; before < r; ++before) {
      if (learned_.rows[before].place != place) continue;
      OCTOGATE_RETURN_IF_ERROR(add(learned_.rows[before].texts));
    }
    return absl::OkStatus();
  }

  // The classes nearest to any of the first `texts`, the nearest first, without `fitted`.
  std::vector<size_t> NearestPlaces(size_t fitted, size_t texts) const {
    std::map<uint32_t, float> similarity;
    for (size_t i = 0; i < texts; ++i) {
      for (const Near& near : model_.FindNearest({vectors_[i], embeddings_.dimension()}, live_)) {
        const auto [known, is_new] = similarity.emplace(near.place, near.similarity);
        known->second = std::max(known->second, near.similarity);
      }
    }
    std::vector<std::pair<float, size_t>> order;
    for (const auto& [place, near] : similarity) {
      if (place != fitted) order.emplace_back(-near, place);
    }
    std::sort(order.begin(), order.end());
    std::vector<size_t> places;
    for (const auto& [near, place] : order) places.push_back(place);
    return places;
  }

  // Texts of "none", but for built-in ones on the subject of the class.
  absl::Status AddNone(size_t r, size_t taught) {
    const size_t none = model_.classes_;
    const size_t fitted = learned_.rows[r].place;
    OCTOGATE_RETURN_IF_ERROR(AddTextsOf(none, r, fitted, vectors_.size() + kMaxOthers));
    for (const std::string_view text : BackgroundQueries()) {
      const float* const vector = embeddings_.Find(text);
      if (vector == nullptr) return absl::InternalError("an example has no vector");
      const bool on_subject = std::any_of(
          vectors_.begin(), vectors_.begin() + static_cast<ptrdiff_t>(taught),
          [&](const float* own) {
            return dot_(vector, own, embeddings_.dimension()) > EmbeddingClassifier::kOnSubject;
          });
      if (!on_subject) OCTOGATE_RETURN_IF_ERROR(AddText(text, fitted, /*own=*/false));
    }
    return absl::OkStatus();
  }

  const ManyEmbeddingModel& model_;
  const RoutingExamples& examples_;
  const LearnedClasses& learned_;
  const ExampleEmbeddings& embeddings_;
  const retrieval::DotProductFunction dot_ = retrieval::FindDotProduct();
  const std::vector<bool> live_ = std::vector<bool>(model_.classes_, true);
  std::vector<const float*> vectors_;
  std::vector<float> margins_;
  std::vector<bool> own_;
};

absl::StatusOr<std::shared_ptr<const ManyEmbeddingModel>> ManyEmbeddingModel::Learn(
    const ManyEmbeddingModel& trained, const SoftmaxTraining& training,
    const RoutingExamples& examples, const LearnedClasses& learned,
    const ExampleEmbeddings& embeddings, absl::Time deadline,
    std::vector<std::shared_ptr<const LinearRow>>* rows) {
  const std::shared_ptr<ManyEmbeddingModel> model(new ManyEmbeddingModel());
  const size_t classes = model->classes_ = learned.trained.size();
  model->trained_ = trained.trained_;
  model->trained_of_ = learned.trained;
  model->place_of_.assign(trained.classes_, -1);
  for (size_t place = 0; place < classes; ++place) {
    const int from = learned.trained[place];
    if (from >= 0) model->place_of_[static_cast<size_t>(from)] = static_cast<int>(place);
  }
  model->learned_of_.assign(classes + 1, -1);
  const RowTraining row_training = {.epochs = training.epochs,
                                    .seed = training.seed,
                                    .learning_rate = training.learning_rate,
                                    .smoothing = training.smoothing,
                                    .classes = kCandidates + 2};
  for (size_t r = 0; r < learned.rows.size(); ++r) {
    const auto& [place, texts] = learned.rows[r];
    Learned added = {.place = place, .mean = {}, .row = (*rows)[r]};
    if (place != classes) {
      std::vector<const float*> vectors;
      std::vector<uint32_t> all;
      for (const std::string& text : texts) {
        all.push_back(static_cast<uint32_t>(vectors.size()));
        vectors.push_back(embeddings.Find(text));
        if (vectors.back() == nullptr) return absl::InternalError("an example has no vector");
      }
      const std::vector<int> labels(texts.size(), 0);
      added.mean = std::move(MeansOf(vectors, labels, all, 1, embeddings.dimension()).front());
    }
    if (added.row == nullptr) {
      const bool is_new = place != classes && learned.trained[place] < 0;
      RowFitter fitter(*model, examples, learned, embeddings);
      OCTOGATE_ASSIGN_OR_RETURN(
          LinearRow row,
          fitter.Fit(r, is_new ? std::span<const float>(added.mean) : std::span<const float>(),
                     row_training, deadline));
      added.row = std::make_shared<const LinearRow>(std::move(row));
    }
    (*rows)[r] = added.row;
    model->learned_of_[place] = static_cast<int>(model->learned_.size());
    model->learned_.push_back(std::move(added));
  }
  return model;
}

}  // namespace octogate::router

#include "router/example_embeddings.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::router {
namespace {

// Texts of one call: few enough to be shared by replicas, and not to hold up others for long.
constexpr size_t kBatch = 64;
// Calls under way at the same time.
constexpr size_t kCallsAtOnce = 4;

struct Batch {
  absl::Notification done;
  absl::StatusOr<v1::WorkerEmbedResponse> response = absl::UnknownError("");
};

const float* FindAmong(const std::vector<std::shared_ptr<const ExampleEmbeddings>>& known,
                       std::string_view text) {
  for (const std::shared_ptr<const ExampleEmbeddings>& embeddings : known) {
    if (const float* vector = embeddings->Find(text)) return vector;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ExampleEmbeddings>> ExampleEmbeddings::Make(
    const std::vector<std::string_view>& texts, EmbeddingModel& model, absl::Time deadline,
    const std::vector<std::shared_ptr<const ExampleEmbeddings>>& known) {
  const std::shared_ptr<ExampleEmbeddings> result(new ExampleEmbeddings());
  std::vector<std::string_view> unknown;
  for (const std::string_view text : texts) {
    const auto [place, is_new] =
        result->places_.try_emplace(std::string(text), result->places_.size());
    if (is_new && FindAmong(known, text) == nullptr) unknown.push_back(text);
  }
  if (!known.empty()) result->dimension_ = known.front()->dimension();
  const auto make_room = [&]() -> absl::Status {
    const size_t count = result->places_.size();
    if (result->dimension_ > 0 && count > kMaxValues / result->dimension_) {
      return absl::InvalidArgumentError(absl::StrCat(
          count, " examples with vectors of ", result->dimension_, " values are more than the ",
          kMaxValues / result->dimension_, " that there is room for; give the members fewer ",
          "examples, or the head a model of shorter vectors"));
    }
    result->values_.resize(count * result->dimension_);
    return absl::OkStatus();
  };

  const auto place = [&](std::string_view text, const float* from) {
    const size_t at = result->places_.at(ToAbsl(text)) * result->dimension_;
    std::copy_n(from, result->dimension_, result->values_.data() + at);
  };
  const auto take = [&](size_t first, Batch& batch) -> absl::Status {
    batch.done.WaitForNotification();  // The deadline ends the call.
    OCTOGATE_RETURN_IF_ERROR(batch.response.status());
    const size_t count = std::min(kBatch, unknown.size() - first);
    if (static_cast<size_t>(batch.response->embeddings_size()) != count) {
      return absl::InternalError(absl::StrCat("the model answered ", count, " texts with ",
                                              batch.response->embeddings_size(), " vectors"));
    }
    for (size_t i = 0; i < count; ++i) {
      const v1::Embedding& embedding = batch.response->embeddings(static_cast<int>(i));
      const auto size = static_cast<size_t>(embedding.values_size());
      if (result->dimension_ == 0) result->dimension_ = size;
      if (size == 0 || size != result->dimension_) {
        return absl::InternalError(absl::StrCat("the model's vectors have ", result->dimension_,
                                                " and ", size, " values"));
      }
      OCTOGATE_RETURN_IF_ERROR(make_room());
      place(unknown[first + i], embedding.values().data());
    }
    return absl::OkStatus();
  };

  absl::Status status;
  std::vector<std::pair<size_t, std::shared_ptr<Batch>>> under_way;
  for (size_t first = 0; first < unknown.size() || !under_way.empty(); first += kBatch) {
    if (first < unknown.size() && status.ok()) {
      v1::WorkerEmbedRequest request;
      request.set_cut_long_inputs(true);
      for (size_t i = first; i < std::min(first + kBatch, unknown.size()); ++i) {
        request.add_inputs(std::string(unknown[i]));
      }
      auto batch = std::make_shared<Batch>();
      model.Embed(request, {.deadline = deadline},
                  [batch](absl::StatusOr<v1::WorkerEmbedResponse> response) {
                    batch->response = std::move(response);
                    batch->done.Notify();
                  });
      under_way.emplace_back(first, std::move(batch));
      if (under_way.size() < kCallsAtOnce && first + kBatch < unknown.size()) continue;
    }
    if (under_way.empty()) break;
    status.Update(take(under_way.front().first, *under_way.front().second));
    under_way.erase(under_way.begin());
  }
  OCTOGATE_RETURN_IF_ERROR(status);
  OCTOGATE_RETURN_IF_ERROR(make_room());
  for (const std::string_view text : texts) {
    if (const float* vector = FindAmong(known, text)) place(text, vector);
  }
  return result;
}

const float* ExampleEmbeddings::Find(std::string_view text) const {
  const auto found = places_.find(ToAbsl(text));
  return found == places_.end() ? nullptr : values_.data() + found->second * dimension_;
}

}  // namespace octogate::router

#include "workers/server/served_model.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace octogate::workers {

absl::Status ServedModel::CheckInputs(const v1::WorkerEmbedRequest& request) {
  if (!request.inputs().empty() && request.inputs_size() <= kMaxEmbedInputs) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("inputs has ", request.inputs_size(),
                                                 " texts; it must have 1 to ", kMaxEmbedInputs));
}

void ServedModel::AddEmbedding(std::span<const float> values, v1::WorkerEmbedResponse* response) {
  double squares = 0;
  for (const float value : values) squares += double{value} * value;
  const double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  v1::Embedding& embedding = *response->add_embeddings();
  embedding.mutable_values()->Reserve(static_cast<int>(values.size()));
  for (const float value : values) embedding.add_values(static_cast<float>(value * scale));
}

}  // namespace octogate::workers

#include "workers/server/served_model.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::workers {

absl::StatusOr<v1::WorkerFlushCacheResponse> ServedModel::FlushCache(
    const v1::WorkerFlushCacheRequest& request, absl::Time deadline) {
  const std::string& id = request.id();
  if (id.empty() || id.size() > PageFlush::kMaxIdBytes ||
      !std::all_of(id.begin(), id.end(),
                   [](char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); })) {
    return absl::InvalidArgumentError(absl::StrCat("id is ", Quoted(id), "; it must have 1 to ",
                                                   PageFlush::kMaxIdBytes,
                                                   " characters of a-z and 0-9"));
  }
  if (request.cache_salt().size() > ServiceTerms::kMaxTenantBytes) {
    return absl::InvalidArgumentError(absl::StrCat("cache_salt has ", request.cache_salt().size(),
                                                   " bytes; it must have at most ",
                                                   ServiceTerms::kMaxTenantBytes));
  }
  PageFlush flush{.id = id, .cache_salt = std::nullopt};
  if (request.has_cache_salt()) flush.cache_salt = request.cache_salt();
  return Flush(flush, std::min(deadline, absl::Now() + kMaxFlushTime));
}

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

#include "tests/bench/cached_encoder.h"

#include <cmath>
#include <cstdlib>
#include <iostream>
#include <utility>

#include "common/digest.h"

namespace octogate::bench {
namespace {

constexpr size_t kKeyBytes = 64;

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

}  // namespace

CachedEncoder::CachedEncoder(const std::filesystem::path& folder, std::string cache, int threads)
    : loaded_(OrExit(workers::LoadEncoder(
          folder, {.encoder = {.weight_format = kernels::WeightFormat::kInt8Group},
                   .device = {.threads = threads}}))) {
  if (cache.empty()) return;
  const auto size = static_cast<size_t>(loaded_->encoder->config().hidden_size);
  std::ifstream in(cache, std::ios::binary);
  std::string key(kKeyBytes, 0);
  std::vector<float> vector(size);
  while (in.read(key.data(), kKeyBytes) &&
         in.read(reinterpret_cast<char*>(vector.data()),
                 static_cast<std::streamsize>(size * sizeof(float)))) {
    known_.emplace(key, vector);
  }
  file_.open(cache, std::ios::binary | std::ios::app);
}

void CachedEncoder::Embed(const v1::WorkerEmbedRequest& request, const router::CallContext&,
                          EmbedDone done) {
  std::vector<std::string> keys;
  std::vector<std::vector<int32_t>> texts;
  std::vector<std::string> missing;
  for (const std::string& input : request.inputs()) {
    // A key costs more than a cached vector may: none where times are taken.
    keys.push_back(compute_always_ ? "" : Sha256Hex(input));
    if (!compute_always_ && known_.contains(keys.back())) continue;
    texts.push_back(OrExit(loaded_->EncodeText(input, workers::LongText::kCut)));
    missing.push_back(keys.back());
  }
  std::vector<std::vector<float>> vectors;
  if (!texts.empty()) {
    vectors = OrExit(loaded_->encoder->Embed(std::move(texts), absl::InfiniteFuture()));
  }
  for (size_t i = 0; i < vectors.size(); ++i) {
    double squares = 0;
    for (const float value : vectors[i]) squares += double{value} * double{value};
    for (float& value : vectors[i]) value = static_cast<float>(value / std::sqrt(squares));
    if (compute_always_) continue;
    if (file_.is_open()) {
      file_.write(missing[i].data(), kKeyBytes);
      file_.write(reinterpret_cast<const char*>(vectors[i].data()),
                  static_cast<std::streamsize>(vectors[i].size() * sizeof(float)));
    }
    known_.emplace(missing[i], vectors[i]);
  }
  v1::WorkerEmbedResponse response;
  for (size_t i = 0; i < keys.size(); ++i) {
    const std::vector<float>& vector = compute_always_ ? vectors[i] : known_.at(keys[i]);
    response.add_embeddings()->mutable_values()->Add(vector.begin(), vector.end());
  }
  done(std::move(response));
}

absl::StatusOr<std::string> CachedEncoder::Fingerprint(absl::Time) {
  return loaded_->checkpoint->ComputeFingerprint().ToHex();
}

}  // namespace octogate::bench

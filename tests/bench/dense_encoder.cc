#include "tests/bench/dense_encoder.h"

#include <cstdlib>
#include <iostream>
#include <memory>
#include <span>
#include <utility>

#include "absl/time/time.h"
#include "tests/bench/cached_encoder.h"

namespace octogate::bench {

schema::TextEncoder LoadTextEncoder(const std::filesystem::path& folder, const std::string& cache) {
  auto encoder = std::make_shared<CachedEncoder>(folder, cache, /*threads=*/1);
  schema::TextEncoder result;
  result.embed = [encoder](std::span<const std::string> texts, absl::Time) {
    v1::WorkerEmbedRequest request;
    for (const std::string& text : texts) request.add_inputs(text);
    absl::StatusOr<std::vector<std::vector<float>>> vectors =
        absl::InternalError("the encoder has not answered");
    encoder->Embed(request, {}, [&](absl::StatusOr<v1::WorkerEmbedResponse> response) {
      if (!response.ok()) {
        vectors = response.status();
        return;
      }
      vectors.emplace();
      for (const auto& embedding : response->embeddings()) {
        vectors->emplace_back(embedding.values().begin(), embedding.values().end());
      }
    });
    return vectors;
  };
  result.fingerprint = *encoder->Fingerprint(absl::InfiniteFuture());
  result.dimension = EmbedOne(result, "a").size();
  return result;
}

std::vector<float> EmbedOne(const schema::TextEncoder& encoder, const std::string& text) {
  const auto vectors = encoder.embed(std::span(&text, 1), absl::InfiniteFuture());
  if (!vectors.ok()) {
    std::cerr << vectors.status() << "\n";
    std::exit(1);
  }
  return vectors->front();
}

}  // namespace octogate::bench

// A sentence encoder in this process as the router's heads see it, with vectors kept on disk.
#ifndef OCTOGATE_TESTS_BENCH_CACHED_ENCODER_H_
#define OCTOGATE_TESTS_BENCH_CACHED_ENCODER_H_

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "router/embedding_model.h"
#include "workers/encoder/encoder_runner.h"

namespace octogate::bench {

// Called by one thread at a time.
class CachedEncoder final : public router::EmbeddingModel {
 public:
  // Loads INT8 weights; of texts, the first 256 tokens count. `cache`: a file that is read and
  // added to, for this model alone; empty: none. A failure ends the program.
  CachedEncoder(const std::filesystem::path& folder, std::string cache, int threads);

  void Embed(const v1::WorkerEmbedRequest& request, const router::CallContext& context,
             EmbedDone done) override;
  absl::StatusOr<std::string> Fingerprint(absl::Time deadline) override;

  // Whether vectors that are known are computed anew, so that times are those of the encoder.
  void set_compute_always(bool value) { compute_always_ = value; }

 private:
  std::unique_ptr<workers::LoadedEncoder> loaded_;
  std::unordered_map<std::string, std::vector<float>> known_;  // By SHA-256 of the text.
  std::ofstream file_;
  bool compute_always_ = false;
};

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_CACHED_ENCODER_H_

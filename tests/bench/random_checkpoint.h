// A Llama checkpoint folder with random BF16 weights, for benchmarks: the time that a step takes
// does not depend on what the weights say.
#ifndef OCTOGATE_TESTS_BENCH_RANDOM_CHECKPOINT_H_
#define OCTOGATE_TESTS_BENCH_RANDOM_CHECKPOINT_H_

#include <cstdint>
#include <filesystem>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/checkpoint.h"

namespace octogate::bench {

struct RandomCheckpoint {
  int hidden_size = 1024;
  int intermediate_size = 3584;
  int num_layers = 12;
  int num_heads = 16;
  int num_kv_heads = 4;
  int head_dim = 64;
  int vocab_size = 16384;
  int max_position_embeddings = 4096;
};

// Writes config.json and model.safetensors into `folder`, which exists.
absl::Status WriteRandomCheckpoint(const RandomCheckpoint& shape,
                                   const std::filesystem::path& folder);

// Writes one there and opens it.
absl::StatusOr<std::shared_ptr<const workers::Checkpoint>> OpenRandomCheckpoint(
    const RandomCheckpoint& shape, const std::filesystem::path& folder);

// Bytes of weights that every token reads: all but the embedding.
uint64_t BytesPerToken(const RandomCheckpoint& shape);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_RANDOM_CHECKPOINT_H_

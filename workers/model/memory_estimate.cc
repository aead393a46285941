#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "workers/model/checkpoint.h"

namespace octogate::workers {
namespace {

uint64_t SaturatingMultiply(uint64_t a, uint64_t b) {
  uint64_t product;
  return __builtin_mul_overflow(a, b, &product) ? std::numeric_limits<uint64_t>::max() : product;
}

uint64_t SaturatingAdd(uint64_t a, uint64_t b) {
  uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<uint64_t>::max() : sum;
}

uint64_t Size(int64_t value) { return value < 0 ? 0 : static_cast<uint64_t>(value); }

std::string Megabytes(uint64_t bytes) {
  return absl::StrFormat("%.1f MB", static_cast<double>(bytes) / 1e6);
}

}  // namespace

uint64_t MemoryEstimate::total() const {
  return SaturatingAdd(weights, SaturatingAdd(kv, activations));
}

uint64_t CountParameters(const ModelConfig& config) {
  const uint64_t h = Size(config.hidden_size);
  const uint64_t m = Size(config.intermediate_size);
  const uint64_t q = Size(config.q_dim());
  const uint64_t k = Size(config.kv_dim());
  uint64_t layer = 2 * h              // norms
                   + h * (q + 2 * k)  // q, k, v
                   + h * q            // o
                   + 3 * h * m;       // gate, up, down
  if (config.qkv_bias) layer += q + 2 * k;
  if (config.o_bias) layer += h;
  if (config.mlp_bias) layer += 2 * m + h;
  if (config.qk_norm) layer += 2 * Size(config.head_dim);
  const uint64_t table = Size(config.vocab_size) * h;
  return SaturatingAdd(SaturatingMultiply(layer, Size(config.num_layers)),
                       table * (config.tie_word_embeddings ? 1 : 2) + h);
}

MemoryEstimate EstimateMemory(const ModelConfig& config, const MemoryPlan& plan) {
  MemoryEstimate estimate;
  estimate.weights = SaturatingMultiply(CountParameters(config), DTypeSize(plan.weight_dtype));
  const uint64_t kv_per_token = 2 * Size(config.kv_dim()) * Size(config.num_layers);
  estimate.kv = SaturatingMultiply(SaturatingMultiply(kv_per_token, DTypeSize(plan.kv_dtype)),
                                   Size(plan.kv_tokens));
  // Alive at once for a token: the residual, its normalised copy, queries, keys,
  // values, the attention's output, and gate and up.
  const uint64_t per_token = 2 * Size(config.hidden_size) + 2 * Size(config.q_dim()) +
                             2 * Size(config.kv_dim()) + 2 * Size(config.intermediate_size);
  const uint64_t elements =
      SaturatingAdd(SaturatingMultiply(per_token, Size(plan.step_tokens)),
                    SaturatingMultiply(Size(config.vocab_size), Size(plan.logit_rows)));
  estimate.activations = SaturatingMultiply(elements, sizeof(float));
  return estimate;
}

absl::Status CheckMemory(const MemoryEstimate& estimate, uint64_t limit_bytes,
                         std::string_view model_name) {
  if (estimate.total() <= limit_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "model ", std::string(model_name), " needs ", Megabytes(estimate.total()), " (weights ",
      Megabytes(estimate.weights), ", KV ", Megabytes(estimate.kv), ", activations ",
      Megabytes(estimate.activations), "), and the limit is ", Megabytes(limit_bytes),
      "; raise the limit, shorten the context, or keep weights in a smaller dtype"));
}

}  // namespace octogate::workers

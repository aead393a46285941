#include "workers/engine/engine_options.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "workers/speculation/draft_tree.h"

namespace octogate::workers {
namespace {

// A cache that is sized to the memory there is holds at least one sequence of this length.
constexpr int kSmallestUsefulContext = 256;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

absl::Status ValidateEngineOptions(const EngineOptions& options) {
  const auto at_least = [](const char* name, int64_t value, int64_t bound) {
    if (value >= bound) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("engine option ", name, " is ", value, "; it must be at least ", bound));
  };
  absl::Status status = at_least("max_sequences", options.max_sequences, 1);
  status.Update(at_least("max_waiting", options.max_waiting, 1));
  status.Update(at_least("max_rows_per_step", options.max_rows_per_step, options.max_sequences));
  status.Update(at_least("page_size", options.page_size, 1));
  status.Update(at_least("kv_tokens", options.kv_tokens, 0));
  status.Update(at_least("ageing_steps", options.ageing_steps, 1));
  status.Update(at_least("max_context", options.max_context, 0));
  status.Update(at_least("max_draft_nodes", options.max_draft_nodes, 0));
  if (!status.ok()) return status;
  const bool limits_steps =
      options.max_step_time > absl::ZeroDuration() || options.max_step_slowdown > 0;
  if (options.step_cost_time < absl::ZeroDuration() ||
      options.max_step_time < absl::ZeroDuration() || !(options.max_step_slowdown >= 0)) {
    return absl::InvalidArgumentError(
        "engine options: step_cost_time, max_step_time and max_step_slowdown must not be negative");
  }
  if (limits_steps && options.step_cost_time == absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        "engine options: max_step_time and max_step_slowdown need a measured cost; give "
        "step_cost_time");
  }
  if (options.max_rows_per_step > EngineOptions::kMaxRowsPerStep ||
      options.page_size > EngineOptions::kMaxPageSize ||
      options.kv_tokens > EngineOptions::kMaxKvTokens ||
      options.ageing_steps > EngineOptions::kMaxAgeingSteps) {
    return absl::InvalidArgumentError(absl::StrCat(
        "engine options: max_rows_per_step is at most ", EngineOptions::kMaxRowsPerStep,
        ", page_size ", EngineOptions::kMaxPageSize, ", kv_tokens ", EngineOptions::kMaxKvTokens,
        ", ageing_steps ", EngineOptions::kMaxAgeingSteps));
  }
  if (!(options.prune_retrieved_below >= 0 && options.prune_retrieved_below < 1)) {
    return absl::InvalidArgumentError(absl::StrCat("engine option prune_retrieved_below is ",
                                                   options.prune_retrieved_below,
                                                   "; it is a probability from 0 on and below 1"));
  }
  if (options.max_draft_nodes > kMaxDraftNodes) {
    return absl::InvalidArgumentError(absl::StrCat("engine option max_draft_nodes is ",
                                                   options.max_draft_nodes, "; it is at most ",
                                                   kMaxDraftNodes));
  }
  return absl::OkStatus();
}

int LongestContext(const ModelConfig& config, const EngineOptions& options) {
  if (options.max_context == 0) return config.max_position_embeddings;
  return std::min(config.max_position_embeddings, options.max_context);
}

TransformerLimits TransformerLimitsOf(const EngineOptions& options) {
  // Every drafted row has logits.
  const int64_t logit_rows = int64_t{options.max_sequences} * (1 + options.max_draft_nodes);
  return {
      .max_rows = options.max_rows_per_step,
      .max_logit_rows = static_cast<int>(std::min<int64_t>(options.max_rows_per_step, logit_rows))};
}

MemoryDemand MemoryDemandOf(const Checkpoint& checkpoint, const kernels::Backend& backend,
                            const EngineOptions& options) {
  const ModelConfig& config = checkpoint.config();
  const int context = LongestContext(config, options);
  MemoryDemand demand;
  demand.weight_bytes = Transformer::WeightBytes(checkpoint, backend, options.weight_format);
  demand.activation_bytes = Transformer::ActivationBytes(config, TransformerLimitsOf(options));
  demand.swap_bytes = options.swap_bytes;
  demand.page_size = options.page_size;
  demand.page_bytes = uint64_t{2} * static_cast<uint64_t>(config.num_layers) *
                      static_cast<uint64_t>(config.num_kv_heads) *
                      kernels::KvHeadBytes(*options.kv_dtype, config.head_dim) *
                      static_cast<uint64_t>(options.page_size);
  demand.flexible = options.kv_tokens == 0;
  demand.pages = demand.flexible ? options.max_sequences * CeilDiv(context, options.page_size)
                                 : CeilDiv(options.kv_tokens, options.page_size);
  demand.minimum_pages = CeilDiv(std::min(context, kSmallestUsefulContext), options.page_size);
  if (options.kv_memory_bytes > 0) demand.kv_limit_bytes = options.kv_memory_bytes;
  return demand;
}

}  // namespace octogate::workers

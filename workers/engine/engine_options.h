// What an engine is created with, and the memory that this asks for.
#ifndef OCTOGATE_WORKERS_ENGINE_ENGINE_OPTIONS_H_
#define OCTOGATE_WORKERS_ENGINE_ENGINE_OPTIONS_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/dtype.h"
#include "kernels/weight_format.h"
#include "workers/engine/memory_plan.h"
#include "workers/engine/page_store.h"
#include "workers/engine/transformer.h"
#include "workers/model/checkpoint.h"
#include "workers/model/config.h"

namespace octogate::workers {

struct EngineOptions {
  static constexpr int kMaxRowsPerStep = 1 << 16;
  static constexpr int kMaxPageSize = 1 << 16;
  static constexpr int64_t kMaxAgeingSteps = int64_t{1} << 40;
  static constexpr int64_t kMaxKvTokens = int64_t{1} << 40;
  // What servers limit max_step_slowdown to where they are told nothing else: prompts take a fifth
  // to a third longer than without a limit, and those that decode wait a third to a seventh as long
  // between tokens (tests/bench/reports/engine.md).
  static constexpr double kUsualStepSlowdown = 4;

  // Sequences that run at the same time.
  int max_sequences = 16;
  // Requests that wait for their turn; one more is refused with RESOURCE_EXHAUSTED.
  int max_waiting = 256;
  // Rows (tokens) of one step: every running sequence has one, the rest is for prompts. At least
  // max_sequences. Larger makes long prompts faster and the tokens of others come later.
  int max_rows_per_step = 256;
  // Positions in a page of the KV cache.
  int page_size = 16;
  // Positions of the KV cache for all sequences together, rounded up to pages. 0: as many as
  // max_sequences of the longest context need, within kv_memory_bytes and the memory limit.
  int64_t kv_tokens = 0;
  // 0: no limit of its own.
  uint64_t kv_memory_bytes = 0;
  // Sequences that begin with the same tokens share pages; see ServiceTerms::cache_salt.
  bool share_prefixes = true;
  // Steps after which a request is treated as if its priority were one higher; at least 1. Within
  // that time priorities and the tenants' fair shares hold strictly.
  int64_t ageing_steps = 2000;
  // How long Create may measure what steps cost; zero: it does not, and requests are let in
  // whatever their deadline is (Admission).
  absl::Duration step_cost_time = absl::ZeroDuration();
  // Limits of what prompts may cost those that decode: a step that has rows of both takes at most
  // this time, and this many times what it would take without the prompts, by the measured cost.
  // Prompts get one page of rows in any case. Zero: no limit but max_rows_per_step.
  absl::Duration max_step_time = absl::ZeroDuration();
  double max_step_slowdown = 0;
  // How the matrices are kept, the embedding excepted; other than stored costs precision
  // (Engine::weight_report says how much) and saves memory and time.
  kernels::WeightFormat weight_format = kernels::WeightFormat::kStored;
  // How keys and values are kept; 8 bits cost precision. Without one: F32 on a CPU, BF16 on a GPU,
  // whose tensor cores attend to nothing wider (kernels::Backend::DefaultKvDType).
  std::optional<kernels::DType> kv_dtype;
  // Host memory for what preempted sequences have computed: copied there and back where that is
  // measured to take less time than to compute it again; where nothing is measured
  // (step_cost_time), whenever there is room. 0: it is computed again. Where the KV cache itself is
  // host memory, a larger one is the better use of it.
  uint64_t swap_bytes = 0;
  // Shortens the checkpoint's context; 0 leaves it.
  int max_context = 0;
  // Weights, KV cache, activations, swap space and what drafters begin with (a draft model's
  // weights and KV cache) together must fit into this and into what the machine (and the control
  // group) has available. 0: the latter only.
  uint64_t memory_limit_bytes = 0;
  // Drafted rows that a sequence may have in a step, where the engine has drafters; at most
  // kMaxDraftNodes. How many it has is decided by their expected gain and the measured cost of
  // steps. 0: it does not speculate.
  int max_draft_nodes = 0;
  // What drafters learn is used for all requests; otherwise for those of the same tenant and
  // cache_salt alone. It changes no answer, but the time that it takes.
  bool share_drafts = false;
  // What drafters have retrieved is dropped where another one, which knows a distribution, expects
  // less of it than this (PruneByDraft); from 0 on, which drops nothing, and below 1.
  float prune_retrieved_below = 0;
  // Where pages are shared with other engines; empty: nowhere. What share_prefixes does not
  // keep is not offered.
  MakePageStore make_page_store;
  // Verifies whatever is proposed, as far as there is room: for tests and measurements.
  bool verify_all_drafts = false;
};

// INVALID_ARGUMENT, naming the option, for values that are out of range or contradict each other.
absl::Status ValidateEngineOptions(const EngineOptions& options);

// Longest sequence that the checkpoint and max_context allow.
int LongestContext(const ModelConfig& config, const EngineOptions& options);

TransformerLimits TransformerLimitsOf(const EngineOptions& options);

// Weights, activations, the KV cache and the swap space that the options ask for; kv_dtype is
// there.
MemoryDemand MemoryDemandOf(const Checkpoint& checkpoint, const kernels::Backend& backend,
                            const EngineOptions& options);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_ENGINE_OPTIONS_H_

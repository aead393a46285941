// Runs one model for many requests at once: continuous batching at token granularity over a paged
// KV cache.
//
//   auto engine = Engine::Create(checkpoint, tokenizer, backend_factory, options);
//   auto generation = (*engine)->Submit(request, [](const GenerateEvent& event) { ... });
//
// The ids that a request is answered with depend on the request and the model alone, not on what
// runs beside it, how its prompt was cut into chunks, the number of threads, or whether it was
// preempted and computed again.
//
// Thread safety: all methods may be called from any thread, callbacks included, except the
// destructor, which must not run inside a callback.
#ifndef OCTOGATE_WORKERS_ENGINE_ENGINE_H_
#define OCTOGATE_WORKERS_ENGINE_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kernels/backend.h"
#include "workers/engine/request.h"
#include "workers/model/checkpoint.h"
#include "workers/model/tokenizer.h"

namespace octogate::workers {

struct EngineOptions {
  static constexpr int kMaxRowsPerStep = 1 << 16;
  static constexpr int kMaxPageSize = 1 << 16;
  static constexpr int64_t kMaxKvTokens = int64_t{1} << 40;

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
  kernels::DType kv_dtype = kernels::DType::kF32;
  // Shortens the checkpoint's context; 0 leaves it.
  int max_context = 0;
  // Weights, KV cache and activations together must fit into this and into what the machine (and
  // the control group) has available. 0: the latter only.
  uint64_t memory_limit_bytes = 0;
};

// Counters since Create, and the state now.
struct EngineStats {
  // Bucket i counts the steps that took less than 2^i units and are in no bucket before it; the
  // last bucket takes the rest.
  static constexpr int kStepTimeBuckets = 20;
  static constexpr absl::Duration kStepTimeUnit = absl::Microseconds(100);

  int running = 0;
  int waiting = 0;
  int pages_total = 0;
  int pages_used = 0;
  int page_size = 0;
  int max_sequences = 0;
  int context = 0;  // longest sequence accepted, in tokens
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t activation_bytes = 0;

  uint64_t requests_accepted = 0;
  uint64_t requests_refused = 0;  // by Submit, for whatever reason
  uint64_t requests_finished = 0;
  uint64_t prompt_tokens = 0;  // computed; recomputation not included
  uint64_t generated_tokens = 0;
  uint64_t recomputed_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t steps = 0;
  uint64_t step_rows = 0;
  absl::Duration step_time;
  std::array<uint64_t, kStepTimeBuckets> step_time_histogram{};
};

// Status payload of a RESOURCE_EXHAUSTED refusal that time will cure: a decimal number of
// milliseconds after which another attempt has a chance.
inline constexpr char kRetryAfterMillisPayload[] = "octogate/retry-after-ms";
// Reads that payload. Zero: none, trying again is of no use.
absl::Duration RetryAfter(const absl::Status& status);

class Engine {
 public:
  // Called on the engine's thread with no lock held: it must not block. Events of one request come
  // in order; the last one, and only the last one, has a finish reason. It comes exactly once for
  // each accepted request, before the destructor returns.
  using EventCallback = std::function<void(const GenerateEvent&)>;

  // `tokenizer` may be null: then events have no text and stop strings are refused. Loads the
  // weights into `backend` and starts the engine's thread.
  //
  // RESOURCE_EXHAUSTED, before anything is loaded, with all numbers and the KV size that would fit,
  // where memory does not suffice; INVALID_ARGUMENT for options that contradict each other.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::shared_ptr<const Checkpoint> checkpoint, std::shared_ptr<const Tokenizer> tokenizer,
      std::unique_ptr<kernels::Backend> backend, const EngineOptions& options);

  // Ends every request with kCancelled and joins the thread.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a request. Refusals, before any callback: INVALID_ARGUMENT for a malformed one,
  // OUT_OF_RANGE for a prompt that leaves no room for an answer in the context,
  // RESOURCE_EXHAUSTED for a full queue (with RetryAfter) or a request that the whole KV cache
  // could not hold (without), DEADLINE_EXCEEDED for a deadline in the past, UNAVAILABLE when
  // draining.
  absl::StatusOr<std::shared_ptr<Generation>> Submit(GenerateRequest request,
                                                     EventCallback callback);

  // The logits of `ids` right after `prompt`. Waits, at most until `deadline`; must not be called
  // from a callback. Runs beside other requests, under the same refusals.
  absl::StatusOr<TokenScores> NextTokenLogits(std::vector<int32_t> prompt, std::vector<int32_t> ids,
                                              absl::Time deadline, int priority = 0);

  // The mean over the prompt's positions of the last hidden state (after the final norm):
  // config().hidden_size values, not normalised. Waits as NextTokenLogits does.
  absl::StatusOr<std::vector<float>> Embed(std::vector<int32_t> prompt, absl::Time deadline,
                                           int priority = 0);

  // Refuses new requests with UNAVAILABLE from now on, and waits until those under way have
  // finished. DEADLINE_EXCEEDED with their number if some have not by `deadline`: they go on.
  absl::Status Drain(absl::Time deadline);

  EngineStats stats() const;
  const ModelConfig& config() const;
  const Tokenizer* tokenizer() const;
  // Longest sequence, prompt and answer together, in tokens: what the checkpoint, max_context and
  // the KV cache allow.
  int context() const;
  std::string DescribeBackend() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_ENGINE_H_

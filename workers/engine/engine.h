// Runs one model for many requests at once: continuous batching at token granularity over a paged
// KV cache.
//
//   auto engine = Engine::Create(checkpoint, tokenizer, backend_factory, options);
//   auto generation = (*engine)->Submit(request, [](const GenerateEvent& event) { ... });
//
// The ids that a request is answered with depend on the request and the model alone, not on what
// runs beside it, how its prompt was cut into chunks, the number of threads, or whether it was
// preempted, then computed again or copied back.
//
// Thread safety: all methods may be called from any thread, callbacks included, except the
// destructor, which must not run inside a callback.
#ifndef OCTOGATE_WORKERS_ENGINE_ENGINE_H_
#define OCTOGATE_WORKERS_ENGINE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/cancellation.h"
#include "kernels/backend.h"
#include "workers/engine/engine_options.h"
#include "workers/engine/engine_stats.h"
#include "workers/engine/page_explanation.h"
#include "workers/engine/page_flush.h"
#include "workers/engine/request.h"
#include "workers/engine/step_cost.h"
#include "workers/model/checkpoint.h"
#include "workers/model/tokenizer.h"
#include "workers/speculation/drafter.h"

namespace octogate::workers {

class EngineLoop;

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
  // where memory does not suffice; INVALID_ARGUMENT for options that contradict each other;
  // UNIMPLEMENTED for a checkpoint that the kernels cannot compute.
  //
  // `drafters` are of this model, at most kMaxDrafters, and speculate for all requests to Submit;
  // they need options.max_draft_nodes. Answers are the same with any of them, bit for bit, however
  // wrong they are; but a constraint that limits the work on its answer may let it go on for
  // longer, as it does where other answers of its grammar have done the work before.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      std::shared_ptr<const Checkpoint> checkpoint, std::shared_ptr<const Tokenizer> tokenizer,
      std::unique_ptr<kernels::Backend> backend, const EngineOptions& options,
      std::vector<std::unique_ptr<Drafter>> drafters = {});

  // Ends every request with kCancelled and joins the thread.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a request. Refusals, before any callback: INVALID_ARGUMENT for a malformed one,
  // OUT_OF_RANGE for a prompt that leaves no room for an answer in the context,
  // RESOURCE_EXHAUSTED for a full queue (with a hint, see common/status.h) or a request that the
  // whole KV cache could not hold (without), DEADLINE_EXCEEDED for a deadline in the past,
  // UNAVAILABLE when draining. One that is accepted ends before it begins, with DEADLINE_EXCEEDED
  // or, where others are before it, RESOURCE_EXHAUSTED with a hint, where its deadline cannot be
  // met by the measured cost of steps (workers/engine/admission.h). `generation` is what is
  // returned, for a caller that has handed one out already; null: a new one.
  absl::StatusOr<std::shared_ptr<Generation>> Submit(
      GenerateRequest request, EventCallback callback,
      std::shared_ptr<Generation> generation = nullptr);

  // The logits of `ids` right after `prompt`. Waits, at most until `deadline`; must not be called
  // from a callback. Runs beside other requests, under the same refusals.
  absl::StatusOr<TokenScores> NextTokenLogits(std::vector<int32_t> prompt, std::vector<int32_t> ids,
                                              absl::Time deadline, ServiceTerms terms = {});

  // The mean over the prompt's positions of the last hidden state (after the final norm):
  // config().hidden_size values, not normalised. Waits as NextTokenLogits does; CANCELLED soon
  // after `cancellation`, which may be null.
  absl::StatusOr<std::vector<float>> Embed(
      std::vector<int32_t> prompt, absl::Time deadline,
      const std::shared_ptr<Cancellation>& cancellation = nullptr, ServiceTerms terms = {});

  // Refuses new requests with UNAVAILABLE from now on, and waits until those under way have
  // finished. DEADLINE_EXCEEDED with their number if some have not by `deadline`: they go on.
  absl::Status Drain(absl::Time deadline);

  // Forgets the keys and values that requests have left, here and in the store that engines share,
  // and returns what that was. Requests that are accepted after it has returned find nothing of
  // before; those under way keep what they have and leave nothing of it behind. So nothing that is
  // written meanwhile brings anything back, whatever becomes of what is in the store: it is of no
  // use to anybody, and expires there. Waits for the store and for the end of a step, at most until
  // `deadline`; must not be called from a callback. Where the store has not taken it, an error of
  // PageStore::Flush once what is here is forgotten; DEADLINE_EXCEEDED for a step that is not done,
  // at the end of which it is. In both cases it is to be repeated.
  absl::StatusOr<FlushedPages> FlushPages(const PageFlush& flush, absl::Time deadline);

  // Says what a request of these terms would find of a prompt if it came now, without computing,
  // fetching or changing anything. Waits for the end of a step, and then for the store, which may
  // not have said by `deadline`; must not be called from a callback. Refusals as of Submit for such
  // a prompt; DEADLINE_EXCEEDED for a step that is not done.
  absl::StatusOr<PageExplanation> ExplainPages(std::vector<int32_t> prompt, ServiceTerms terms,
                                               absl::Time deadline);

  EngineStats stats() const;
  // Says how long what GenerateEvent::prompt_pages names stays in the prefix cache. Null where
  // requests share no pages.
  std::shared_ptr<const PageStamps> page_stamps() const;
  const ModelConfig& config() const;
  const Tokenizer* tokenizer() const;
  // Longest sequence, prompt and answer together, in tokens: what the checkpoint, max_context and
  // the KV cache allow.
  int context() const;
  std::string DescribeBackend() const;
  // kernels::Backend::SlowAttention of this model.
  const std::string& slow_attention() const;
  // As measured by Create; not known() where step_cost_time was zero. Lives as long as the engine.
  const StepCost& step_cost() const;
  // The weights' format and what it costs in precision.
  const WeightReport& weight_report() const;

 private:
  explicit Engine(std::unique_ptr<EngineLoop> loop);
  std::unique_ptr<EngineLoop> loop_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_ENGINE_H_

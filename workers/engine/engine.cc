#include "workers/engine/engine.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "workers/engine/engine_core.h"
#include "workers/engine/memory_plan.h"
#include "workers/engine/transformer.h"

namespace octogate::workers {
namespace {

constexpr absl::Duration kShortestRetry = absl::Milliseconds(10);
constexpr absl::Duration kLongestRetry = absl::Seconds(30);
// A cache that is sized to the memory there is holds at least one sequence of this length.
constexpr int kSmallestUsefulContext = 256;

absl::Status ValidateOptions(const EngineOptions& options) {
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
  status.Update(at_least("max_context", options.max_context, 0));
  if (!status.ok()) return status;
  if (options.max_rows_per_step > EngineOptions::kMaxRowsPerStep ||
      options.page_size > EngineOptions::kMaxPageSize ||
      options.kv_tokens > EngineOptions::kMaxKvTokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "engine options: max_rows_per_step is at most ", EngineOptions::kMaxRowsPerStep,
        ", page_size ", EngineOptions::kMaxPageSize, ", kv_tokens ", EngineOptions::kMaxKvTokens));
  }
  return absl::OkStatus();
}

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

int LongestContext(const ModelConfig& config, const EngineOptions& options) {
  if (options.max_context == 0) return config.max_position_embeddings;
  return std::min(config.max_position_embeddings, options.max_context);
}

MemoryDemand DemandOf(const Checkpoint& checkpoint, const TransformerLimits& limits,
                      const EngineOptions& options) {
  const ModelConfig& config = checkpoint.config();
  const int context = LongestContext(config, options);
  MemoryDemand demand;
  demand.weight_bytes = checkpoint.weight_bytes();
  demand.activation_bytes = Transformer::ActivationBytes(config, limits);
  demand.page_size = options.page_size;
  demand.page_bytes = uint64_t{2} * static_cast<uint64_t>(config.num_layers) *
                      static_cast<uint64_t>(config.kv_dim()) *
                      static_cast<uint64_t>(options.page_size) * SizeOf(options.kv_dtype);
  demand.flexible = options.kv_tokens == 0;
  demand.pages = demand.flexible ? options.max_sequences * CeilDiv(context, options.page_size)
                                 : CeilDiv(options.kv_tokens, options.page_size);
  demand.minimum_pages = CeilDiv(std::min(context, kSmallestUsefulContext), options.page_size);
  if (options.kv_memory_bytes > 0) demand.kv_limit_bytes = options.kv_memory_bytes;
  return demand;
}

absl::Status CheckIds(const char* name, std::span<const int32_t> ids, int vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, "[", i, "] is ", ids[i], "; the model has the tokens 0 to ", vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCount(const char* name, size_t count, size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " has ", count, " entries; at most ", limit, " are allowed"));
}

}  // namespace

absl::Duration RetryAfter(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryAfterMillisPayload);
  int64_t milliseconds = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &milliseconds)) {
    return absl::ZeroDuration();
  }
  return absl::Milliseconds(milliseconds);
}

class Engine::Impl {
 public:
  // What Create has prepared. Destroyed in reverse order.
  struct Parts {
    std::shared_ptr<const Checkpoint> checkpoint;
    std::shared_ptr<const Tokenizer> tokenizer;
    std::unique_ptr<kernels::Backend> backend;
    std::unique_ptr<Transformer> transformer;
    std::unique_ptr<kernels::KvCache> cache;
  };

  Impl(Parts parts, const EngineOptions& options, const EngineStats& initial_stats)
      : parts_(std::move(parts)),
        options_(options),
        backend_description_(parts_.backend->Describe()),
        core_({.transformer = parts_.transformer.get(),
               .cache = parts_.cache.get(),
               .tokenizer = parts_.tokenizer.get()},
              {.max_sequences = options.max_sequences,
               .max_rows = options.max_rows_per_step,
               .page_size = options.page_size}),
        context_(initial_stats.context),
        stats_(initial_stats),
        thread_([this] { Run(); }) {}

  ~Impl() {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    thread_.join();
  }

  absl::StatusOr<std::shared_ptr<Generation>> Submit(GenerateRequest request,
                                                     ActiveRequest::Kind kind,
                                                     ActiveRequest::Sink sink) {
    absl::StatusOr<std::shared_ptr<Generation>> result =
        Accept(std::move(request), kind, std::move(sink));
    if (!result.ok()) {
      absl::MutexLock lock(&mutex_);
      ++stats_.requests_refused;
    }
    return result;
  }

  absl::Status Drain(absl::Time deadline) {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    if (mutex_.AwaitWithDeadline(absl::Condition(this, &Impl::Idle), deadline)) {
      return absl::OkStatus();
    }
    return absl::DeadlineExceededError(
        absl::StrCat(static_cast<int>(incoming_.size()) + active_,
                     " requests are still under way at the end of the time to drain"));
  }

  EngineStats stats() const {
    absl::MutexLock lock(&mutex_);
    EngineStats stats = stats_;
    stats.waiting += static_cast<int>(incoming_.size());
    return stats;
  }

  const Parts& parts() const { return parts_; }
  int context() const { return context_; }
  const std::string& backend_description() const { return backend_description_; }

 private:
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return incoming_.empty() && active_ == 0;
  }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !incoming_.empty();
  }

  absl::Status Validate(const GenerateRequest& request, ActiveRequest::Kind kind) const;
  absl::StatusOr<std::shared_ptr<Generation>> Accept(GenerateRequest request,
                                                     ActiveRequest::Kind kind,
                                                     ActiveRequest::Sink sink);
  absl::Status QueueFull() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  void Publish();

  const Parts parts_;
  const EngineOptions options_;
  const std::string backend_description_;
  EngineCore core_;  // of the engine's thread
  const int context_;

  mutable absl::Mutex mutex_;
  std::vector<std::unique_ptr<ActiveRequest>> incoming_ ABSL_GUARDED_BY(mutex_);
  uint64_t arrivals_ ABSL_GUARDED_BY(mutex_) = 0;
  int active_ ABSL_GUARDED_BY(mutex_) = 0;     // requests that the core has or is about to have
  int unstarted_ ABSL_GUARDED_BY(mutex_) = 0;  // of those, the ones that have not begun
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;  // last: it uses everything above
};

absl::Status Engine::Impl::Validate(const GenerateRequest& request,
                                    ActiveRequest::Kind kind) const {
  const int vocab_size = parts_.checkpoint->config().vocab_size;
  // Lengths first: ids of a prompt that is too long are not even looked at.
  const size_t length = request.prompt.size() + request.generated_prefix.size();
  const bool generates = kind == ActiveRequest::Kind::kGenerate;
  const auto longest = static_cast<size_t>(generates ? context_ - 1 : context_);
  if (request.prompt.empty()) {
    return absl::InvalidArgumentError("the prompt is empty; it must have at least one token");
  }
  if (length > longest) {
    return absl::OutOfRangeError(absl::StrCat(
        "the prompt has ", length, " tokens; the context of ", context_, " tokens ",
        generates ? "leaves room for prompts of at most " : "holds prompts of at most ", longest));
  }
  absl::Status status = CheckIds("prompt", request.prompt, vocab_size);
  status.Update(CheckIds("generated_prefix", request.generated_prefix, vocab_size));
  status.Update(CheckCount("score_first_tokens", request.score_first_tokens.size(),
                           GenerateRequest::kMaxScoredTokens));
  status.Update(CheckIds("score_first_tokens", request.score_first_tokens, vocab_size));
  status.Update(
      CheckCount("stop_token_ids", request.stop_token_ids.size(), GenerateRequest::kMaxStopTokens));
  status.Update(ValidateStopStrings(request.stop));
  status.Update(ValidateSamplingParameters(request.sampling, vocab_size));
  if (!status.ok()) return status;
  if (!request.stop.empty() && parts_.tokenizer == nullptr) {
    return absl::InvalidArgumentError("stop strings need a tokenizer; this engine has none");
  }
  if (request.max_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens is ", request.max_tokens, "; it must be at least 1"));
  }
  if (static_cast<size_t>(request.max_tokens) <= request.generated_prefix.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("generated_prefix has ", request.generated_prefix.size(),
                     " tokens; it must have fewer than max_tokens, which is ", request.max_tokens));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<Generation>> Engine::Impl::Accept(GenerateRequest request,
                                                                 ActiveRequest::Kind kind,
                                                                 ActiveRequest::Sink sink) {
  if (absl::Status status = Validate(request, kind); !status.ok()) return status;
  const absl::Duration left = request.deadline - absl::Now();
  if (left <= absl::ZeroDuration()) {
    return absl::DeadlineExceededError("the deadline had passed when the request arrived");
  }

  auto active = std::make_unique<ActiveRequest>();
  active->kind = kind;
  active->request = std::move(request);
  active->sink = std::move(sink);
  active->priority = active->request.priority;
  active->tokens = active->request.prompt;
  active->tokens.insert(active->tokens.end(), active->request.generated_prefix.begin(),
                        active->request.generated_prefix.end());
  active->submitted = std::chrono::steady_clock::now();
  // Far deadlines would overflow the clock.
  if (left < absl::Hours(24 * 365))
    active->deadline = active->submitted + absl::ToChronoNanoseconds(left);
  if (kind == ActiveRequest::Kind::kGenerate) {
    const int room = context_ - static_cast<int>(active->request.prompt.size());
    active->answer.emplace(&active->request, parts_.checkpoint->config().eos_token_ids,
                           parts_.tokenizer.get(), std::min(active->request.max_tokens, room));
    if (absl::Status status = active->answer->CheckPrefix(); !status.ok()) return status;
  }
  auto generation = std::make_shared<Generation>();
  active->generation = generation;

  absl::MutexLock lock(&mutex_);
  if (stopping_ || draining_) {
    return absl::UnavailableError("the engine is draining and takes no more requests");
  }
  if (static_cast<int>(incoming_.size()) + unstarted_ >= options_.max_waiting) return QueueFull();
  active->arrival = arrivals_++;
  incoming_.push_back(std::move(active));
  ++stats_.requests_accepted;
  return generation;
}

absl::Status Engine::Impl::QueueFull() const {
  // A place is free when a request has finished: as long as one has taken on average.
  absl::Duration retry = absl::Seconds(1);
  if (stats_.requests_finished > 0) {
    retry = stats_.step_time / static_cast<double>(stats_.requests_finished);
  }
  retry = std::clamp(retry, kShortestRetry, kLongestRetry);
  const int64_t milliseconds = absl::ToInt64Milliseconds(retry);
  absl::Status status = absl::ResourceExhaustedError(
      absl::StrCat("the queue is full: ", options_.max_waiting,
                   " requests wait already; try again in ", milliseconds, " ms"));
  status.SetPayload(kRetryAfterMillisPayload, absl::Cord(absl::StrCat(milliseconds)));
  return status;
}

void Engine::Impl::Run() {
  while (true) {
    std::vector<std::unique_ptr<ActiveRequest>> arrived;
    bool stop = false;
    {
      absl::MutexLock lock(&mutex_);
      if (active_ == 0) mutex_.Await(absl::Condition(this, &Impl::HasWork));
      arrived.swap(incoming_);
      active_ += static_cast<int>(arrived.size());
      unstarted_ += static_cast<int>(arrived.size());
      stop = stopping_;
    }
    for (auto& request : arrived) core_.Add(std::move(request));
    if (stop) {
      core_.CancelAll(absl::CancelledError("the engine was shut down"));
      Publish();
      return;
    }
    core_.PlanStep();
    Publish();  // requests that have begun leave the queue before the step, which may be long
    core_.ComputeStep();
    Publish();
  }
}

void Engine::Impl::Publish() {
  const StepCounters& counters = core_.counters();
  const Scheduler& scheduler = core_.scheduler();
  const int unstarted = core_.unstarted();
  absl::MutexLock lock(&mutex_);
  if (counters.steps > stats_.steps) {
    const absl::Duration time = absl::FromChrono(core_.last_step_time());
    stats_.step_time += time;
    const auto units = static_cast<uint64_t>(time / EngineStats::kStepTimeUnit);
    const auto bucket = static_cast<size_t>(std::bit_width(units));
    ++stats_.step_time_histogram[std::min(bucket, stats_.step_time_histogram.size() - 1)];
  }
  active_ = core_.active();
  unstarted_ = unstarted;
  stats_.running = scheduler.running();
  stats_.waiting = scheduler.waiting();
  stats_.pages_used = scheduler.pages().used();
  stats_.preemptions = scheduler.preemptions();
  stats_.requests_finished = counters.requests_finished;
  stats_.prompt_tokens = counters.prompt_tokens;
  stats_.generated_tokens = counters.generated_tokens;
  stats_.recomputed_tokens = counters.recomputed_tokens;
  stats_.steps = counters.steps;
  stats_.step_rows = counters.step_rows;
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(std::shared_ptr<const Checkpoint> checkpoint,
                                                       std::shared_ptr<const Tokenizer> tokenizer,
                                                       std::unique_ptr<kernels::Backend> backend,
                                                       const EngineOptions& options) {
  if (absl::Status status = ValidateOptions(options); !status.ok()) return status;
  if (checkpoint == nullptr || backend == nullptr) {
    return absl::InvalidArgumentError("an engine needs a checkpoint and a backend");
  }
  const ModelConfig& config = checkpoint->config();
  const TransformerLimits limits{.max_rows = options.max_rows_per_step,
                                 .max_logit_rows = options.max_sequences};
  const MemoryDemand demand = DemandOf(*checkpoint, limits, options);
  uint64_t limit = AvailableMemoryBytes();
  if (options.memory_limit_bytes > 0) limit = std::min(limit, options.memory_limit_bytes);
  const absl::StatusOr<int> pages = PlanPages(demand, limit, checkpoint->directory().string());
  if (!pages.ok()) return pages.status();

  Impl::Parts parts;
  parts.checkpoint = std::move(checkpoint);
  parts.tokenizer = std::move(tokenizer);
  parts.backend = std::move(backend);
  auto transformer = Transformer::Load(parts.checkpoint, parts.backend.get(), limits);
  if (!transformer.ok()) return transformer.status();
  parts.transformer = *std::move(transformer);
  auto cache = parts.transformer->CreateKvCache(*pages, options.page_size, options.kv_dtype);
  if (!cache.ok()) return cache.status();
  parts.cache = *std::move(cache);

  EngineStats stats;
  stats.pages_total = *pages;
  stats.page_size = options.page_size;
  stats.max_sequences = options.max_sequences;
  stats.context = static_cast<int>(
      std::min<int64_t>(LongestContext(config, options), int64_t{*pages} * options.page_size));
  stats.weight_bytes = demand.weight_bytes;
  stats.kv_bytes = demand.page_bytes * static_cast<uint64_t>(*pages);
  stats.activation_bytes = demand.activation_bytes;
  return std::unique_ptr<Engine>(
      new Engine(std::make_unique<Impl>(std::move(parts), options, stats)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

absl::StatusOr<std::shared_ptr<Generation>> Engine::Submit(GenerateRequest request,
                                                           EventCallback callback) {
  return impl_->Submit(
      std::move(request), ActiveRequest::Kind::kGenerate,
      [callback = std::move(callback)](const GenerateEvent& event,
                                       std::span<const float> /*embedding*/) { callback(event); });
}

namespace {

// What a call that waits has in common with the engine's thread.
struct Waiter {
  absl::Mutex mutex;
  bool done ABSL_GUARDED_BY(mutex) = false;
  GenerateEvent event ABSL_GUARDED_BY(mutex);
  std::vector<float> embedding ABSL_GUARDED_BY(mutex);

  static ActiveRequest::Sink MakeSink(const std::shared_ptr<Waiter>& waiter) {
    return [waiter](const GenerateEvent& event, std::span<const float> embedding) {
      absl::MutexLock lock(&waiter->mutex);
      waiter->event = event;
      waiter->embedding.assign(embedding.begin(), embedding.end());
      waiter->done = true;
    };
  }

  // Waits for the last event. Where it is late, the request is cancelled: its pages are free before
  // the next step.
  absl::Status Wait(absl::Time deadline, Generation& generation) ABSL_LOCKS_EXCLUDED(mutex) {
    absl::MutexLock lock(&mutex);
    if (!mutex.AwaitWithDeadline(absl::Condition(&done), deadline)) {
      generation.Cancel();
      return absl::DeadlineExceededError("the deadline passed before the prompt was computed");
    }
    return event.status;
  }
};

}  // namespace

absl::StatusOr<TokenScores> Engine::NextTokenLogits(std::vector<int32_t> prompt,
                                                    std::vector<int32_t> ids, absl::Time deadline,
                                                    int priority) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.score_first_tokens = std::move(ids);
  request.deadline = deadline;
  request.priority = priority;
  auto waiter = std::make_shared<Waiter>();
  auto generation =
      impl_->Submit(std::move(request), ActiveRequest::Kind::kNextToken, Waiter::MakeSink(waiter));
  if (!generation.ok()) return generation.status();
  if (absl::Status status = waiter->Wait(deadline, **generation); !status.ok()) return status;
  absl::MutexLock lock(&waiter->mutex);
  return std::move(waiter->event.first_scores);
}

absl::StatusOr<std::vector<float>> Engine::Embed(std::vector<int32_t> prompt, absl::Time deadline,
                                                 int priority) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.deadline = deadline;
  request.priority = priority;
  auto waiter = std::make_shared<Waiter>();
  auto generation =
      impl_->Submit(std::move(request), ActiveRequest::Kind::kEmbed, Waiter::MakeSink(waiter));
  if (!generation.ok()) return generation.status();
  if (absl::Status status = waiter->Wait(deadline, **generation); !status.ok()) return status;
  absl::MutexLock lock(&waiter->mutex);
  return std::move(waiter->embedding);
}

absl::Status Engine::Drain(absl::Time deadline) { return impl_->Drain(deadline); }
EngineStats Engine::stats() const { return impl_->stats(); }
const ModelConfig& Engine::config() const { return impl_->parts().checkpoint->config(); }
const Tokenizer* Engine::tokenizer() const { return impl_->parts().tokenizer.get(); }
int Engine::context() const { return impl_->context(); }
std::string Engine::DescribeBackend() const { return impl_->backend_description(); }

}  // namespace octogate::workers

#include "workers/engine/engine.h"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "workers/engine/engine_loop.h"
#include "workers/engine/memory_plan.h"
#include "workers/engine/step_probe.h"
#include "workers/engine/swap_space.h"
#include "workers/engine/transformer.h"

namespace octogate::workers {
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

absl::Status CheckDrafters(std::span<const std::unique_ptr<Drafter>> drafters,
                           const EngineOptions& options) {
  if (drafters.empty()) return absl::OkStatus();
  if (drafters.size() > static_cast<size_t>(kMaxDrafters)) {
    return absl::InvalidArgumentError(absl::StrCat("an engine has at most ", kMaxDrafters,
                                                   " drafters; these are ", drafters.size()));
  }
  if (std::find(drafters.begin(), drafters.end(), nullptr) != drafters.end()) {
    return absl::InvalidArgumentError("a drafter of the engine is null");
  }
  if (options.max_draft_nodes == 0) {
    return absl::InvalidArgumentError(
        "engine options: drafters need max_draft_nodes, which is 0; give at least 1");
  }
  return absl::OkStatus();
}

// Of the host, where the KV cache is in a device's memory.
absl::Status CheckHostMemory(uint64_t swap_bytes) {
  const uint64_t available = AvailableMemoryBytes();
  if (swap_bytes <= available) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the swap space does not fit: it has ", swap_bytes >> 20,
                   " MiB, and the host's memory has ", available >> 20, " MiB available"));
}

// Null where memory cannot be had. Both must outlive the space.
std::unique_ptr<SwapSpace> MakeSwapSpace(kernels::Backend& backend, kernels::KvCache& cache,
                                         const EngineOptions& options) {
  auto swap = SwapSpace::Make(
      cache.page_bytes(), options.swap_bytes,
      {.out = [backend = &backend, cache = &cache](
                  int32_t page,
                  std::span<std::byte> to) { backend->DownloadPage(*cache, page, to); },
       .in = [backend = &backend, cache = &cache](
                 std::span<const std::byte> from,
                 int32_t page) { backend->UploadPage(from, *cache, page); },
       .finish = backend.FreeBytes() ? [backend = &backend] { backend->FinishPageCopies(); }
                                     : std::function<void()>(),
       .allocate = [backend =
                        &backend](size_t bytes) { return backend->AllocateHostBlock(bytes); }});
  if (swap != nullptr && options.step_cost_time > absl::ZeroDuration()) swap->Measure();
  return swap;
}

// Of each row, for most answers and all drafters.
int RankedLogitsOf(const EngineLoop::Parts& parts) {
  int count = 1;
  for (const auto& drafter : parts.drafters) count = std::max(count, drafter->candidates());
  return count;
}

// Other threads give the same bits, other instruction sets may not.
std::string PageFormatOf(const Checkpoint& checkpoint, const kernels::Backend& backend,
                         const kernels::KvCacheShape& shape, kernels::WeightFormat weight_format) {
  std::string computed_by = backend.Describe();
  const size_t threads = computed_by.find(" thread");
  const size_t open = computed_by.rfind('(', threads);
  if (threads != std::string::npos && open != std::string::npos) {
    computed_by.erase(open, computed_by.find_first_of(",)", threads) - open);
  }
  return absl::StrCat(checkpoint.ComputeFingerprint().ToHex(), "\n", OCTOGATE_VERSION, "\n",
                      computed_by, "\n", kernels::Name(weight_format), "\n",
                      static_cast<int>(shape.dtype), " ", shape.layers, " ", shape.kv_heads, " ",
                      shape.head_dim, " ", shape.page_size);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    std::shared_ptr<const Checkpoint> checkpoint, std::shared_ptr<const Tokenizer> tokenizer,
    std::unique_ptr<kernels::Backend> backend, const EngineOptions& requested,
    std::vector<std::unique_ptr<Drafter>> drafters) {
  if (absl::Status status = ValidateEngineOptions(requested); !status.ok()) return status;
  if (checkpoint == nullptr || backend == nullptr) {
    return absl::InvalidArgumentError("an engine needs a checkpoint and a backend");
  }
  if (absl::Status status = CheckDrafters(drafters, requested); !status.ok()) return status;
  EngineOptions options = requested;
  if (drafters.empty()) options.max_draft_nodes = 0;
  const kernels::DType kv_dtype = options.kv_dtype.value_or(backend->DefaultKvDType());
  options.kv_dtype = kv_dtype;
  const ModelConfig& config = checkpoint->config();
  if (config.head_dim > kernels::kMaxHeadDim) {
    return absl::UnimplementedError(
        absl::StrCat(checkpoint->directory().string(), ": the head dimension is ", config.head_dim,
                     "; the kernels compute at most ", kernels::kMaxHeadDim));
  }
  MemoryDemand demand = MemoryDemandOf(*checkpoint, *backend, options);
  const std::optional<uint64_t> device_limit = backend->FreeBytes();
  if (device_limit) {
    if (absl::Status status = CheckHostMemory(options.swap_bytes); !status.ok()) return status;
    demand.swap_bytes = 0;
  }
  uint64_t limit = device_limit.value_or(AvailableMemoryBytes());
  uint64_t drafter_bytes = 0;  // which has been taken already
  for (const auto& drafter : drafters) drafter_bytes += drafter->bytes();
  if (options.memory_limit_bytes > 0) {
    limit = std::min(
        limit, options.memory_limit_bytes - std::min(options.memory_limit_bytes, drafter_bytes));
  }
  const absl::StatusOr<int> pages = PlanPages(demand, limit, checkpoint->directory().string());
  if (!pages.ok()) return pages.status();

  EngineLoop::Parts parts;
  parts.checkpoint = std::move(checkpoint);
  parts.tokenizer = std::move(tokenizer);
  parts.backend = std::move(backend);
  parts.drafters = std::move(drafters);
  std::sort(parts.drafters.begin(), parts.drafters.end(),
            [](const auto& a, const auto& b) { return a->name() < b->name(); });
  auto transformer = Transformer::Load(parts.checkpoint, parts.backend.get(),
                                       TransformerLimitsOf(options), options.weight_format);
  if (!transformer.ok()) return transformer.status();
  parts.transformer = *std::move(transformer);
  auto cache = parts.transformer->CreateKvCache(*pages, options.page_size, kv_dtype);
  if (!cache.ok()) return cache.status();
  parts.cache = *std::move(cache);
  parts.step_cost =
      MeasureTransformer(*parts.transformer, *parts.cache,
                         {.max_rows = options.max_rows_per_step,
                          .max_sequences = options.max_sequences,
                          .max_context = LongestContext(parts.checkpoint->config(), options)},
                         RankedLogitsOf(parts), options.step_cost_time);
  if (options.swap_bytes > 0) {
    parts.swap = MakeSwapSpace(*parts.backend, *parts.cache, options);
    if (parts.swap == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("there is no memory for a swap space of ", options.swap_bytes, " bytes"));
    }
  }

  if (options.make_page_store) {
    const kernels::KvCacheShape& shape = parts.cache->shape();
    parts.page_store =
        options.make_page_store({.description = PageFormatOf(*parts.checkpoint, *parts.backend,
                                                             shape, options.weight_format),
                                 .page_size = options.page_size,
                                 .page_bytes = parts.cache->page_bytes()});
  }

  EngineStats stats;
  stats.pages_total = *pages;
  stats.page_size = options.page_size;
  stats.max_sequences = options.max_sequences;
  stats.kv_dtype = kv_dtype;
  stats.context = static_cast<int>(
      std::min<int64_t>(LongestContext(config, options), int64_t{*pages} * options.page_size));
  stats.weight_bytes = demand.weight_bytes;
  stats.kv_bytes = demand.page_bytes * static_cast<uint64_t>(*pages);
  stats.activation_bytes = demand.activation_bytes;
  if (parts.swap != nullptr) stats.swap_bytes = parts.swap->total_bytes();
  stats.draft_bytes = drafter_bytes;
  return std::unique_ptr<Engine>(
      new Engine(std::make_unique<EngineLoop>(std::move(parts), options, stats)));
}

Engine::Engine(std::unique_ptr<EngineLoop> loop) : loop_(std::move(loop)) {}
Engine::~Engine() = default;

absl::StatusOr<std::shared_ptr<Generation>> Engine::Submit(GenerateRequest request,
                                                           EventCallback callback,
                                                           std::shared_ptr<Generation> generation) {
  return loop_->Submit(
      std::move(request), ActiveRequest::Kind::kGenerate,
      [callback = std::move(callback)](const GenerateEvent& event,
                                       std::span<const float> /*embedding*/) { callback(event); },
      std::move(generation));
}

absl::StatusOr<TokenScores> Engine::NextTokenLogits(std::vector<int32_t> prompt,
                                                    std::vector<int32_t> ids, absl::Time deadline,
                                                    ServiceTerms terms) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.score_first_tokens = std::move(ids);
  request.deadline = deadline;
  request.terms = std::move(terms);
  auto waiter = std::make_shared<Waiter>();
  auto generation =
      loop_->Submit(std::move(request), ActiveRequest::Kind::kNextToken, Waiter::MakeSink(waiter));
  if (!generation.ok()) return generation.status();
  if (absl::Status status = waiter->Wait(deadline, **generation); !status.ok()) return status;
  absl::MutexLock lock(&waiter->mutex);
  return std::move(waiter->event.first_scores);
}

absl::StatusOr<std::vector<float>> Engine::Embed(std::vector<int32_t> prompt, absl::Time deadline,
                                                 const std::shared_ptr<Cancellation>& cancellation,
                                                 ServiceTerms terms) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.deadline = deadline;
  request.terms = std::move(terms);
  auto waiter = std::make_shared<Waiter>();
  auto generation =
      loop_->Submit(std::move(request), ActiveRequest::Kind::kEmbed, Waiter::MakeSink(waiter));
  if (!generation.ok()) return generation.status();
  Cancellation::Registration registration;
  if (cancellation != nullptr) {
    registration = cancellation->OnCancel([handle = *generation] { handle->Cancel(); });
  }
  if (absl::Status status = waiter->Wait(deadline, **generation); !status.ok()) return status;
  absl::MutexLock lock(&waiter->mutex);
  return std::move(waiter->embedding);
}

absl::Status Engine::Drain(absl::Time deadline) { return loop_->Drain(deadline); }
absl::StatusOr<FlushedPages> Engine::FlushPages(const PageFlush& flush, absl::Time deadline) {
  return loop_->FlushPages(flush, deadline);
}
absl::StatusOr<PageExplanation> Engine::ExplainPages(std::vector<int32_t> prompt,
                                                     ServiceTerms terms, absl::Time deadline) {
  return loop_->ExplainPages(std::move(prompt), std::move(terms), deadline);
}
EngineStats Engine::stats() const { return loop_->stats(); }
std::shared_ptr<const PageStamps> Engine::page_stamps() const { return loop_->page_stamps(); }
const ModelConfig& Engine::config() const { return loop_->parts().checkpoint->config(); }
const Tokenizer* Engine::tokenizer() const { return loop_->parts().tokenizer.get(); }
int Engine::context() const { return loop_->context(); }
const StepCost& Engine::step_cost() const { return loop_->parts().step_cost; }
const WeightReport& Engine::weight_report() const {
  return loop_->parts().transformer->weight_report();
}
const std::string& Engine::slow_attention() const { return loop_->slow_attention(); }
std::string Engine::DescribeBackend() const { return loop_->backend_description(); }

}  // namespace octogate::workers

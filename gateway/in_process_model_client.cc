#include "gateway/in_process_model_client.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/cancellation.h"
#include "common/control_groups.h"
#include "common/status.h"
#include "retrieval/drafts/near_index.h"
#include "workers/engine/format_names.h"
#include "workers/server/load_served_model.h"
#include "workers/speculation/drafter_factory.h"

namespace octogate::gateway {
namespace {

constexpr char kAddress[] = "in-process";
constexpr int kPoolThreads = 2;
constexpr size_t kMaxQueued = 256;
constexpr absl::Duration kPoolRetryAfter = absl::Milliseconds(100);
// Reading a longer prompt takes long enough to keep other queries waiting.
constexpr size_t kLongPromptBytes = 16 << 10;

absl::Status PoolFull() {
  return WithRetryAfter(
      absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", kMaxQueued,
                                                " calls wait for the in-process worker already")),
      kPoolRetryAfter);
}

class NoCall final : public ModelCall {
 public:
  void Cancel() override {}
  void Resume() override {}
};

workers::SpeculationOptions TakeSpeculation(const v1::Speculation& speculation,
                                            const std::filesystem::path& model_root) {
  workers::SpeculationOptions options;
  options.drafters.assign(speculation.drafters().begin(), speculation.drafters().end());
  if (speculation.max_drafted_tokens() != 0) {
    options.max_draft_nodes = speculation.max_drafted_tokens();
  }
  options.share_between_tenants = speculation.share_between_tenants();
  for (const std::string& path : speculation.datastores()) {
    options.datastores.push_back({.path = model_root / path, .tenant = ""});
  }
  for (const v1::TenantDatastore& store : speculation.tenant_datastores()) {
    options.datastores.push_back({.path = model_root / store.path(), .tenant = store.tenant()});
  }
  options.near_matches = speculation.near_matches();
  if (speculation.recycling_candidates() != 0) {
    options.recycling_candidates = speculation.recycling_candidates();
  }
  if (speculation.has_recycling_pairs()) options.recycling_pairs = speculation.recycling_pairs();
  if (!speculation.recycling_tree().empty()) options.recycling_tree = speculation.recycling_tree();
  options.prune_retrieved_below = static_cast<float>(speculation.prune_retrieved_below());
  if (speculation.draft_memory_mib() != 0) {
    options.memory_bytes = static_cast<uint64_t>(speculation.draft_memory_mib()) << 20;
  }
  options.open_near_matches = retrieval::OpenNearMatches;
  if (!speculation.draft_model().empty()) {
    options.draft_model = model_root / speculation.draft_model();
  }
  options.draft_threads = speculation.draft_threads();
  if (!speculation.state().empty()) options.state = model_root / speculation.state();
  return options;
}

// What the graph says of the model goes before the worker's own options.
absl::Status TakeOptions(const v1::Model& model, const InProcessWorkerOptions& options,
                         workers::LoadOptions* load) {
  workers::EngineOptions& engine = load->engine;
  if (!model.weight_format().empty()) {
    const auto format = workers::ParseWeightFormat(model.weight_format());
    if (!format) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no weight format \"", model.weight_format(), "\""));
    }
    engine.weight_format = *format;
  }
  if (!model.kv_dtype().empty()) {
    const auto type = workers::ParseKvDtype(model.kv_dtype());
    if (!type) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no type \"", model.kv_dtype(), "\" of keys and values"));
    }
    engine.kv_dtype = *type;
  }
  if (!model.activations().empty()) {
    const auto activations = workers::ParseActivations(model.activations());
    if (!activations) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no type \"", model.activations(), "\" of activations"));
    }
    load->device.activations = *activations;
  }
  if (model.has_speculation()) {
    workers::SpeculationOptions speculation =
        TakeSpeculation(model.speculation(), options.model_root);
    if (options.open_drafts) {
      OCTOGATE_ASSIGN_OR_RETURN(speculation.shared, options.open_drafts());
    }
    load->speculation = workers::SetUpSpeculation(std::move(speculation));
  }
  if (model.threads() > 0) load->device.threads = model.threads();
  if (model.max_sequences() > 0) engine.max_sequences = model.max_sequences();
  if (model.max_context() > 0) engine.max_context = model.max_context();
  // Every running sequence has a row.
  engine.max_rows_per_step = std::max(engine.max_rows_per_step, engine.max_sequences);
  return absl::OkStatus();
}

absl::Status CancelledEarly() { return absl::CancelledError("cancelled before it began"); }

class EmbedCall final : public ModelCall {
 public:
  void Cancel() override { cancellation_->Cancel(); }
  void Resume() override {}
  const std::shared_ptr<Cancellation>& cancellation() const { return cancellation_; }

 private:
  const std::shared_ptr<Cancellation> cancellation_ = std::make_shared<Cancellation>();
};

// A request to the engine that may not have begun yet.
class EngineCall final : public ModelCall {
 public:
  void Cancel() override {
    std::shared_ptr<workers::Generation> generation;
    {
      absl::MutexLock lock(&mutex_);
      cancelled_ = true;
      generation = generation_;
    }
    if (generation != nullptr) generation->Cancel();
  }
  // The engine is not held back: max_tokens bounds what it delivers.
  void Resume() override {}

  bool cancelled() const {
    absl::MutexLock lock(&mutex_);
    return cancelled_;
  }

  void SetGeneration(std::shared_ptr<workers::Generation> generation) {
    bool cancelled = false;
    {
      absl::MutexLock lock(&mutex_);
      generation_ = generation;
      cancelled = cancelled_;
    }
    if (cancelled) generation->Cancel();
  }

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<workers::Generation> generation_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

struct InProcessWorker::Loaded {
  std::unique_ptr<workers::ServedModel> service;
  uint64_t bytes = 0;
};

class InProcessWorker::Client final : public ModelClient {
 public:
  Client(std::shared_ptr<Loaded> loaded, workers::BlockingPool* pool)
      : loaded_(std::move(loaded)), pool_(pool) {}

  std::shared_ptr<ModelCall> Generate(const v1::WorkerGenerateRequest& request, absl::Time deadline,
                                      MessageCallback on_message, DoneCallback on_done) override {
    auto call = std::make_shared<EngineCall>();
    // The callbacks hold the model, and the engine forgets them with the last one.
    const auto begin = [call, loaded = loaded_, deadline, on_message,
                        on_done](const v1::WorkerGenerateRequest& wanted) {
      if (call->cancelled()) {
        on_done(CancelledEarly());
        return;
      }
      auto generation = loaded->service->Generate(
          wanted, deadline,
          [on_message](v1::WorkerGenerateResponse message) { (void)on_message(message); },
          [on_done, loaded](const absl::Status& status) { on_done(status); });
      if (generation.ok()) {
        call->SetGeneration(*std::move(generation));
      } else {
        on_done(generation.status());
      }
    };
    if (request.ByteSizeLong() < kLongPromptBytes) {
      begin(request);
    } else if (!pool_->Submit([begin, request] { begin(request); })) {
      on_done(PoolFull());
    }
    return call;
  }

  std::shared_ptr<ModelCall> Score(const v1::WorkerScoreRequest& request, absl::Time deadline,
                                   ResponseCallback<v1::WorkerScoreResponse> on_done) override {
    auto call = std::make_shared<EngineCall>();
    const auto begin = [call, loaded = loaded_, deadline,
                        on_done](const v1::WorkerScoreRequest& wanted) {
      if (call->cancelled()) {
        on_done(CancelledEarly());
        return;
      }
      auto generation = loaded->service->Score(
          wanted, deadline, [on_done, loaded](absl::StatusOr<v1::WorkerScoreResponse> response) {
            on_done(std::move(response));
          });
      if (generation.ok()) {
        call->SetGeneration(*std::move(generation));
      } else {
        on_done(generation.status());
      }
    };
    if (request.ByteSizeLong() < kLongPromptBytes) {
      begin(request);
    } else if (!pool_->Submit([begin, request] { begin(request); })) {
      on_done(PoolFull());
    }
    return call;
  }

  std::shared_ptr<ModelCall> Embed(const v1::WorkerEmbedRequest& request, absl::Time deadline,
                                   ResponseCallback<v1::WorkerEmbedResponse> on_done) override {
    auto call = std::make_shared<EmbedCall>();
    if (!pool_->Submit([call, loaded = loaded_, request, deadline, on_done] {
          on_done(loaded->service->Embed(request, deadline, call->cancellation()));
        })) {
      on_done(PoolFull());
    }
    return call;
  }

  std::shared_ptr<ModelCall> Info(absl::Time,
                                  ResponseCallback<v1::WorkerInfoResponse> on_done) override {
    on_done(loaded_->service->Info());
    return std::make_shared<NoCall>();
  }

  std::shared_ptr<ModelCall> FlushCache(
      const v1::WorkerFlushCacheRequest& request, absl::Time deadline,
      ResponseCallback<v1::WorkerFlushCacheResponse> on_done) override {
    if (!pool_->Submit([loaded = loaded_, request, deadline, on_done] {
          on_done(loaded->service->FlushCache(request, deadline));
        })) {
      on_done(PoolFull());
    }
    return std::make_shared<NoCall>();
  }

  std::shared_ptr<ModelCall> ExplainCache(
      const v1::WorkerExplainCacheRequest& request, absl::Time deadline,
      ResponseCallback<v1::WorkerExplainCacheResponse> on_done) override {
    if (!pool_->Submit([loaded = loaded_, request, deadline, on_done] {
          on_done(loaded->service->ExplainCache(request, deadline));
        })) {
      on_done(PoolFull());
    }
    return std::make_shared<NoCall>();
  }

  const std::string& address() const override { return address_; }

 private:
  const std::shared_ptr<Loaded> loaded_;
  workers::BlockingPool* const pool_;
  const std::string address_ = kAddress;
};

InProcessWorker::InProcessWorker(const InProcessWorkerOptions& options)
    : options_(options), pool_(kPoolThreads, kMaxQueued), unloader_([this] { Unload(); }) {}

InProcessWorker::~InProcessWorker() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  unloader_.join();
}

absl::StatusOr<std::unique_ptr<ModelClient>> InProcessWorker::Load(const v1::Model& model,
                                                                   absl::Time deadline) {
  const std::filesystem::path folder = options_.model_root / model.path();
  workers::LoadOptions load = options_.load;
  OCTOGATE_RETURN_IF_ERROR(TakeOptions(model, options_, &load));
  if (load.device.pin_threads) {
    const int threads = load.device.threads > 0 ? load.device.threads : AvailableCpus();
    const int cpus = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    absl::MutexLock lock(&mutex_);
    load.device.first_cpu += next_cpu_;
    next_cpu_ = (next_cpu_ + threads) % cpus;
  }
  if (options_.memory_limit_bytes != 0) {
    absl::MutexLock lock(&mutex_);
    if (bytes_ >= options_.memory_limit_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("the ", loaded_, " models loaded take ",
                                                       bytes_, " bytes, and the limit is ",
                                                       options_.memory_limit_bytes));
    }
    load.engine.memory_limit_bytes = options_.memory_limit_bytes - bytes_;
  }
  spdlog::info("loading model {} from {}", model.name(), folder.string());
  OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<workers::ServedModel> loaded,
                            workers::LoadServedModel(model.name(), folder, load, deadline));
  if (!loaded->no_gpu().empty()) {
    spdlog::info("the CPU serves, since no GPU can be used: {}", loaded->no_gpu());
  }
  if (const std::string slow = loaded->slow_attention(); !slow.empty()) {
    spdlog::info("model {}: {}", model.name(), slow);
  }
  const workers::WeightReport& weights = loaded->weight_report();
  if (weights.worst_error > 0) {
    spdlog::info("model {}: {}", model.name(), workers::Describe(weights));
  }
  const uint64_t bytes = loaded->memory_bytes();
  spdlog::info("model {} is loaded and warm; it takes {} MiB", model.name(), bytes >> 20);
  return std::make_unique<Client>(Share(std::move(loaded), bytes), &pool_);
}

std::string InProcessWorker::backend() const {
  absl::MutexLock lock(&mutex_);
  return loaded_ > 0 ? backend_ : "";
}

std::shared_ptr<InProcessWorker::Loaded> InProcessWorker::Share(
    std::unique_ptr<workers::ServedModel> service, uint64_t bytes) {
  {
    absl::MutexLock lock(&mutex_);
    bytes_ += bytes;
    ++loaded_;
    backend_ = service->Info().backend();
  }
  auto* loaded = new Loaded{std::move(service), bytes};
  // The last holder may be a callback on the engine's own thread.
  return std::shared_ptr<Loaded>(loaded, [this](Loaded* unused) {
    absl::MutexLock lock(&mutex_);
    to_unload_.emplace_back(unused);
  });
}

void InProcessWorker::Unload() {
  for (;;) {
    std::vector<std::unique_ptr<Loaded>> batch;
    {
      absl::MutexLock lock(&mutex_);
      const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return !to_unload_.empty() || (stopping_ && loaded_ == 0);
      };
      mutex_.Await(absl::Condition(&has_work));
      if (to_unload_.empty()) return;
      batch.swap(to_unload_);
    }
    for (std::unique_ptr<Loaded>& loaded : batch) {
      const uint64_t bytes = loaded->bytes;
      loaded = nullptr;
      absl::MutexLock lock(&mutex_);
      bytes_ -= bytes;
      --loaded_;
    }
  }
}

}  // namespace octogate::gateway

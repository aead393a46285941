#include "workers/encoder/encoder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "workers/engine/memory_plan.h"
#include "workers/engine/request_check.h"

namespace octogate::workers {
namespace {

constexpr absl::Duration kRetryAfter = absl::Milliseconds(50);
// A page of keys and values for each text, however short, is memory too.
constexpr int kMaxTextsPerPass = 64;

absl::Status CheckMemory(uint64_t weights, uint64_t activations, uint64_t limit,
                         const std::string& model_name) {
  if (weights + activations <= limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("encoder ", model_name, " needs ", weights >> 20, " MiB of weights and ",
                   activations >> 20, " MiB of activations, and the limit is ", limit >> 20,
                   " MiB; raise the limit, or keep weights in a smaller format"));
}

}  // namespace

// One Embed. Everything but `texts`, `cancelled` and the constants is guarded by the encoder's
// mutex; the thread reads texts without it.
struct Encoder::Call {
  std::vector<std::vector<int32_t>> texts;
  absl::Time deadline;
  ServiceTerms terms;
  std::atomic<bool> cancelled{false};

  uint64_t arrival_pass = 0;
  FairShare::Account* account = nullptr;
  size_t next_text = 0;  // to be planned
  size_t computed = 0;
  std::vector<std::vector<float>> vectors;
  bool done = false;
  absl::Status status;
};

absl::StatusOr<std::unique_ptr<Encoder>> Encoder::Create(
    std::shared_ptr<const EncoderCheckpoint> checkpoint, std::unique_ptr<kernels::Backend> backend,
    const EncoderOptions& options) {
  if (checkpoint == nullptr || backend == nullptr) {
    return absl::InvalidArgumentError("an encoder needs a checkpoint and a backend");
  }
  if (options.max_calls < 1 || options.max_rows_per_pass < 1 || options.ageing_passes < 1 ||
      options.max_tokens < 0) {
    return absl::InvalidArgumentError(
        "encoder options: max_calls, max_rows_per_pass and ageing_passes must be at least 1, and "
        "max_tokens not negative");
  }
  const EncoderConfig& config = checkpoint->config();
  const std::string name = checkpoint->directory().string();
  if (config.head_dim > kernels::kMaxHeadDim) {
    return absl::UnimplementedError(absl::StrCat(name, ": the head dimension is ", config.head_dim,
                                                 "; the kernels compute at most ",
                                                 kernels::kMaxHeadDim));
  }
  Parts parts;
  parts.max_tokens =
      options.max_tokens == 0 ? config.max_tokens : std::min(config.max_tokens, options.max_tokens);
  parts.limits.max_rows = std::max(options.max_rows_per_pass, parts.max_tokens);
  parts.limits.max_texts = std::min(parts.limits.max_rows, kMaxTextsPerPass);
  parts.stats.weight_bytes =
      EncoderModel::WeightBytes(*checkpoint, *backend, options.weight_format);
  parts.stats.activation_bytes = EncoderModel::ActivationBytes(config, parts.limits);
  uint64_t limit = backend->FreeBytes().value_or(AvailableMemoryBytes());
  if (options.memory_limit_bytes > 0) limit = std::min(limit, options.memory_limit_bytes);
  OCTOGATE_RETURN_IF_ERROR(
      CheckMemory(parts.stats.weight_bytes, parts.stats.activation_bytes, limit, name));
  parts.backend = std::move(backend);
  OCTOGATE_ASSIGN_OR_RETURN(
      parts.model, EncoderModel::Load(std::move(checkpoint), parts.backend.get(), parts.limits,
                                      options.weight_format));
  return std::unique_ptr<Encoder>(new Encoder(std::move(parts), options));
}

Encoder::Encoder(Parts parts, const EncoderOptions& options)
    : options_(options),
      limits_(parts.limits),
      max_tokens_(parts.max_tokens),
      backend_(std::move(parts.backend)),
      model_(std::move(parts.model)),
      backend_description_(backend_->Describe()),
      stats_(parts.stats),
      thread_([this] { Run(); }) {}

Encoder::~Encoder() { Shutdown(); }

void Encoder::Shutdown() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  if (thread_.joinable()) thread_.join();
}

absl::Status Encoder::Check(const std::vector<std::vector<int32_t>>& texts,
                            const ServiceTerms& terms) const {
  OCTOGATE_RETURN_IF_ERROR(ValidateTerms(terms));
  if (texts.empty() || texts.size() > size_t{kMaxTexts}) {
    return absl::InvalidArgumentError(
        absl::StrCat(texts.size(), " texts; there must be 1 to ", kMaxTexts));
  }
  for (const std::vector<int32_t>& text : texts) {
    if (text.empty()) return absl::InvalidArgumentError("a text has no token");
    if (text.size() > static_cast<size_t>(max_tokens_)) {
      return absl::OutOfRangeError(absl::StrCat(
          "a text has ", text.size(), " tokens; the encoder takes at most ", max_tokens_));
    }
    for (const int32_t id : text) {
      if (id < 0 || id >= config().vocab_size) {
        return absl::InvalidArgumentError(
            absl::StrCat("token id ", id, " is not in [0, ", config().vocab_size, ")"));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::vector<float>>> Encoder::Embed(
    std::vector<std::vector<int32_t>> texts, absl::Time deadline,
    const std::shared_ptr<Cancellation>& cancellation, ServiceTerms terms) {
  OCTOGATE_RETURN_IF_ERROR(Check(texts, terms));
  if (deadline <= absl::Now()) {
    return absl::DeadlineExceededError("the deadline had passed when the call arrived");
  }
  auto call = std::make_shared<Call>();
  call->vectors.resize(texts.size());
  call->texts = std::move(texts);
  call->deadline = deadline;
  call->terms = std::move(terms);
  Cancellation::Registration registration;
  if (cancellation != nullptr) {
    registration = cancellation->OnCancel([call] { call->cancelled = true; });
  }

  absl::MutexLock lock(&mutex_);
  if (stopping_ || draining_) {
    return absl::UnavailableError("the encoder is draining and takes no more calls");
  }
  if (static_cast<int>(calls_.size()) >= options_.max_calls) {
    return WithRetryAfter(absl::ResourceExhaustedError(absl::StrCat(
                              "the queue is full: ", options_.max_calls, " calls wait already")),
                          kRetryAfter);
  }
  call->arrival_pass = stats_.passes;
  call->account = shares_.Enter(call->terms.tenant);
  calls_.push_back(call);
  // A late call is not waited for; the thread ends it before the next pass.
  if (!mutex_.AwaitWithDeadline(absl::Condition(&call->done), deadline)) {
    call->cancelled = true;
    return absl::DeadlineExceededError("the deadline passed before the texts were encoded");
  }
  if (!call->status.ok()) return call->status;
  return std::move(call->vectors);
}

absl::Status Encoder::Drain(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  if (mutex_.AwaitWithDeadline(absl::Condition(this, &Encoder::Idle), deadline)) {
    return absl::OkStatus();
  }
  return absl::DeadlineExceededError(
      absl::StrCat(calls_.size(), " calls are still under way at the end of the time to drain"));
}

EncoderStats Encoder::stats() const {
  absl::MutexLock lock(&mutex_);
  EncoderStats stats = stats_;
  stats.calls = static_cast<int>(calls_.size());
  return stats;
}

void Encoder::EndCall(Call& call, absl::Status status) {
  shares_.Leave(call.terms.tenant);
  call.account = nullptr;
  call.status = std::move(status);
  call.done = true;
  ++stats_.calls_finished;
}

// The highest priority first, then the tenant that has had least, then who came first.
Encoder::Call* Encoder::NextCall() const {
  Call* best = nullptr;
  int64_t best_priority = 0;
  for (const std::shared_ptr<Call>& call : calls_) {
    if (call->next_text == call->texts.size()) continue;
    const int64_t priority =
        call->terms.priority +
        static_cast<int64_t>(stats_.passes - call->arrival_pass) / options_.ageing_passes;
    if (best == nullptr || priority > best_priority ||
        (priority == best_priority && call->account->rows < best->account->rows)) {
      best = call.get();
      best_priority = priority;
    }
  }
  return best;
}

bool Encoder::PlanPass() {
  const absl::Time now = absl::Now();
  std::erase_if(calls_, [&](const std::shared_ptr<Call>& call) {
    mutex_.AssertHeld();
    if (stopping_ || call->cancelled) {
      EndCall(*call, absl::CancelledError(stopping_ ? "the encoder was shut down"
                                                    : "the caller cancelled the request"));
    } else if (call->deadline <= now) {
      EndCall(*call, absl::DeadlineExceededError("the deadline passed before the texts were "
                                                 "encoded"));
    }
    return call->done;
  });
  if (stopping_) return false;
  planned_.clear();
  ids_.clear();
  lengths_.clear();
  while (static_cast<int>(planned_.size()) < limits_.max_texts) {
    Call* const next = NextCall();
    if (next == nullptr) break;
    const std::vector<int32_t>& text = next->texts[next->next_text];
    if (ids_.size() + text.size() > static_cast<size_t>(limits_.max_rows)) break;
    const auto call = std::find_if(calls_.begin(), calls_.end(), [next](const auto& candidate) {
      return candidate.get() == next;
    });
    planned_.push_back({*call, next->next_text++});
    ids_.insert(ids_.end(), text.begin(), text.end());
    lengths_.push_back(static_cast<int>(text.size()));
    next->account->rows += static_cast<int64_t>(text.size());
  }
  return true;
}

void Encoder::ComputePass() {
  const auto width = static_cast<size_t>(config().hidden_size);
  hidden_.resize(ids_.size() * width);
  model_->Forward(ids_, lengths_, hidden_);
}

void Encoder::FinishPass() {
  const auto width = static_cast<size_t>(config().hidden_size);
  size_t row = 0;
  for (size_t t = 0; t < planned_.size(); ++t) {
    Call& call = *planned_[t].call;
    const auto rows = static_cast<size_t>(lengths_[t]);
    std::vector<float>& vector = call.vectors[planned_[t].text];
    vector.resize(width);
    PoolRows(config().pooling, std::span<const float>(hidden_).subspan(row * width, rows * width),
             config().hidden_size, vector);
    row += rows;
    ++call.computed;
  }
  std::erase_if(calls_, [&](const std::shared_ptr<Call>& call) {
    mutex_.AssertHeld();
    if (call->computed == call->texts.size()) EndCall(*call, absl::OkStatus());
    return call->done;
  });
  stats_.texts += planned_.size();
  stats_.tokens += ids_.size();
  ++stats_.passes;
}

void Encoder::Run() {
  backend_->BindThread();
  absl::MutexLock lock(&mutex_);
  for (;;) {
    mutex_.Await(absl::Condition(this, &Encoder::HasWork));
    if (!PlanPass()) return;
    if (planned_.empty()) continue;
    mutex_.Unlock();
    ComputePass();
    mutex_.Lock();
    FinishPass();
    planned_.clear();
  }
}

}  // namespace octogate::workers

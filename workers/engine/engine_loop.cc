#include "workers/engine/engine_loop.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "workers/engine/prefix_context.h"

namespace octogate::workers {
namespace {

constexpr absl::Duration kShortestRetry = absl::Milliseconds(10);
constexpr absl::Duration kLongestRetry = absl::Seconds(30);
// How long a thread without anything to compute leaves cancellation, deadlines and pages that are
// late unnoticed.
constexpr absl::Duration kStalledPoll = absl::Milliseconds(2);
constexpr std::chrono::milliseconds kDraftBytesInterval{100};
constexpr size_t kMaxFlushes = 64;    // that wait
constexpr size_t kMaxQuestions = 64;  // the same

// `cost` must outlive the function.
std::function<int(const StepShape&, int64_t)> MakeRowBudget(const StepCost& cost,
                                                            const EngineOptions& options) {
  const StepTimeLimit limit{.seconds = absl::ToDoubleSeconds(options.max_step_time),
                            .slowdown = options.max_step_slowdown};
  return [&cost, limit, page_size = options.page_size, max_rows = options.max_rows_per_step](
             const StepShape& decode, int64_t prompt_context) {
    return RowBudget(cost, limit, decode, prompt_context, page_size, max_rows);
  };
}

// Empty where nothing is known. `cost` and `pace` must outlive the function.
std::function<double(int)> MakeRecomputeSeconds(const StepCost& cost, const StepPace& pace,
                                                const EngineOptions& options) {
  if (!cost.known()) return nullptr;
  return [&cost, &pace, max_rows = options.max_rows_per_step](int positions) {
    return pace.ratio() * PrefillSeconds(cost, positions, max_rows);
  };
}

std::vector<Drafter*> DraftersOf(const EngineLoop::Parts& parts) {
  std::vector<Drafter*> drafters;
  for (const auto& drafter : parts.drafters) drafters.push_back(drafter.get());
  return drafters;
}

std::string SlowAttentionOf(const EngineLoop::Parts& parts) {
  const ModelConfig& config = parts.checkpoint->config();
  return parts.backend->SlowAttention(
      {.heads = config.num_heads, .kv_heads = config.num_kv_heads, .head_dim = config.head_dim},
      parts.cache->shape().dtype);
}

// `cost` must outlive the options.
DraftPlanner::Options PlannerOptions(const StepCost& cost, const EngineOptions& options) {
  DraftPlanner::Options result{.max_nodes = options.max_draft_nodes,
                               .ignore_cost = options.verify_all_drafts,
                               .seconds = nullptr};
  // Of one point nothing can be told about more rows.
  if (cost.rows.points().size() > 1) {
    result.most_rows = static_cast<int>(2 * cost.rows.points().back().x);
    // A drafted row has logits, as one more sequence has, which MeasureTransformer leaves where
    // steps with drafts leave them.
    result.seconds = [&cost](const StepLoad& load) {
      return cost.Seconds(
          {.rows = load.rows, .sequences = load.logit_rows, .attended = load.attended});
    };
  }
  return result;
}

}  // namespace

EngineLoop::EngineLoop(Parts parts, const EngineOptions& options, const EngineStats& initial_stats)
    : parts_(std::move(parts)),
      options_(options),
      backend_description_(parts_.backend->Describe()),
      slow_attention_(SlowAttentionOf(parts_)),
      shared_pages_(parts_.page_store == nullptr
                        ? nullptr
                        : std::make_unique<SharedPages>(
                              std::move(parts_.page_store),
                              SharedPages::Options{.page_size = options.page_size,
                                                   .recompute_seconds = MakeRecomputeSeconds(
                                                       parts_.step_cost, pace_, options),
                                                   .wake = [this] { woken_.Set(); }})),
      core_({.transformer = parts_.transformer.get(),
             .cache = parts_.cache.get(),
             .tokenizer = parts_.tokenizer.get(),
             .drafters = DraftersOf(parts_),
             .share_drafts = options.share_drafts,
             .prune_retrieved_below = options.prune_retrieved_below,
             .planner = PlannerOptions(parts_.step_cost, options),
             .backend = parts_.backend.get(),
             .shared_pages = shared_pages_.get(),
             .step_cost = &parts_.step_cost,
             .pace = &pace_},
            {.max_sequences = options.max_sequences,
             .max_rows = options.max_rows_per_step,
             .page_size = options.page_size,
             .share_prefixes = options.share_prefixes,
             .ageing_steps = options.ageing_steps,
             .row_budget = MakeRowBudget(parts_.step_cost, options),
             .swap = parts_.swap.get(),
             .recompute_seconds = MakeRecomputeSeconds(parts_.step_cost, pace_, options),
             .upload =
                 [this](std::span<const std::span<const std::byte>> from,
                        std::span<const int32_t> pages) {
                   for (size_t i = 0; i < from.size(); ++i) {
                     parts_.backend->UploadPage(from[i], *parts_.cache, pages[i]);
                   }
                   parts_.backend->FinishPageCopies();
                 }}),
      context_(initial_stats.context),
      row_seconds_(core_.row_seconds()),
      stats_(initial_stats),
      thread_([this] { Run(); }) {}

EngineLoop::~EngineLoop() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  woken_.Set();
  thread_.join();
}

absl::StatusOr<std::shared_ptr<Generation>> EngineLoop::Submit(
    GenerateRequest request, ActiveRequest::Kind kind, ActiveRequest::Sink sink,
    std::shared_ptr<Generation> generation) {
  absl::StatusOr<std::shared_ptr<Generation>> result =
      Accept(std::move(request), kind, std::move(sink), std::move(generation));
  if (!result.ok()) {
    absl::MutexLock lock(&mutex_);
    ++stats_.requests_refused;
  }
  return result;
}

absl::Status EngineLoop::Drain(absl::Time deadline) {
  absl::MutexLock lock(&mutex_);
  draining_ = true;
  if (mutex_.AwaitWithDeadline(absl::Condition(this, &EngineLoop::Idle), deadline)) {
    return absl::OkStatus();
  }
  return absl::DeadlineExceededError(
      absl::StrCat(static_cast<int>(incoming_.size()) + active_,
                   " requests are still under way at the end of the time to drain"));
}

absl::StatusOr<FlushedPages> EngineLoop::FlushPages(const PageFlush& flush, absl::Time deadline) {
  const EngineStats before = stats();
  // First: what it has taken, the thread takes over with what it forgets itself.
  absl::Status shared;
  if (shared_pages_ != nullptr) {
    const absl::Time now = absl::Now();
    shared = shared_pages_->Flush(flush, now + (deadline - now) / 2);
  }
  absl::MutexLock lock(&mutex_);
  if (flushes_.size() >= kMaxFlushes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(flushes_.size(), " flushes wait for a step to end; try again then"));
  }
  if (flush.cache_salt) {
    flushes_.push_back(
        [salt = *flush.cache_salt](std::string_view context) { return SaltOf(context) == salt; });
  } else {
    flushes_.push_back([](std::string_view) { return true; });
  }
  const uint64_t number = ++flushes_asked_;
  woken_.Set();
  const auto is_done = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return flushes_done_ >= number;
  };
  if (!mutex_.AwaitWithDeadline(absl::Condition(&is_done), deadline)) {
    return absl::DeadlineExceededError(
        "the step that is running has not ended in time; what is in memory is forgotten when it "
        "has");
  }
  const FlushedPages flushed{
      .free = static_cast<int>(stats_.flushed_pages - before.flushed_pages),
      .in_use = static_cast<int>(stats_.flushed_in_use - before.flushed_in_use)};
  if (shared.ok()) return flushed;
  return Annotate(shared, absl::StrCat(flushed.free + flushed.in_use,
                                       " pages in memory are forgotten, but the store has not "
                                       "taken the flush; flush again when it answers"));
}

absl::StatusOr<PageExplanation> EngineLoop::ExplainPages(std::vector<int32_t> prompt,
                                                         ServiceTerms terms, absl::Time deadline) {
  GenerateRequest request;
  request.prompt = std::move(prompt);
  request.terms = std::move(terms);
  if (absl::Status status = ValidateRequest(request, LimitsOf(ActiveRequest::Kind::kGenerate));
      !status.ok()) {
    return status;
  }
  const auto question = std::make_shared<Question>();
  Sequence& sequence = question->sequence;
  sequence.tokens = std::move(request.prompt);
  sequence.prefix_context = PrefixContextOf(
      RopeRangeForLength(parts_.checkpoint->config(), sequence.length()), request.terms.cache_salt);
  PageExplanation explanation;
  {
    absl::MutexLock lock(&mutex_);
    if (questions_.size() >= kMaxQuestions) {
      return absl::ResourceExhaustedError(absl::StrCat(
          questions_.size(), " questions about pages wait for a step to end; ask again then"));
    }
    questions_.push_back(question);
    woken_.Set();
    const auto is_answered = [&] { return question->answer.has_value(); };
    if (!mutex_.AwaitWithDeadline(absl::Condition(&is_answered), deadline)) {
      return absl::DeadlineExceededError(
          "the step that is running has not ended in time to say what is in memory; ask again when "
          "it has");
    }
    explanation = *std::move(question->answer);
  }
  if (explanation.shared && explanation.shared->outlook.pages > 0) {
    // Where the store is late, the caller still gets what is known without it.
    const absl::Time now = absl::Now();
    explanation.shared->stored =
        shared_pages_->CountStored(sequence, explanation.cached_pages,
                                   explanation.shared->outlook.pages, now + (deadline - now) / 2);
  }
  return explanation;
}

EngineStats EngineLoop::stats() const {
  PageStoreStats store;
  if (shared_pages_ != nullptr) store = shared_pages_->store_stats();
  absl::MutexLock lock(&mutex_);
  EngineStats stats = stats_;
  // What the store's threads do, and whether it answers, does not wait for a step.
  if (shared_pages_ != nullptr) {
    if (!stats.sharing) stats.sharing.emplace();
    stats.sharing->store = store;
  }
  stats.waiting += static_cast<int>(incoming_.size());
  for (const auto& request : incoming_) stats.waiting_tokens += request->length();
  return stats;
}

RequestLimits EngineLoop::LimitsOf(ActiveRequest::Kind kind) const {
  return {.vocab_size = parts_.checkpoint->config().vocab_size,
          .context = context_,
          .generates = kind == ActiveRequest::Kind::kGenerate,
          .has_tokenizer = parts_.tokenizer != nullptr};
}

absl::StatusOr<std::shared_ptr<Generation>> EngineLoop::Accept(
    GenerateRequest request, ActiveRequest::Kind kind, ActiveRequest::Sink sink,
    std::shared_ptr<Generation> generation) {
  if (absl::Status status = ValidateRequest(request, LimitsOf(kind)); !status.ok()) return status;
  const absl::Duration left = request.deadline - absl::Now();
  if (left <= absl::ZeroDuration()) {
    return absl::DeadlineExceededError("the deadline had passed when the request arrived");
  }

  auto active = std::make_unique<ActiveRequest>();
  active->kind = kind;
  active->request = std::move(request);
  active->sink = std::move(sink);
  active->tokens = active->request.prompt;
  active->tokens.insert(active->tokens.end(), active->request.generated_prefix.begin(),
                        active->request.generated_prefix.end());
  active->submitted = std::chrono::steady_clock::now();
  // Far deadlines would overflow the clock.
  if (left < absl::Hours(24 * 365)) {
    active->deadline = active->submitted + absl::ToChronoNanoseconds(left);
  }
  if (kind == ActiveRequest::Kind::kGenerate) {
    const int room = context_ - static_cast<int>(active->request.prompt.size());
    active->answer.emplace(&active->request, parts_.checkpoint->config().eos_token_ids,
                           parts_.tokenizer.get(), std::min(active->request.max_tokens, room));
    if (absl::Status status = active->answer->CheckPrefix(); !status.ok()) return status;
  }
  if (generation == nullptr) generation = std::make_shared<Generation>();
  active->generation = generation;

  absl::MutexLock lock(&mutex_);
  if (stopping_ || draining_) {
    return absl::UnavailableError("the engine is draining and takes no more requests");
  }
  if (static_cast<int>(incoming_.size()) + unstarted_ >= options_.max_waiting) return QueueFull();
  active->arrival = arrivals_++;
  incoming_.push_back(std::move(active));
  ++stats_.requests_accepted;
  woken_.Set();
  return generation;
}

absl::Status EngineLoop::QueueFull() const {
  // A place is free when a request has begun. That needs one to finish, which takes as long as it
  // has taken on average, and the prompts before it to be computed.
  const bool is_measured = row_seconds_ > 0;
  absl::Duration retry = is_measured ? absl::ZeroDuration() : absl::Seconds(1);
  const uint64_t ran = stats_.requests_finished - stats_.requests_unmeetable;
  if (ran > 0) retry = stats_.step_time / static_cast<double>(ran);
  if (is_measured) {
    int64_t rows = prompt_rows_;
    for (const auto& request : incoming_) rows += request->length();
    retry = std::max(
        retry, absl::Seconds(row_seconds_ * static_cast<double>(rows) / options_.max_waiting));
  }
  retry = std::clamp(retry, kShortestRetry, kLongestRetry);
  return WithRetryAfter(
      absl::ResourceExhaustedError(absl::StrCat("the queue is full: ", options_.max_waiting,
                                                " requests wait already; try again in ",
                                                absl::ToInt64Milliseconds(retry), " ms")),
      retry);
}

void EngineLoop::Run() {
  parts_.backend->BindThread();
  while (true) {
    std::vector<std::unique_ptr<ActiveRequest>> arrived;
    std::vector<ContextFilter> flushes;
    std::vector<std::shared_ptr<Question>> questions;
    bool stop = false;
    if (core_.stalled()) woken_.WaitFor(kStalledPoll);
    {
      absl::MutexLock lock(&mutex_);
      if (active_ == 0) mutex_.Await(absl::Condition(this, &EngineLoop::HasWork));
      arrived.swap(incoming_);
      flushes.swap(flushes_);
      questions.swap(questions_);
      flushes_taken_ = flushes_asked_;
      active_ += static_cast<int>(arrived.size());
      unstarted_ += static_cast<int>(arrived.size());
      stop = stopping_;
    }
    core_.FlushAsOthers();
    for (const ContextFilter& includes : flushes) core_.Flush(includes);
    for (const auto& question : questions) {
      PageExplanation answer = core_.ExplainPages(question->sequence);
      absl::MutexLock lock(&mutex_);
      question->answer = std::move(answer);
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

void EngineLoop::Publish() {
  std::optional<EngineStats::Sharing> sharing;
  if (shared_pages_ != nullptr) {
    const SharedPages::Counters& counted = shared_pages_->counters();
    sharing = {.lookups = counted.lookups,
               .lookup_tokens = counted.lookup_tokens,
               .declined = counted.declined,
               .abandoned = counted.abandoned,
               .hit_tokens = core_.scheduler().counters().shared_tokens};
  }
  const StepCounters& counters = core_.counters();
  const Scheduler& scheduler = core_.scheduler();
  const int unstarted = core_.unstarted();
  const int64_t waiting_tokens = core_.waiting_tokens();
  const int64_t prompt_rows = core_.prompt_rows();
  const double row_seconds = core_.row_seconds();
  const uint64_t draft_bytes = DraftBytes();
  absl::MutexLock lock(&mutex_);
  const bool computed = counters.steps > stats_.steps;
  if (computed) {
    const absl::Duration time = absl::FromChrono(core_.last_step_time());
    stats_.step_time += time;
    const auto units = static_cast<uint64_t>(time / EngineStats::kStepTimeUnit);
    const auto bucket = static_cast<size_t>(std::bit_width(units));
    ++stats_.step_time_histogram[std::min(bucket, stats_.step_time_histogram.size() - 1)];
  }
  active_ = core_.active();
  unstarted_ = unstarted;
  prompt_rows_ = prompt_rows;
  row_seconds_ = row_seconds;
  stats_.running = scheduler.running();
  stats_.waiting = scheduler.waiting();
  stats_.waiting_tokens = waiting_tokens;
  stats_.pages_used = scheduler.pages().used();
  stats_.pages_idle = scheduler.pages().idle();
  stats_.preemptions = scheduler.counters().preemptions;
  stats_.preemptions_saved = scheduler.counters().preemptions_saved;
  stats_.preemptions_without_room = scheduler.counters().preemptions_without_room;
  stats_.restored_tokens = scheduler.counters().restored_tokens;
  if (parts_.swap != nullptr) {
    stats_.swap_bytes_used = parts_.swap->used_bytes();
    stats_.swap_time = parts_.swap->time();
  }
  stats_.prefix_query_tokens = scheduler.counters().prefix_query_tokens;
  stats_.prefix_hit_tokens = scheduler.counters().prefix_hit_tokens;
  stats_.flushed_pages = counters.flushed_pages;
  stats_.flushed_in_use = counters.flushed_in_use;
  flushes_done_ = flushes_taken_;
  stats_.sharing = sharing;
  stats_.requests_finished = counters.requests_finished;
  stats_.requests_unmeetable = counters.requests_unmeetable;
  stats_.prompt_tokens = counters.prompt_tokens;
  stats_.generated_tokens = counters.generated_tokens;
  stats_.recomputed_tokens = counters.recomputed_tokens;
  stats_.steps = counters.steps;
  stats_.step_rows = counters.step_rows;
  if (core_.speculator().enabled() && (computed || !stats_.speculation)) {
    stats_.speculation = core_.speculator().usage();
    stats_.malformed_drafts = core_.speculator().malformed();
  }
  stats_.draft_bytes = draft_bytes;
}

uint64_t EngineLoop::DraftBytes() {
  if (!core_.speculator().enabled()) return 0;
  // Steps of small models take less time than to ask every drafter.
  const auto now = std::chrono::steady_clock::now();
  if (core_.active() > 0 && now < count_draft_bytes_) return draft_bytes_;
  draft_bytes_ = core_.draft_bytes();
  count_draft_bytes_ = now + kDraftBytesInterval;
  return draft_bytes_;
}

}  // namespace octogate::workers

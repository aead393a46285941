#include "workers/engine/engine_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace octogate::workers {
namespace {

// Every sequence in the scheduler is a request that Add has put there.
ActiveRequest& RequestOf(const ScheduledRows& rows) {
  return *static_cast<ActiveRequest*>(rows.sequence);
}

// Of a step's rows, on a device. More would not fit into what is staged for it, and cost as much as
// copying the rows.
constexpr size_t kMaxEdits = size_t{1} << 17;

}  // namespace

EngineCore::EngineCore(const Parts& parts, const SchedulerOptions& options)
    : parts_(parts),
      config_(parts.transformer->config()),
      scheduler_(options, parts.cache->shape().pages) {}

std::string EngineCore::PrefixContext(const ActiveRequest& request) const {
  const bool long_range = RopeRangeForLength(config_, request.length()) == RopeRange::kLong;
  return absl::StrCat(long_range ? "l" : "s", request.request.terms.cache_salt);
}

void EngineCore::Add(std::unique_ptr<ActiveRequest> request) {
  request->priority = request->request.terms.priority;
  request->tenant = request->request.terms.tenant;
  request->prefix_context = PrefixContext(*request);
  // An embedding is the mean over all rows.
  request->use_cached_prefix = request->kind != ActiveRequest::Kind::kEmbed;
  scheduler_.Add(request.get());
  active_.push_back(std::move(request));
}

int EngineCore::unstarted() const {
  return static_cast<int>(std::count_if(active_.begin(), active_.end(),
                                        [](const auto& request) { return !request->started; }));
}

void EngineCore::End(ActiveRequest& request, GenerateEvent event) {
  event.usage.prompt_tokens = static_cast<int>(request.request.prompt.size());
  event.usage.cached_tokens = std::min(request.reused, event.usage.prompt_tokens);
  event.timings.preemptions = request.preemptions;
  const SteadyTime now = std::chrono::steady_clock::now();
  event.timings.queue = absl::FromChrono(request.started.value_or(now) - request.submitted);
  const int generated = request.answer ? request.answer->generated() : 0;
  event.usage.generated_tokens = generated;
  if (request.started) {
    const SteadyTime prefilled = generated > 0 ? request.first_token : now;
    event.timings.prefill = absl::FromChrono(prefilled - *request.started);
  }
  if (generated > 0) {
    event.timings.decode = absl::FromChrono(request.last_token - request.first_token);
  }
  std::vector<float> embedding;
  if (event.status.ok() && request.kind == ActiveRequest::Kind::kEmbed) {
    const auto count = static_cast<double>(request.length());
    for (double sum : request.embedding_sum) embedding.push_back(static_cast<float>(sum / count));
  }

  scheduler_.Remove(&request);
  const auto place = std::find_if(active_.begin(), active_.end(),
                                  [&](const auto& other) { return other.get() == &request; });
  const std::unique_ptr<ActiveRequest> owner = std::move(*place);
  *place = std::move(active_.back());
  active_.pop_back();
  ++counters_.requests_finished;
  owner->sink(event, embedding);
}

void EngineCore::End(ActiveRequest& request, FinishReason reason, absl::Status status) {
  GenerateEvent event;
  event.finish = reason;
  event.status = std::move(status);
  if (request.answer) event.text = request.answer->Flush();
  End(request, std::move(event));
}

void EngineCore::CancelAll(const absl::Status& status) {
  while (!active_.empty()) End(*active_.back(), FinishReason::kCancelled, status);
}

void EngineCore::EndCancelledAndOverdue() {
  const SteadyTime now = std::chrono::steady_clock::now();
  // Backwards, because End moves the last request to the place of the one that it removes.
  for (size_t i = active_.size(); i-- > 0;) {
    ActiveRequest& request = *active_[i];
    if (request.generation->cancelled()) {
      End(request, FinishReason::kCancelled, absl::CancelledError("the request was cancelled"));
    } else if (now >= request.deadline) {
      const int generated = request.answer ? request.answer->generated() : 0;
      End(request, FinishReason::kDeadline,
          absl::DeadlineExceededError(absl::StrCat(
              "the deadline passed ",
              request.started ? absl::StrCat("after ", generated, " tokens of the answer")
                              : "while the request was waiting for its turn")));
    }
  }
}

void EngineCore::BuildStep(SteadyTime now) {
  ids_.clear();
  step_sequences_.clear();
  logit_rows_.clear();
  hidden_rows_.clear();
  edits_.clear();
  ranked_count_ = 0;
  const bool may_rank = parts_.transformer->logits_are_far();
  size_t rows_needing_all = 0;
  for (const ScheduledRows& rows : scheduled_) {
    ActiveRequest& request = RequestOf(rows);
    if (!request.started) request.started = now;
    const auto first_row = static_cast<int32_t>(ids_.size());
    const auto begin = request.tokens.begin() + rows.first_position;
    ids_.insert(ids_.end(), begin, begin + rows.row_count);
    step_sequences_.push_back({.row_count = rows.row_count,
                               .first_position = rows.first_position,
                               .pages = request.pages,
                               .rope_range = RopeRangeForLength(config_, request.length())});
    if (request.kind == ActiveRequest::Kind::kEmbed) {
      for (int i = 0; i < rows.row_count; ++i) hidden_rows_.push_back(first_row + i);
    } else if (rows.completes()) {
      logit_rows_.push_back(first_row + rows.row_count - 1);
      const int count = may_rank && request.answer ? request.answer->RankedCount() : 0;
      ranked_count_ = std::max(ranked_count_, count);
      if (count == 0) {
        ++rows_needing_all;
      } else if (edits_.size() <= kMaxEdits) {
        request.answer->AppendEdits(static_cast<int32_t>(logit_rows_.size()) - 1, edits_);
      }
    }

    const int repeated = std::clamp(request.most_computed - rows.first_position, 0, rows.row_count);
    const int fresh = rows.row_count - repeated;
    const int first_fresh = rows.first_position + repeated;
    const int prompt_length = static_cast<int>(request.request.prompt.size());
    counters_.recomputed_tokens += static_cast<uint64_t>(repeated);
    counters_.prompt_tokens +=
        static_cast<uint64_t>(std::clamp(prompt_length - first_fresh, 0, fresh));
  }
  ranked_count_ = std::min(ranked_count_, config_.vocab_size);
  // Most are better copied together.
  const bool copy_all = 2 * rows_needing_all > logit_rows_.size() || edits_.size() > kMaxEdits;
  if (copy_all) {
    ranked_count_ = 0;
    edits_.clear();
  }
  const size_t rows_here = ranked_count_ > 0 ? 1 : logit_rows_.size();
  logits_.resize(rows_here * static_cast<size_t>(config_.vocab_size));
  hidden_.resize(hidden_rows_.size() * static_cast<size_t>(config_.hidden_size));
}

void EngineCore::AddHiddenStates(ActiveRequest& request, const ScheduledRows& rows,
                                 std::span<const float> hidden) {
  const auto size = static_cast<size_t>(config_.hidden_size);
  if (rows.first_position == 0) request.embedding_sum.assign(size, 0);
  // Row by row, so that the sum does not depend on how the prompt was cut.
  for (size_t row = 0; row < static_cast<size_t>(rows.row_count); ++row) {
    for (size_t i = 0; i < size; ++i) {
      request.embedding_sum[i] += double{hidden[row * size + i]};
    }
  }
}

std::span<float> EngineCore::Logits(int logit_row) {
  const auto size = static_cast<size_t>(config_.vocab_size);
  if (ranked_count_ == 0) {
    return std::span(logits_).subspan(static_cast<size_t>(logit_row) * size, size);
  }
  parts_.transformer->CopyLogits(logit_row, logits_);
  return logits_;
}

absl::Status EngineCore::Advance(ActiveRequest& request, int logit_row, GenerateEvent& event) {
  if (ranked_count_ > 0 && request.answer->RankedCount() > 0) {
    const auto count = static_cast<size_t>(ranked_count_);
    const size_t first = static_cast<size_t>(logit_row) * count;
    const RankedLogits ranked{std::span(largest_.ids).subspan(first, count),
                              std::span(largest_.logits).subspan(first, count),
                              largest_.log_sum_exp[static_cast<size_t>(logit_row)],
                              config_.vocab_size};
    if (request.answer->AdvanceRanked(ranked, sampler_scratch_, event)) return absl::OkStatus();
    return request.answer->AdvanceEdited(Logits(logit_row), sampler_scratch_, event);
  }
  return request.answer->Advance(Logits(logit_row), sampler_scratch_, event);
}

void EngineCore::Complete(ActiveRequest& request, int logit_row, SteadyTime now) {
  GenerateEvent event;
  if (request.kind == ActiveRequest::Kind::kEmbed) {
    event.finish = FinishReason::kLength;
    End(request, std::move(event));
    return;
  }
  if (request.kind == ActiveRequest::Kind::kNextToken) {
    const std::span<float> logits = Logits(logit_row);
    event.status = CheckLogits(logits);
    event.finish = event.status.ok() ? FinishReason::kLength : FinishReason::kError;
    if (event.status.ok()) {
      event.first_scores = ComputeScores(logits, request.request.score_first_tokens);
    }
    End(request, std::move(event));
    return;
  }
  if (request.answer->generated() == 0) {
    request.first_token = now;
    if (request.request.hidden_state) {
      event.hidden_state.resize(static_cast<size_t>(config_.hidden_size));
      parts_.transformer->CopyLogitHidden(logit_row, event.hidden_state);
    }
  }
  absl::Status status = Advance(request, logit_row, event);
  if (!status.ok()) {
    End(request, FinishReason::kError, std::move(status));
    return;
  }
  request.last_token = now;
  ++counters_.generated_tokens;
  if (event.finish != FinishReason::kNone) {
    End(request, std::move(event));
    return;
  }
  const int length = request.length();
  request.tokens.push_back(event.ids.back());
  // What was rotated with other frequencies does not fit any more.
  if (RopeRangeForLength(config_, length) != RopeRangeForLength(config_, length + 1)) {
    scheduler_.Restart(&request, PrefixContext(request));
  }
  request.sink(event, {});
}

void EngineCore::PlanStep() {
  EndCancelledAndOverdue();
  scheduled_ = scheduler_.Schedule();
  step_begin_ = std::chrono::steady_clock::now();
  BuildStep(step_begin_);
}

void EngineCore::ComputeStep() {
  if (scheduled_.empty()) return;
  parts_.transformer->Forward({.ids = ids_,
                               .sequences = step_sequences_,
                               .logit_rows = logit_rows_,
                               .hidden_rows = hidden_rows_},
                              *parts_.cache,
                              ranked_count_ > 0 ? std::span<float>() : std::span(logits_), hidden_);
  if (ranked_count_ > 0) parts_.transformer->RankLogits(edits_, ranked_count_, largest_);
  const SteadyTime now = std::chrono::steady_clock::now();
  last_step_time_ = now - step_begin_;
  ++counters_.steps;
  counters_.step_rows += ids_.size();

  int logit_row = 0;
  std::span<const float> hidden = hidden_;
  for (const ScheduledRows& rows : scheduled_) {
    ActiveRequest& request = RequestOf(rows);
    const bool completes = rows.completes();
    scheduler_.Computed(rows);
    int own_logit_row = -1;
    if (request.kind == ActiveRequest::Kind::kEmbed) {
      const size_t count =
          static_cast<size_t>(rows.row_count) * static_cast<size_t>(config_.hidden_size);
      AddHiddenStates(request, rows, hidden.first(count));
      hidden = hidden.subspan(count);
    } else if (completes) {
      own_logit_row = logit_row++;
    }
    if (completes) Complete(request, own_logit_row, now);
  }
}

}  // namespace octogate::workers

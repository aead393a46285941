#include "workers/engine/engine_core.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "workers/engine/prefix_context.h"

namespace octogate::workers {
namespace {

// Every sequence in the scheduler is a request that Add has put there.
ActiveRequest& RequestOf(const ScheduledRows& rows) {
  return *static_cast<ActiveRequest*>(rows.sequence);
}

std::span<const DraftNode> NodesOf(const ActiveRequest& request) {
  if (request.speculation == nullptr) return {};
  return request.speculation->tree.nodes;
}

int DraftNodes(const ActiveRequest& request) { return static_cast<int>(NodesOf(request).size()); }

absl::Duration TimeSince(SteadyTime begin) {
  return absl::FromChrono(std::chrono::steady_clock::now() - begin);
}

}  // namespace

EngineCore::EngineCore(const Parts& parts, const SchedulerOptions& options)
    : parts_(parts),
      config_(parts.transformer->config()),
      scheduler_(options, parts.cache->shape().pages),
      admission_(parts.step_cost, options.max_rows, options.share_prefixes ? options.page_size : 0),
      speculator_(parts.drafters, parts.share_drafts, parts.prune_retrieved_below, parts.planner,
                  config_.vocab_size),
      is_on_host_(parts.backend != nullptr && !parts.backend->FreeBytes().has_value()),
      logits_(parts.transformer) {}

std::string EngineCore::PrefixContext(const ActiveRequest& request) const {
  return PrefixContextOf(RopeRangeForLength(config_, request.length()),
                         request.request.terms.cache_salt);
}

void EngineCore::Flush(const ContextFilter& includes) {
  const FlushedPages flushed = scheduler_.Flush(includes);
  counters_.flushed_pages += static_cast<uint64_t>(flushed.free);
  counters_.flushed_in_use += static_cast<uint64_t>(flushed.in_use);
}

void EngineCore::FlushAsOthers() {
  if (parts_.shared_pages == nullptr) return;
  if (const ContextFilter includes = parts_.shared_pages->TakeFlushed()) Flush(includes);
}

void EngineCore::Add(std::unique_ptr<ActiveRequest> request) {
  request->priority = request->request.terms.priority;
  request->tenant = request->request.terms.tenant;
  request->prefix_context = PrefixContext(*request);
  // An embedding is the mean over all rows.
  request->use_cached_prefix = request->kind != ActiveRequest::Kind::kEmbed;
  const bool shares = parts_.shared_pages != nullptr;
  CachedPrefix cached;
  if (shares || admission_.known()) scheduler_.FollowCachedPages(*request, cached);
  if (admission_.known()) request->work = admission_.Enter(*request, cached);
  // What cannot be met whatever a store has asks none.
  absl::Status in_time = CheckDeadline(*request, /*pages_may_come=*/shares);
  if (shares && in_time.ok()) {
    parts_.shared_pages->Begin(*request, cached.pages, std::chrono::steady_clock::now());
    if (request->arriving == nullptr) in_time = CheckDeadline(*request, /*pages_may_come=*/false);
  }
  ActiveRequest& added = *request;
  scheduler_.Add(&added);
  active_.push_back(std::move(request));
  if (in_time.ok()) return;
  ++counters_.requests_unmeetable;
  End(added, absl::IsDeadlineExceeded(in_time) ? FinishReason::kDeadline : FinishReason::kError,
      in_time);
}

absl::Status EngineCore::CheckDeadline(const ActiveRequest& request, bool pages_may_come) {
  if (!admission_.known() || request.deadline == SteadyTime::max()) return absl::OkStatus();
  const SteadyTime now = std::chrono::steady_clock::now();
  const auto pending = [now](const ActiveRequest& other) {
    const bool has_deadline = other.deadline != SteadyTime::max();
    return PendingPrompt{.sequence = &other,
                         .first = other.work.first,
                         .left = has_deadline
                                     ? std::chrono::duration<double>(other.deadline - now).count()
                                     : std::numeric_limits<double>::infinity()};
  };
  // That steps have become faster than they were measured to be is learned from running prompts:
  // where nothing runs, only that is refused which no pace makes possible.
  const double pace = active_.empty() ? StepPace::kLeast : std::min(parts_.pace->ratio(), 1.0);
  const auto check = [&] {
    std::vector<PendingPrompt> others;
    others.reserve(active_.size());
    for (const auto& other : active_) others.push_back(pending(*other));
    PendingPrompt prompt = pending(request);
    if (pages_may_come) prompt.first = request.length();
    return admission_.Check(prompt, others, pace);
  };
  if (const absl::Status status = check(); status.ok()) return status;
  for (const auto& other : active_) admission_.TakeOffCached(*other, scheduler_, other->work);
  return check();
}

PageExplanation EngineCore::ExplainPages(const Sequence& sequence) const {
  CachedPrefix cached;
  scheduler_.FollowCachedPages(sequence, cached);
  PageExplanation explanation{.page_size = parts_.cache->shape().page_size,
                              .cached_pages = cached.pages,
                              .shared = std::nullopt};
  if (parts_.shared_pages != nullptr) {
    explanation.shared.emplace().outlook =
        parts_.shared_pages->Outlook(sequence, explanation.cached_pages);
  }
  return explanation;
}

int EngineCore::unstarted() const {
  return static_cast<int>(std::count_if(active_.begin(), active_.end(),
                                        [](const auto& request) { return !request->started; }));
}

int64_t EngineCore::waiting_tokens() const {
  int64_t tokens = 0;
  for (const auto& request : active_) {
    // One that decodes has its last token to compute.
    if (request->uncomputed() > 1) tokens += request->uncomputed();
  }
  return tokens;
}

int64_t EngineCore::prompt_rows() const {
  int64_t rows = 0;
  for (const auto& request : active_) {
    if (request->uncomputed() > 1) {
      rows += Admission::RowsLeft({.sequence = request.get(), .first = request->work.first});
    }
  }
  return rows;
}

uint64_t EngineCore::draft_bytes() const {
  uint64_t bytes = speculator_.drafter_bytes();
  for (const auto& request : active_) {
    if (request->speculation != nullptr) bytes += Speculator::BytesOf(*request->speculation);
  }
  return bytes;
}

void EngineCore::End(ActiveRequest& request, GenerateEvent event) {
  event.usage.prompt_tokens = static_cast<int>(request.request.prompt.size());
  event.usage.cached_tokens = std::min(request.reused, event.usage.prompt_tokens);
  event.usage.shared_tokens = std::min(request.shared, event.usage.cached_tokens);
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
  if (request.speculation != nullptr) {
    event.speculation = request.speculation->usage;
  }
  std::vector<float> embedding;
  if (event.status.ok() && request.kind == ActiveRequest::Kind::kEmbed) {
    const auto count = static_cast<double>(request.length());
    for (double sum : request.embedding_sum) embedding.push_back(static_cast<float>(sum / count));
  }

  // Until something else is planned, they hold what they held.
  std::vector<int32_t> pages;
  if (parts_.shared_pages != nullptr && event.status.ok()) {
    pages.assign(request.pages.begin(), request.pages.begin() + request.entered_pages);
  }
  scheduler_.Remove(&request);
  admission_.Leave(request.work);
  const auto place = std::find_if(active_.begin(), active_.end(),
                                  [&](const auto& other) { return other.get() == &request; });
  const std::unique_ptr<ActiveRequest> owner = std::move(*place);
  *place = std::move(active_.back());
  active_.pop_back();
  ++counters_.requests_finished;
  owner->sink(event, embedding);
  if (owner->speculation != nullptr) speculator_.End(*owner->speculation);
  if (!pages.empty()) OfferPages(*owner, pages);
}

void EngineCore::OfferPages(const ActiveRequest& request, std::span<const int32_t> pages) {
  parts_.shared_pages->Offer(
      request, static_cast<int>(pages.size()),
      [&](std::span<const int> indices, std::span<const std::span<std::byte>> to) {
        for (size_t i = 0; i < indices.size(); ++i) {
          parts_.backend->DownloadPage(*parts_.cache, pages[static_cast<size_t>(indices[i])],
                                       to[i]);
        }
        parts_.backend->FinishPageCopies();
      });
}

void EngineCore::SharePages() {
  if (parts_.shared_pages == nullptr) return;
  const SteadyTime now = std::chrono::steady_clock::now();
  for (const auto& request : active_) {
    const int came = request->arriving != nullptr ? request->arriving->came : 0;
    parts_.shared_pages->Poll(*request, now);
    // What is copied now need not be copied when the last has come.
    if (request->held && request->arriving->came > came) {
      scheduler_.KeepArrivedPages(request.get());
    }
    // Its first token has been sent: nobody waits for this but the next step.
    if (request->offered || !request->answer || request->answer->generated() == 0) continue;
    request->offered = true;
    OfferPages(*request, std::span<const int32_t>(request->pages)
                             .first(static_cast<size_t>(request->entered_pages)));
  }
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

void EngineCore::StartRequests() {
  const SteadyTime now = std::chrono::steady_clock::now();
  for (const ScheduledRows& rows : scheduled_) {
    ActiveRequest& request = RequestOf(rows);
    if (request.started) continue;
    request.started = now;
    // Of one token nothing can be drafted: it would only count as a loss.
    if (speculator_.enabled() && request.kind == ActiveRequest::Kind::kGenerate &&
        request.answer->remaining() > 1) {
      request.speculation = speculator_.Begin(request.request.terms, request.tokens);
    }
  }
}

void EngineCore::BuildStep() {
  ids_.clear();
  step_sequences_.clear();
  hidden_rows_.clear();
  logits_.Clear();
  learners_ = 0;
  for (const ScheduledRows& rows : scheduled_) {
    ActiveRequest& request = RequestOf(rows);
    const int nodes = DraftNodes(request);
    const auto first_row = static_cast<int32_t>(ids_.size());
    const auto begin = request.tokens.begin() + rows.first_position;
    ids_.insert(ids_.end(), begin, begin + rows.row_count);
    step_sequences_.push_back({.row_count = rows.row_count + nodes,
                               .first_position = rows.first_position,
                               .pages = request.pages,
                               .rope_range = RopeRangeForLength(config_, request.length())});
    if (nodes > 0) {
      for (const DraftNode& node : request.speculation->tree.nodes) ids_.push_back(node.token);
      step_sequences_.back().ancestors = request.speculation->masks;
    }
    if (request.kind == ActiveRequest::Kind::kEmbed) {
      for (int i = 0; i < rows.row_count; ++i) hidden_rows_.push_back(first_row + i);
    } else if (rows.completes()) {
      logits_.Add(request.answer ? &*request.answer : nullptr, NodesOf(request),
                  first_row + rows.row_count - 1);
      if (request.speculation != nullptr && speculator_.Observes(*request.speculation)) ++learners_;
    }

    const int repeated = std::clamp(request.most_computed - rows.first_position, 0, rows.row_count);
    const int fresh = rows.row_count - repeated;
    const int first_fresh = rows.first_position + repeated;
    const int prompt_length = static_cast<int>(request.request.prompt.size());
    counters_.recomputed_tokens += static_cast<uint64_t>(repeated);
    counters_.prompt_tokens +=
        static_cast<uint64_t>(std::clamp(prompt_length - first_fresh, 0, fresh));
  }
  // While all sleep nobody learns from candidates.
  logits_.Plan(learners_ > 0 ? speculator_.candidates() : 0);
  hidden_.resize(hidden_rows_.size() * static_cast<size_t>(config_.hidden_size));
}

void EngineCore::MeasurePace() const {
  constexpr int kLeastRows = 16;
  StepShape shape{.rows = 0, .sequences = static_cast<int>(logits_.rows().size())};
  int decoding = 0;
  for (const ScheduledRows& rows : scheduled_) {
    shape.rows += rows.row_count;
    shape.attended += AttendedBy(rows.first_position, rows.row_count);
    decoding += static_cast<int>(rows.row_count == 1);
  }
  if (drafts_in_step_ || shape.rows < std::max(kLeastRows, 2 * decoding)) return;
  parts_.pace->Measured(parts_.step_cost->Seconds(shape),
                        absl::ToDoubleSeconds(absl::FromChrono(last_step_time_)));
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

void EngineCore::FillComputedRows(ActiveRequest& request, const ScheduledRows& rows, int logit_row,
                                  std::span<const int> accepted) {
  const std::vector<DraftNode>& nodes = request.speculation->tree.nodes;
  const auto last = static_cast<size_t>(rows.first_position + rows.row_count - 1);
  computed_rows_.clear();
  computed_rows_.push_back({.previous = last > 0 ? request.tokens[last - 1] : -1,
                            .token = request.tokens[last],
                            .candidates = {},
                            .kept = true,
                            .hidden = {}});
  for (const DraftNode& node : nodes) {
    const int32_t previous =
        node.parent < 0 ? request.tokens[last] : nodes[static_cast<size_t>(node.parent)].token;
    computed_rows_.push_back(
        {.previous = previous, .token = node.token, .candidates = {}, .kept = false, .hidden = {}});
  }
  for (const int node : accepted) computed_rows_[static_cast<size_t>(node) + 1].kept = true;
  if (speculator_.wants_hidden()) {
    const auto size = static_cast<size_t>(config_.hidden_size);
    kept_hidden_.resize((accepted.size() + 1) * size);
    for (size_t i = 0; i <= accepted.size(); ++i) {
      const int row = i == 0 ? 0 : accepted[i - 1] + 1;
      const std::span<float> hidden = std::span(kept_hidden_).subspan(i * size, size);
      parts_.transformer->CopyLogitHidden(logit_row + row, hidden);
      computed_rows_[static_cast<size_t>(row)].hidden = hidden;
    }
  }
  for (size_t i = 0; i < computed_rows_.size(); ++i) {
    computed_rows_[i].candidates =
        logits_.Candidates(logit_row + static_cast<int>(i), speculator_.candidates());
  }
}

void EngineCore::Complete(ActiveRequest& request, const ScheduledRows& rows, int logit_row,
                          SteadyTime now) {
  GenerateEvent event;
  switch (request.kind) {
    case ActiveRequest::Kind::kGenerate:
      Generate(request, rows, logit_row, now);
      return;
    case ActiveRequest::Kind::kEmbed:
      event.finish = FinishReason::kLength;
      break;
    case ActiveRequest::Kind::kNextToken: {
      const std::span<float> logits = logits_.All(logit_row);
      event.status = CheckLogits(logits);
      event.finish = event.status.ok() ? FinishReason::kLength : FinishReason::kError;
      if (event.status.ok()) {
        event.first_scores =
            ComputeScores(logits, logits_.LogSumExp(logit_row), request.request.score_first_tokens);
      }
      break;
    }
  }
  End(request, std::move(event));
}

void EngineCore::Generate(ActiveRequest& request, const ScheduledRows& rows, int logit_row,
                          SteadyTime now) {
  GenerateEvent event;
  if (request.answer->generated() == 0) {
    request.first_token = now;
    if (request.request.hidden_state) {
      event.hidden_state.resize(static_cast<size_t>(config_.hidden_size));
      parts_.transformer->CopyLogitHidden(logit_row, event.hidden_state);
    }
    if (request.request.prompt_pages) {
      const PageStamps& stamps = *scheduler_.prefix_cache().stamps();
      event.prompt_pages.reserve(static_cast<size_t>(request.entered_pages));
      for (size_t i = 0; i < static_cast<size_t>(request.entered_pages); ++i) {
        event.prompt_pages.push_back({request.pages[i], stamps.Get(request.pages[i])});
      }
    }
  }
  const int nodes = DraftNodes(request);

  // From the root of the tree on, as long as what is chosen was drafted.
  const int length = request.length();
  std::vector<int32_t> path = {0};  // rows that are part of the sequence
  std::vector<int> accepted;        // nodes that are tokens of the answer
  absl::Status status;
  for (int node = -1;;) {
    status = logits_.Advance(logit_row + node + 1, nodes > 0, *request.answer, event);
    if (!status.ok()) break;
    ++counters_.generated_tokens;
    const int32_t id = event.ids.back();
    node = nodes > 0 ? request.speculation->tree.Child(node, id) : -1;
    if (node >= 0) accepted.push_back(node);
    if (event.finish != FinishReason::kNone) break;
    request.tokens.push_back(id);
    if (node < 0) break;
    path.push_back(node + 1);
  }
  if (!event.ids.empty()) request.last_token = now;
  if (nodes > 0) {
    const auto kept = static_cast<int>(path.size());
    if (path.back() + 1 != kept) {
      const SteadyTime begin = std::chrono::steady_clock::now();
      parts_.transformer->KeepPath(*parts_.cache, request.pages, rows.first_position, path);
      speculator_.KeptPath(*request.speculation, TimeSince(begin));
    }
    scheduler_.ComputedDraft({&request, rows.first_position, kept});
  }
  if (request.speculation != nullptr) {
    computed_rows_.clear();
    if (speculator_.Observes(*request.speculation)) {
      FillComputedRows(request, rows, logit_row, accepted);
    }
    speculator_.Chosen(*request.speculation, event.ids, accepted, computed_rows_, drafts_in_step_,
                       absl::FromChrono(last_step_time_));
  }

  if (!status.ok()) {
    // What came before the error is part of the answer.
    if (!event.ids.empty()) request.sink(event, {});
    End(request, FinishReason::kError, std::move(status));
    return;
  }
  if (event.finish != FinishReason::kNone) {
    End(request, std::move(event));
    return;
  }
  // What was rotated with other frequencies does not fit any more.
  if (RopeRangeForLength(config_, length) != RopeRangeForLength(config_, request.length())) {
    scheduler_.Restart(&request, PrefixContext(request));
  }
  request.sink(event, {});
}

void EngineCore::PlanDrafts() {
  drafts_in_step_ = false;
  if (!speculator_.enabled()) return;
  const int page_size = parts_.cache->shape().page_size;
  StepLoad step;
  StepLoad decoding;
  for (const ScheduledRows& rows : scheduled_) {
    const StepLoad load{.rows = rows.row_count,
                        .logit_rows = rows.completes() ? 1 : 0,
                        .attended = AttendedBy(rows.first_position, rows.row_count)};
    const auto add = [&load](StepLoad& sum) {
      sum.rows += load.rows;
      sum.logit_rows += load.logit_rows;
      sum.attended += load.attended;
    };
    add(step);
    if (rows.row_count == 1 && rows.completes()) add(decoding);
  }
  speculator_.BeginStep(step, decoding);
  // What could not be verified anyway says nothing of drafters.
  if (scheduler_.spare_rows() == 0) return;
  for (const ScheduledRows& rows : scheduled_) {
    ActiveRequest& request = RequestOf(rows);
    if (request.speculation == nullptr || rows.row_count != 1 || !rows.completes()) continue;
    if (request.answer->generated() == 0) continue;
    const int length = request.length();
    // Every token but the last is computed; the next is chosen at the root.
    int depth = std::min(request.answer->remaining() - 1, kMaxDraftNodes);
    const RopeRange range = RopeRangeForLength(config_, length);
    while (depth > 0 && RopeRangeForLength(config_, length + depth) != range) --depth;
    const auto slots_of = [&](int64_t pages) {
      return static_cast<int>(std::min<int64_t>(pages * page_size - length, kMaxDraftNodes));
    };
    const int most_pages = (config_.max_position_embeddings + page_size - 1) / page_size;
    speculator_.Admit(*request.answer,
                      {.max_depth = depth,
                       .context = length,
                       .free_slots = slots_of(static_cast<int64_t>(request.pages.size())),
                       .most_slots = slots_of(most_pages)},
                      request.tokens, *request.speculation);
  }
  drafts_in_step_ = speculator_.PlanStep({.rows = scheduler_.spare_rows(),
                                          .pages = scheduler_.pages().available(),
                                          .page_size = page_size});
  if (!drafts_in_step_) return;
  for (const ScheduledRows& rows : scheduled_) {
    ActiveRequest& request = RequestOf(rows);
    const int nodes = DraftNodes(request);
    if (nodes > 0 && !scheduler_.GiveDraftPages(&request, nodes + 1)) {
      request.speculation->tree.nodes.clear();  // the planner counts pages as the scheduler does
    }
  }
}

void EngineCore::PlanStep() {
  EndCancelledAndOverdue();
  SharePages();
  scheduled_ = scheduler_.Schedule();
  StartRequests();
  PlanDrafts();
  step_begin_ = std::chrono::steady_clock::now();
  BuildStep();
}

void EngineCore::ComputeStep() {
  if (scheduled_.empty()) return;
  speculator_.BeginPass();
  parts_.transformer->Forward({.ids = ids_,
                               .sequences = step_sequences_,
                               .logit_rows = logits_.rows(),
                               .hidden_rows = hidden_rows_},
                              *parts_.cache, logits_.copies(), hidden_);
  logits_.Compute();
  // On a device ranking also waits for the pass.
  if (is_on_host_) speculator_.Ranked(logits_.ranking_for_drafters(), learners_);
  const SteadyTime now = std::chrono::steady_clock::now();
  last_step_time_ = now - step_begin_;
  speculator_.EndPass();
  MeasurePace();
  ++counters_.steps;
  counters_.step_rows += ids_.size();

  int logit_row = 0;
  std::span<const float> hidden = hidden_;
  for (const ScheduledRows& rows : scheduled_) {
    ActiveRequest& request = RequestOf(rows);
    const bool completes = rows.completes();
    const int nodes = DraftNodes(request);
    if (nodes == 0) scheduler_.Computed(rows);
    int own_logit_row = -1;
    if (request.kind == ActiveRequest::Kind::kEmbed) {
      const size_t count =
          static_cast<size_t>(rows.row_count) * static_cast<size_t>(config_.hidden_size);
      AddHiddenStates(request, rows, hidden.first(count));
      hidden = hidden.subspan(count);
    } else if (completes) {
      own_logit_row = logit_row;
      logit_row += 1 + nodes;
    }
    if (completes) Complete(request, rows, own_logit_row, now);
  }
  if (speculator_.enabled()) speculator_.EndStep(absl::FromChrono(last_step_time_));
}

}  // namespace octogate::workers

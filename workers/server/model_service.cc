#include "workers/server/model_service.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/status_macros.h"
#include "workers/engine/format_names.h"
#include "workers/engine/request.h"
#include "workers/grammar/grammar_constraint.h"
#include "workers/server/speculation_to_proto.h"

namespace octogate::workers {
namespace {

constexpr int kDefaultMaxTokens = 256;

uint64_t FreshSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

SamplingParameters ToSampling(const v1::SamplingParameters& proto, int top_logprobs) {
  SamplingParameters parameters;
  parameters.temperature = static_cast<float>(proto.temperature());
  parameters.top_k = proto.top_k();
  if (proto.has_top_p()) parameters.top_p = static_cast<float>(proto.top_p());
  parameters.min_p = static_cast<float>(proto.min_p());
  if (proto.has_repetition_penalty()) {
    parameters.repetition_penalty = static_cast<float>(proto.repetition_penalty());
  }
  parameters.presence_penalty = static_cast<float>(proto.presence_penalty());
  parameters.frequency_penalty = static_cast<float>(proto.frequency_penalty());
  if (proto.has_seed()) {
    parameters.seed = proto.seed();
  } else if (parameters.temperature > 0) {
    parameters.seed = FreshSeed();
  }
  // The confidence of an answer is computed from the log-probabilities of its
  // tokens, whether the caller wants to see them or not.
  parameters.logprobs = top_logprobs;
  return parameters;
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
    case FinishReason::kStopString:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    default:
      return v1::FINISH_REASON_UNSPECIFIED;
  }
}

v1::PageChoice ToProto(PageChoice choice) {
  switch (choice) {
    case PageChoice::kCompute:
      return v1::PAGE_CHOICE_COMPUTE;
    case PageChoice::kWait:
      return v1::PAGE_CHOICE_WAIT;
    case PageChoice::kMeet:
      return v1::PAGE_CHOICE_MEET;
    default:
      return v1::PAGE_CHOICE_UNSPECIFIED;
  }
}

void FillLogprobs(const GenerateEvent& event, const Tokenizer& tokenizer,
                  v1::WorkerGenerateResponse& message) {
  for (size_t i = 0; i < event.logprobs.size() && i < event.ids.size(); ++i) {
    v1::TokenLogprob& token = *message.add_logprobs();
    token.set_id(event.ids[i]);
    token.set_logprob(event.logprobs[i].logprob);
    for (const TokenLogprob& alternative : event.logprobs[i].top) {
      v1::TokenAlternative& top = *token.add_top();
      top.set_id(alternative.id);
      top.set_text(tokenizer.Decode({&alternative.id, 1}, /*skip_special_tokens=*/false));
      top.set_logprob(alternative.logprob);
    }
  }
}

v1::WorkerGenerateResponse ToMessage(const GenerateEvent& event, const Tokenizer& tokenizer,
                                     bool with_logprobs) {
  v1::WorkerGenerateResponse message;
  message.set_text(event.text);
  message.mutable_ids()->Add(event.ids.begin(), event.ids.end());
  double sum = 0;
  for (const TokenLogprobs& token : event.logprobs) sum += token.logprob;
  message.set_logprob_sum(sum);
  if (with_logprobs) FillLogprobs(event, tokenizer, message);
  if (event.finish == FinishReason::kNone || !event.status.ok()) return message;
  v1::WorkerGenerateEnd& end = *message.mutable_end();
  end.set_finish_reason(ToProto(event.finish));
  end.mutable_usage()->set_prompt_tokens(event.usage.prompt_tokens);
  end.mutable_usage()->set_cached_tokens(event.usage.cached_tokens);
  end.mutable_usage()->set_shared_tokens(event.usage.shared_tokens);
  end.mutable_usage()->set_completion_tokens(event.usage.generated_tokens);
  end.set_queue_us(absl::ToInt64Microseconds(event.timings.queue));
  end.set_prefill_us(absl::ToInt64Microseconds(event.timings.prefill));
  end.set_decode_us(absl::ToInt64Microseconds(event.timings.decode));
  if (event.finish == FinishReason::kStop) {
    end.set_stop_token(tokenizer.Token(event.stop_token).value_or(""));
  }
  end.set_stop_text(event.stop_string);
  if (event.speculation) *end.mutable_speculation() = ToProto(*event.speculation);
  return message;
}

absl::StatusOr<TokenTrie> MakeTrie(const LoadedModel& model) {
  absl::StatusOr<std::vector<std::string>> bytes = model.tokenizer->TokenBytes();
  if (!bytes.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the model cannot keep to a grammar: ", bytes.status().message()));
  }
  // The model may have more rows than its tokenizer has tokens; they spell nothing.
  bytes->resize(std::max(bytes->size(), static_cast<size_t>(model.config().vocab_size)));
  return TokenTrie::Create({.bytes = *std::move(bytes), .end_ids = model.config().eos_token_ids});
}

std::shared_ptr<ServedPrefixes> MakePrefixes(const Engine& engine) {
  std::shared_ptr<const PageStamps> stamps = engine.page_stamps();
  if (stamps == nullptr) return nullptr;
  return std::make_shared<ServedPrefixes>(std::move(stamps), engine.stats().page_size);
}

void AddTerms(const CostCurve& curve,
              google::protobuf::RepeatedPtrField<v1::WorkerStepTerm>& terms) {
  for (const CostCurve::Point& point : curve.points()) {
    v1::WorkerStepTerm& term = *terms.Add();
    term.set_count(static_cast<int64_t>(point.x));
    term.set_seconds(point.seconds);
  }
}

}  // namespace

ModelService::ModelService(std::string name, std::unique_ptr<LoadedModel> model)
    : name_(std::move(name)),
      model_(std::move(model)),
      fingerprint_(model_->checkpoint->ComputeFingerprint().ToHex()),
      encoder_(model_.get()),
      prefixes_(MakePrefixes(*model_->engine)),
      grammars_([this] { return MakeTrie(*model_); },
                OptionsFor(model_->engine->stats().max_sequences)) {}

std::function<void(const GenerateEvent&)> ModelService::RememberPrefix(
    const v1::WorkerPrompt& prompt, const v1::WorkerServiceTerms& terms,
    GenerateRequest* generation) const {
  if (prefixes_ == nullptr || !prefixes_->wanted()) return nullptr;
  auto blocks = std::make_shared<const PromptBlocks>(HashPrompt(prompt, terms.cache_salt()));
  if (blocks->hashes.empty()) return nullptr;
  generation->prompt_pages = true;
  return [prefixes = prefixes_, blocks = std::move(blocks),
          tokens = static_cast<int>(generation->prompt.size())](const GenerateEvent& event) {
    if (!event.prompt_pages.empty()) prefixes->Add(blocks, tokens, event.prompt_pages);
  };
}

absl::StatusOr<std::shared_ptr<Generation>> ModelService::Generate(
    const v1::WorkerGenerateRequest& request, absl::Time deadline, OnMessage on_message,
    OnDone on_done) {
  if (request.top_logprobs() < 0 || request.top_logprobs() > 20) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_logprobs is ", request.top_logprobs(), "; it must be 0 to 20"));
  }
  auto prompt = encoder_.Encode(request.prompt());
  if (!prompt.ok()) return prompt.status();
  auto stop_tokens = encoder_.TokenIds(request.stop_tokens());
  if (!stop_tokens.ok()) return stop_tokens.status();
  auto choices = encoder_.TokenIds(request.first_token_choices());
  if (!choices.ok()) return choices.status();

  GenerateRequest generation;
  generation.prompt = *std::move(prompt);
  generation.sampling = ToSampling(request.sampling(), request.top_logprobs());
  generation.sampling.allowed_first_tokens = *std::move(choices);
  generation.max_tokens = request.max_tokens() == 0 ? kDefaultMaxTokens : request.max_tokens();
  generation.stop.assign(request.stop().begin(), request.stop().end());
  generation.stop_token_ids = *std::move(stop_tokens);
  generation.terms = FromProto(request.terms());
  generation.skip_special_tokens = !request.keep_special_tokens();
  generation.deadline = Bounded(deadline);

  Engine::EventCallback on_event =
      [tokenizer = model_->tokenizer, with_logprobs = request.top_logprobs() > 0,
       remember = RememberPrefix(request.prompt(), request.terms(), &generation),
       on_message = std::move(on_message), on_done](const GenerateEvent& event) {
        if (remember != nullptr) remember(event);
        on_message(ToMessage(event, *tokenizer, with_logprobs));
        if (event.finish != FinishReason::kNone) on_done(event.status);
      };
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  if (!request.has_grammar()) {
    return model_->engine->Submit(std::move(generation), std::move(on_event));
  }
  if (!generation.sampling.allowed_first_tokens.empty()) {
    return absl::InvalidArgumentError(
        "grammar and first_token_choices exclude each other: both say what comes first");
  }
  auto handle = std::make_shared<Generation>();
  const absl::Time grammar_deadline = generation.deadline;
  grammars_.Get(
      request.grammar(), grammar_deadline,
      [this, handle, on_done = std::move(on_done), on_event = std::move(on_event),
       generation = std::make_shared<GenerateRequest>(std::move(generation))](
          absl::StatusOr<GrammarCache::Compiled> grammar) {
        if (!grammar.ok()) return on_done(Annotate(grammar.status(), "grammar"));
        generation->constraint = std::make_shared<GrammarConstraint>(
            GrammarMatcher(*std::move(grammar)), generation->stop_token_ids);
        const auto submitted =
            model_->engine->Submit(std::move(*generation), std::move(on_event), handle);
        if (!submitted.ok()) on_done(submitted.status());
      },
      [handle] { return handle->cancelled(); });
  return handle;
}

absl::StatusOr<std::shared_ptr<Generation>> ModelService::Score(
    const v1::WorkerScoreRequest& request, absl::Time deadline,
    OnResult<v1::WorkerScoreResponse> on_result) {
  if (request.tokens().empty() && !request.hidden_state()) {
    return absl::InvalidArgumentError("tokens is empty; name the tokens to score");
  }
  auto prompt = encoder_.Encode(request.prompt());
  if (!prompt.ok()) return prompt.status();
  auto ids = encoder_.TokenIds(request.tokens());
  if (!ids.ok()) return ids.status();

  GenerateRequest generation;
  generation.prompt = *std::move(prompt);
  generation.max_tokens = 1;
  generation.score_first_tokens = *std::move(ids);
  generation.hidden_state = request.hidden_state();
  generation.terms = FromProto(request.terms());
  generation.deadline = Bounded(deadline);

  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  // Scores arrive with the first token, the end possibly in a later event.
  auto response = std::make_shared<v1::WorkerScoreResponse>();
  auto remember = RememberPrefix(request.prompt(), request.terms(), &generation);
  return model_->engine->Submit(
      std::move(generation), [response, remember = std::move(remember),
                              on_result = std::move(on_result)](const GenerateEvent& event) {
        if (remember != nullptr) remember(event);
        if (!event.first_scores.logits.empty()) {
          response->mutable_logits()->Add(event.first_scores.logits.begin(),
                                          event.first_scores.logits.end());
          response->set_log_sum_exp(event.first_scores.log_sum_exp);
        }
        response->mutable_hidden_state()->Add(event.hidden_state.begin(), event.hidden_state.end());
        if (event.finish == FinishReason::kNone) return;
        if (!event.status.ok()) return on_result(event.status);
        response->mutable_usage()->set_prompt_tokens(event.usage.prompt_tokens);
        response->mutable_usage()->set_cached_tokens(event.usage.cached_tokens);
        response->mutable_usage()->set_shared_tokens(event.usage.shared_tokens);
        on_result(std::move(*response));
      });
}

absl::StatusOr<v1::WorkerEmbedResponse> ModelService::Embed(
    const v1::WorkerEmbedRequest& request, absl::Time deadline,
    const std::shared_ptr<Cancellation>& cancellation) {
  if (absl::Status status = CheckInputs(request); !status.ok()) return status;
  if (absl::Status status = CheckOpen(); !status.ok()) return status;
  v1::WorkerEmbedResponse response;
  for (const std::string& input : request.inputs()) {
    if (cancellation != nullptr && cancellation->IsCancelled()) {
      return absl::CancelledError("the caller cancelled the request");
    }
    auto ids =
        model_->tokenizer->Encode(input, {.add_special_tokens = true, .parse_special = false});
    if (!ids.ok()) return ids.status();
    if (ids->empty()) return absl::InvalidArgumentError("an input has no token");
    const auto context = static_cast<size_t>(model_->engine->context());
    if (request.cut_long_inputs() && ids->size() > context) ids->resize(context);
    response.mutable_usage()->set_prompt_tokens(response.usage().prompt_tokens() +
                                                static_cast<int64_t>(ids->size()));
    auto values = model_->engine->Embed(*std::move(ids), Bounded(deadline), cancellation,
                                        FromProto(request.terms()));
    if (!values.ok()) return values.status();
    AddEmbedding(*values, &response);
  }
  return response;
}

v1::WorkerInfoResponse ModelService::Info() const {
  const EngineStats stats = model_->engine->stats();
  v1::WorkerInfoResponse info;
  info.set_model(name_);
  info.set_kind(v1::MODEL_KIND_CAUSAL);
  info.set_family(std::string(FamilyName(model_->config().family)));
  info.set_fingerprint(fingerprint_);
  info.set_context_length(model_->engine->context());
  info.set_parameters(static_cast<int64_t>(CountParameters(model_->config())));
  info.set_running(stats.running);
  info.set_waiting(stats.waiting);
  info.set_waiting_tokens(stats.waiting_tokens);
  info.set_pages_used(stats.pages_used);
  info.set_pages_idle(stats.pages_idle);
  info.set_pages_total(stats.pages_total);
  info.set_backend(model_->engine->DescribeBackend());
  info.set_draining(draining_);
  info.set_version(OCTOGATE_VERSION);
  info.set_prefix_query_tokens(static_cast<int64_t>(stats.prefix_query_tokens));
  info.set_prefix_hit_tokens(static_cast<int64_t>(stats.prefix_hit_tokens));
  const WeightReport& weights = model_->engine->weight_report();
  info.set_weight_format(kernels::Name(weights.format));
  info.set_mean_weight_error(weights.mean_error);
  info.set_worst_weight_error(weights.worst_error);
  info.set_kv_dtype(std::string(KvDtypeName(stats.kv_dtype)));
  info.set_max_sequences(stats.max_sequences);
  info.set_preemptions(static_cast<int64_t>(stats.preemptions));
  info.set_preemptions_saved(static_cast<int64_t>(stats.preemptions_saved));
  info.set_preemptions_without_room(static_cast<int64_t>(stats.preemptions_without_room));
  info.set_restored_tokens(static_cast<int64_t>(stats.restored_tokens));
  info.set_recomputed_tokens(static_cast<int64_t>(stats.recomputed_tokens));
  info.set_swap_bytes(static_cast<int64_t>(stats.swap_bytes));
  info.set_swap_bytes_used(static_cast<int64_t>(stats.swap_bytes_used));
  const StepCost& step_cost = model_->engine->step_cost();
  for (const CostCurve::Point& point : step_cost.rows.points()) {
    v1::WorkerStepCost& cost = *info.add_step_costs();
    cost.set_rows(static_cast<int32_t>(point.x));
    cost.set_seconds(point.seconds);
  }
  AddTerms(step_cost.context, *info.mutable_step_context_costs());
  AddTerms(step_cost.sequences, *info.mutable_step_sequence_costs());
  if (stats.sharing) {
    v1::SharedPagesUsage& shared = *info.mutable_shared_pages();
    shared.set_lookups(static_cast<int64_t>(stats.sharing->lookups));
    shared.set_lookup_tokens(static_cast<int64_t>(stats.sharing->lookup_tokens));
    shared.set_hit_tokens(static_cast<int64_t>(stats.sharing->hit_tokens));
    shared.set_read_bytes(static_cast<int64_t>(stats.sharing->store.read_bytes));
    shared.set_written_bytes(static_cast<int64_t>(stats.sharing->store.written_bytes));
    shared.set_declined(static_cast<int64_t>(stats.sharing->declined));
    shared.set_abandoned(static_cast<int64_t>(stats.sharing->abandoned));
    shared.set_refused_pages(static_cast<int64_t>(stats.sharing->store.refused_pages));
    shared.set_dropped_pages(static_cast<int64_t>(stats.sharing->store.dropped_pages));
    shared.set_store_failures(static_cast<int64_t>(stats.sharing->store.failures));
    shared.set_store_losses(static_cast<int64_t>(stats.sharing->store.losses));
    shared.set_store_reachable(stats.sharing->store.reachable);
  }
  const auto drafts = model_->shared_drafts ? model_->shared_drafts() : std::nullopt;
  if (drafts) {
    v1::SharedDraftsUsage& shared = *info.mutable_shared_drafts();
    shared.set_publications(static_cast<int64_t>(drafts->publications));
    shared.set_snapshots(static_cast<int64_t>(drafts->snapshots));
    shared.set_published_bytes(static_cast<int64_t>(drafts->published_bytes));
    shared.set_merged(static_cast<int64_t>(drafts->merged));
    shared.set_read_bytes(static_cast<int64_t>(drafts->read_bytes));
    shared.set_refused(static_cast<int64_t>(drafts->refused));
    shared.set_store_failures(static_cast<int64_t>(drafts->store_failures));
    shared.set_store_losses(static_cast<int64_t>(drafts->store_losses));
    shared.set_store_reachable(drafts->store_reachable);
  }
  if (stats.speculation) *info.mutable_speculation() = ToProto(*stats.speculation);
  info.set_draft_bytes(static_cast<int64_t>(stats.draft_bytes));
  info.set_malformed_drafts(static_cast<int64_t>(stats.malformed_drafts));
  return info;
}

std::optional<v1::PrefixSummary> ModelService::Prefixes() const {
  if (prefixes_ == nullptr) return std::nullopt;
  return prefixes_->Summary();
}

absl::StatusOr<v1::WorkerExplainCacheResponse> ModelService::ExplainCache(
    const v1::WorkerExplainCacheRequest& request, absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(std::vector<int32_t> prompt, encoder_.Encode(request.prompt()));
  v1::WorkerExplainCacheResponse response;
  response.set_prompt_tokens(static_cast<int64_t>(prompt.size()));
  OCTOGATE_ASSIGN_OR_RETURN(
      const PageExplanation pages,
      model_->engine->ExplainPages(std::move(prompt), {.cache_salt = request.cache_salt()},
                                   std::min(deadline, absl::Now() + kMaxFlushTime)));
  response.set_cached_tokens(int64_t{pages.cached_pages} * pages.page_size);
  if (!pages.shared) return response;
  const PageOutlook& outlook = pages.shared->outlook;
  v1::SharedPagesExplanation& shared = *response.mutable_shared();
  shared.set_lookup_tokens(int64_t{outlook.pages} * pages.page_size);
  if (pages.shared->stored.ok()) {
    shared.set_hit_tokens(int64_t{*pages.shared->stored} * pages.page_size);
  } else {
    shared.set_error(std::string(pages.shared->stored.status().message()));
  }
  if (std::isfinite(outlook.fetch_seconds)) shared.set_fetch_seconds(outlook.fetch_seconds);
  if (std::isfinite(outlook.compute_seconds)) shared.set_compute_seconds(outlook.compute_seconds);
  shared.set_choice(ToProto(outlook.choice));
  return response;
}

uint64_t ModelService::memory_bytes() const {
  const EngineStats stats = model_->engine->stats();
  return stats.weight_bytes + stats.kv_bytes + stats.activation_bytes + stats.swap_bytes +
         stats.draft_bytes;
}

absl::StatusOr<v1::WorkerFlushCacheResponse> ModelService::Flush(const PageFlush& flush,
                                                                 absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const FlushedPages flushed,
                            model_->engine->FlushPages(flush, deadline));
  v1::WorkerFlushCacheResponse response;
  response.set_pages(flushed.free);
  response.set_pages_in_use(flushed.in_use);
  response.set_shared(model_->engine->stats().sharing.has_value());
  return response;
}

absl::Status ModelService::CheckOpen() const {
  if (!draining_) return absl::OkStatus();
  return absl::UnavailableError("the engine is draining and takes no more requests");
}

absl::Status ModelService::Drain(absl::Time deadline) {
  draining_ = true;
  // What waits for a grammar is under way, too: the engine must take it before it closes.
  const bool no_waiters = grammars_.AwaitNoWaiters(deadline);
  const size_t waiters = no_waiters ? 0 : grammars_.stats().waiters;
  if (absl::Status status = model_->engine->Drain(deadline); !status.ok() || waiters == 0) {
    return status;
  }
  return absl::DeadlineExceededError(absl::StrCat(
      waiters, " requests still wait for their grammars at the end of the time to drain"));
}

}  // namespace octogate::workers

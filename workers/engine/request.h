// What an engine is asked for and what it answers with.
#ifndef OCTOGATE_WORKERS_ENGINE_REQUEST_H_
#define OCTOGATE_WORKERS_ENGINE_REQUEST_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "workers/engine/page_stamps.h"
#include "workers/engine/sampling_parameters.h"
#include "workers/engine/token_constraint.h"
#include "workers/speculation/speculation_usage.h"

namespace octogate::workers {

// Whose request it is, and how it is treated beside others.
struct ServiceTerms {
  static constexpr int kMinPriority = -100;
  static constexpr int kMaxPriority = 100;
  static constexpr size_t kMaxTenantBytes = 256;  // of cache_salt too

  // Higher is served first, whatever the tenant; from kMinPriority to kMaxPriority. Waiting raises
  // it: see EngineOptions::ageing_steps.
  int priority = 0;
  // Requests of equal priority share the engine fairly between tenants. Empty is a tenant too.
  std::string tenant;
  // Requests may reuse each other's keys and values only where this is equal. Reuse changes no
  // answer, but makes it come sooner, from which others can tell what has been asked.
  std::string cache_salt;
};

struct GenerateRequest {
  static constexpr size_t kMaxStopStrings = 32;  // a graph node may have 16, and a query 16 more
  static constexpr size_t kMaxStopStringBytes = 256;
  static constexpr size_t kMaxStopTokens = 64;
  static constexpr size_t kMaxScoredTokens = 4096;

  // Token ids, special tokens included; at least one.
  std::vector<int32_t> prompt;
  SamplingParameters sampling;

  // The answer ends with kLength after this many tokens; at least 1. The context may end it
  // earlier.
  int max_tokens = 256;
  // The answer ends before the first of these texts, wherever token borders fall. Needs a
  // tokenizer.
  std::vector<std::string> stop;
  // The answer ends with any of these tokens, in addition to the model's end-of-sequence tokens.
  std::vector<int32_t> stop_token_ids;
  bool ignore_eos = false;
  // Leave special tokens out of the answer's text. Functional tokens are special.
  bool skip_special_tokens = true;

  // Checked before every step, while waiting too. Infinite: none.
  absl::Time deadline = absl::InfiniteFuture();
  ServiceTerms terms;

  // Where not null, only tokens that it allows are sampled: a fork of it, which stands at the
  // beginning of the answer, is asked before each. Where it allows none, or fails, the answer ends
  // with that error. Log-probabilities are over all tokens all the same: the model's own. Excludes
  // ignore_eos and sampling.allowed_first_tokens.
  std::shared_ptr<const TokenConstraint> constraint;

  // Scores of these tokens at the first position of the answer, reported with the first token.
  std::vector<int32_t> score_first_tokens;
  // Whether the hidden state that the first token is chosen from is reported with it.
  bool hidden_state = false;
  // Whether the pages that hold the prompt in the prefix cache are reported with the first token.
  bool prompt_pages = false;

  // Tokens of the answer that an earlier attempt has delivered already. The answer goes on after
  // them exactly as it would have then: they count for max_tokens, penalties, stop strings and the
  // seed's sequence, but are not reported again. None of them may be a stop token.
  std::vector<int32_t> generated_prefix;
};

enum class FinishReason {
  kNone,        // not finished
  kStop,        // an end-of-sequence or stop token
  kStopString,  // one of `stop`
  kLength,      // max_tokens, or the end of the context
  kCancelled,
  kDeadline,
  kError,
};

// "stop", "length", ...
std::string_view FinishReasonName(FinishReason reason);

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0;
};

// For one token of the answer.
struct TokenLogprobs {
  float logprob = 0;              // of the token itself
  std::vector<TokenLogprob> top;  // most probable first
};

// Scores of some tokens at one position: logits[i] - log_sum_exp is the log-probability of the
// i-th token over the whole vocabulary.
struct TokenScores {
  std::vector<float> logits;
  float log_sum_exp = 0;
};

struct Usage {
  int prompt_tokens = 0;
  int cached_tokens = 0;     // of these, found instead of computed
  int shared_tokens = 0;     // of the cached, found in the store that engines share
  int generated_tokens = 0;  // generated_prefix not included
};

// Intervals of one monotonic clock.
struct GenerateTimings {
  absl::Duration queue;    // from Submit to the first step that holds a row of the sequence
  absl::Duration prefill;  // from there to the first token
  absl::Duration decode;   // from the first token to the last
  int preemptions = 0;     // times that the pages were taken away
};

struct GenerateEvent {
  // New tokens, in order; several where drafts were accepted. A stop token that ended the answer is
  // the last of them.
  std::vector<int32_t> ids;
  // New text, valid UTF-8. It may lag behind `ids` while a character is incomplete or a stop string
  // is possible; it never holds a stop string nor a stop token. Empty without a tokenizer.
  std::string text;
  // One for each of `ids` where sampling.logprobs >= 0, else empty.
  std::vector<TokenLogprobs> logprobs;
  // With the first token, where score_first_tokens was given.
  TokenScores first_scores;
  // With the first token, where hidden_state was set: the prompt's last row after the final norm,
  // hidden_size values. The same bits whatever ran beside it.
  std::vector<float> hidden_state;
  // With the first token, where prompt_pages was set: the full pages of the prompt, from its
  // beginning, as far as they are in the prefix cache; see Engine::page_stamps.
  std::vector<StampedPage> prompt_pages;

  // kNone except in the last event of a request. The rest is filled in only there.
  FinishReason finish = FinishReason::kNone;
  std::string stop_string;  // the one that was found, for kStopString
  int32_t stop_token = -1;  // for kStop
  absl::Status status;      // not OK for kCancelled, kDeadline and kError
  Usage usage;
  GenerateTimings timings;
  std::optional<SpeculationUsage> speculation;  // where the engine has drafters
};

// A request under way. Dropping the handle does not cancel it. May outlive the engine.
class Generation {
 public:
  // The sequence leaves the batch and frees its pages before the next step; its last event says
  // kCancelled, unless it had finished before. Does not wait. Callable from anywhere, repeatedly.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_REQUEST_H_

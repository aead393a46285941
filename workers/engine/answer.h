// The answer to one request as it grows: logits in, events out.
#ifndef OCTOGATE_WORKERS_ENGINE_ANSWER_H_
#define OCTOGATE_WORKERS_ENGINE_ANSWER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "workers/engine/request.h"
#include "workers/engine/sampler.h"
#include "workers/engine/stop.h"
#include "workers/engine/token_constraint.h"
#include "workers/model/tokenizer.h"

namespace octogate::workers {

// Not thread-safe: one per request.
class Answer {
 public:
  // `request` and `eos_token_ids` must outlive the answer, and `tokenizer` (null: no text) too.
  // The answer ends with kLength when it has `max_tokens` tokens, those of generated_prefix
  // included; it has fewer to begin with.
  Answer(const GenerateRequest* request, std::span<const int32_t> eos_token_ids,
         const Tokenizer* tokenizer, int max_tokens);

  // INVALID_ARGUMENT where generated_prefix holds what would have ended the answer or what its
  // constraint does not allow.
  absl::Status CheckPrefix() const;

  // Chooses the next token from `logits`, which are overwritten, and adds what is new to
  // `event`, which may hold tokens before it; its `finish` is not kNone where the answer has ended.
  // `log_sum_exp` is that of the row as Backend::TopK gives it, or anything where it does not
  // NeedSums. An error concerns this answer alone, and ends it.
  absl::Status Advance(std::span<float> logits, float log_sum_exp, SamplerScratch& scratch,
                       GenerateEvent& event);
  // Whether it gives log-probabilities or scores with the next token.
  bool NeedsSums() const { return request_->sampling.logprobs >= 0 || ScoresNext(); }

  // The same from less than a row, after the edits that AppendEdits asks for: what that takes.
  struct Needs {
    bool row = false;   // all logits as they are, and nothing else
    bool draw = false;  // what a draw gives, made as NextDraw says
    int largest = 0;    // logits, by rank
  };
  Needs needs() const;
  void AppendEdits(int32_t row, std::vector<kernels::LogitEdit>& edits) const {
    sampler_.AppendEdits(row, edits);
  }
  // Of the token after `ahead` more, from row `row` of a step.
  kernels::LogitDraw NextDraw(int32_t row, int ahead) const {
    return sampler_.NextDraw(row, ahead);
  }
  // With a draw and without; and whether it was possible. Where it was not, nothing has happened:
  // where it has_edits, AdvanceEdited chooses from all the edited logits, and Advance otherwise.
  bool AdvanceDrawn(int32_t id, float logit, const RankedLogits& ranked, GenerateEvent& event);
  bool AdvanceRanked(const RankedLogits& ranked, SamplerScratch& scratch, GenerateEvent& event);
  absl::Status AdvanceEdited(std::span<float> logits, SamplerScratch& scratch,
                             GenerateEvent& event);

  // The text that was held back, for an answer that is ended from outside.
  std::string Flush();

  // Tokens chosen here, generated_prefix not included.
  int generated() const { return length_ - static_cast<int>(request_->generated_prefix.size()); }
  // Tokens that it may still have.
  int remaining() const { return max_tokens_ - length_; }
  // Whether it ends with this token.
  bool IsStopToken(int32_t id) const;
  // What may come next, as far as it has come; null: anything.
  const TokenConstraint* constraint() const { return constraint_.get(); }
  // Whether AppendEdits may ask for any.
  bool has_edits() const { return sampler_.has_edits(); }

 private:
  // Whether the next token comes with the scores of others.
  bool ScoresNext() const { return generated() == 0 && !request_->score_first_tokens.empty(); }
  // Forbids what the request's constraint does not allow, if it has one.
  absl::Status Constrain(std::span<float> logits);
  // The answer goes on with `id`.
  void Accept(int32_t id, GenerateEvent& event);
  // New text of the answer, cut at a stop string.
  std::string Decode(int32_t id);

  const GenerateRequest* const request_;
  const std::span<const int32_t> eos_token_ids_;
  const int max_tokens_;
  Sampler sampler_;
  StopMatcher stop_matcher_;
  std::optional<StreamDecoder> decoder_;         // none without a tokenizer
  std::unique_ptr<TokenConstraint> constraint_;  // may be null
  absl::Status constraint_status_;               // of what it was told
  std::vector<uint64_t> mask_;                   // scratch
  int length_ = 0;                               // tokens, generated_prefix included
  std::vector<float> raw_logits_;                // scratch, where log-probabilities are wanted
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_ANSWER_H_

#include "workers/engine/answer.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace octogate::workers {

Answer::Answer(const GenerateRequest* request, std::span<const int32_t> eos_token_ids,
               const Tokenizer* tokenizer, int max_tokens)
    : request_(request),
      eos_token_ids_(eos_token_ids),
      max_tokens_(max_tokens),
      sampler_(request->sampling, request->prompt),
      stop_matcher_(request->stop) {
  if (request->constraint != nullptr) constraint_ = request->constraint->Fork();
  if (tokenizer != nullptr) decoder_.emplace(tokenizer, request->skip_special_tokens);
  for (int32_t id : request->generated_prefix) {
    sampler_.Append(id);
    // After an error the rest is no news, and may take much work.
    if (constraint_ != nullptr && constraint_status_.ok()) {
      constraint_status_ = constraint_->Accept(id);
    }
    ++length_;
    Decode(id);  // has been delivered; what is still held back comes with the next tokens
  }
}

absl::Status Answer::CheckPrefix() const {
  for (int32_t id : request_->generated_prefix) {
    if (IsStopToken(id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("generated_prefix holds the stop token ", id, ": that answer had ended"));
    }
  }
  if (stop_matcher_.found() >= 0) {
    return absl::InvalidArgumentError(
        "generated_prefix holds a stop string: that answer had ended");
  }
  return constraint_status_;
}

bool Answer::IsStopToken(int32_t id) const {
  const auto contains = [id](std::span<const int32_t> ids) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  return contains(request_->stop_token_ids) || (!request_->ignore_eos && contains(eos_token_ids_));
}

std::string Answer::Decode(int32_t id) {
  if (!decoder_) return "";
  return stop_matcher_.Push(decoder_->Push(id));
}

std::string Answer::Flush() {
  if (!decoder_) return "";
  std::string text = stop_matcher_.Push(decoder_->Flush());
  if (stop_matcher_.found() < 0) text += stop_matcher_.Flush();
  return text;
}

absl::Status Answer::Advance(std::span<float> logits, float log_sum_exp, SamplerScratch& scratch,
                             GenerateEvent& event) {
  if (absl::Status status = CheckLogits(logits); !status.ok()) return status;
  if (ScoresNext()) {
    event.first_scores = ComputeScores(logits, log_sum_exp, request_->score_first_tokens);
  }
  const int logprobs = request_->sampling.logprobs;
  if (logprobs >= 0) raw_logits_.assign(logits.begin(), logits.end());
  if (absl::Status status = Constrain(logits); !status.ok()) return status;
  const absl::StatusOr<int32_t> id = sampler_.Sample(logits, scratch);
  if (!id.ok()) return id.status();
  if (constraint_ != nullptr) {
    if (absl::Status status = constraint_->Accept(*id); !status.ok()) return status;
  }
  if (logprobs >= 0) {
    event.logprobs.push_back(ComputeLogprobs(raw_logits_, log_sum_exp, *id, logprobs));
  }
  Accept(*id, event);
  return absl::OkStatus();
}

absl::Status Answer::Constrain(std::span<float> logits) {
  if (constraint_ == nullptr) return absl::OkStatus();
  mask_.resize(constraint_->mask_words());
  if (absl::Status status = constraint_->FillMask(mask_); !status.ok()) return status;
  return ApplyMask(mask_, logits);
}

Answer::Needs Answer::needs() const {
  // The largest logits need not be allowed ones.
  if (constraint_ != nullptr) return {.row = true};
  // Log-probabilities are those of the logits as the model gave them.
  const int logprobs = request_->sampling.logprobs;
  if (logprobs >= 0 && has_edits()) return {.row = true};
  if (logprobs > RankedLogits::kMaxCount || ScoresNext()) return {.row = true};
  if (sampler_.Draws()) return {.draw = true, .largest = std::max(logprobs, 0)};
  const int count = sampler_.RankedCount();
  if (count == 0) return {.row = true};
  return {.largest = std::max(count, logprobs)};
}

bool Answer::AdvanceDrawn(int32_t id, float logit, const RankedLogits& ranked,
                          GenerateEvent& event) {
  if (id < 0) return false;
  const int logprobs = request_->sampling.logprobs;
  if (logprobs >= 0) event.logprobs.push_back(ComputeLogprobsOf(logit, ranked, logprobs));
  Accept(id, event);
  return true;
}

bool Answer::AdvanceRanked(const RankedLogits& ranked, SamplerScratch& scratch,
                           GenerateEvent& event) {
  const std::optional<int32_t> id = sampler_.SampleRanked(ranked, scratch);
  if (!id) return false;
  const int logprobs = request_->sampling.logprobs;
  if (logprobs >= 0) event.logprobs.push_back(ComputeLogprobs(ranked, *id, logprobs));
  Accept(*id, event);
  return true;
}

absl::Status Answer::AdvanceEdited(std::span<float> logits, SamplerScratch& scratch,
                                   GenerateEvent& event) {
  // An infinity may be the edits' doing, which SampleEdited says.
  if (std::any_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); })) {
    return CheckEditedLogits(logits);
  }
  const absl::StatusOr<int32_t> id = sampler_.SampleEdited(logits, scratch);
  if (!id.ok()) return id.status();
  Accept(*id, event);
  return absl::OkStatus();
}

void Answer::Accept(int32_t id, GenerateEvent& event) {
  sampler_.Append(id);
  ++length_;
  event.ids.push_back(id);
  if (IsStopToken(id)) {
    event.finish = FinishReason::kStop;
    event.stop_token = id;
  } else {
    event.text += Decode(id);
    if (length_ >= max_tokens_) event.finish = FinishReason::kLength;
  }
  if (event.finish != FinishReason::kNone) event.text += Flush();
  if (stop_matcher_.found() >= 0) {
    event.finish = FinishReason::kStopString;
    event.stop_token = -1;
    event.stop_string = request_->stop[static_cast<size_t>(stop_matcher_.found())];
  }
}

}  // namespace octogate::workers

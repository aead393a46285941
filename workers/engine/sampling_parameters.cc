#include "workers/engine/sampling_parameters.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace octogate::workers {
namespace {

absl::Status OutOfBounds(const char* name, float value, const char* range) {
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, "; it must be ", range));
}

absl::Status CheckId(const char* name, int32_t id, int vocab_size) {
  if (id >= 0 && id < vocab_size) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " names token ", id, "; the model has the tokens 0 to ", vocab_size - 1));
}

}  // namespace

absl::Status ValidateSamplingParameters(const SamplingParameters& p, int vocab_size) {
  // Written so that NaN fails every check.
  if (!(p.temperature >= 0 && p.temperature <= SamplingParameters::kMaxTemperature)) {
    return OutOfBounds("temperature", p.temperature, "from 0 to 100");
  }
  if (p.top_k < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_k is ", p.top_k, "; it must be 0 (all tokens) or more"));
  }
  if (!(p.top_p > 0 && p.top_p <= 1)) return OutOfBounds("top_p", p.top_p, "above 0, at most 1");
  if (!(p.min_p >= 0 && p.min_p <= 1)) return OutOfBounds("min_p", p.min_p, "from 0 to 1");
  if (!(p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty))) {
    return OutOfBounds("repetition_penalty", p.repetition_penalty, "above 0 and finite");
  }
  if (!std::isfinite(p.presence_penalty)) {
    return OutOfBounds("presence_penalty", p.presence_penalty, "finite");
  }
  if (!std::isfinite(p.frequency_penalty)) {
    return OutOfBounds("frequency_penalty", p.frequency_penalty, "finite");
  }
  if (p.logprobs < -1 || p.logprobs > SamplingParameters::kMaxLogprobs) {
    return absl::InvalidArgumentError(absl::StrCat("logprobs is ", p.logprobs,
                                                   "; it must be from -1 (none) to ",
                                                   SamplingParameters::kMaxLogprobs));
  }
  if (p.logit_bias.size() > SamplingParameters::kMaxLogitBiases) {
    return absl::InvalidArgumentError(
        absl::StrCat("logit_bias has ", p.logit_bias.size(), " entries; at most ",
                     SamplingParameters::kMaxLogitBiases, " are allowed"));
  }
  for (const LogitBias& bias : p.logit_bias) {
    if (absl::Status status = CheckId("logit_bias", bias.id, vocab_size); !status.ok()) {
      return status;
    }
    if (std::isnan(bias.bias) || bias.bias == INFINITY) {
      return OutOfBounds("logit_bias", bias.bias, "finite or -infinity");
    }
  }
  if (p.allowed_first_tokens.size() > static_cast<size_t>(vocab_size)) {
    return absl::InvalidArgumentError(
        absl::StrCat("allowed_first_tokens has ", p.allowed_first_tokens.size(),
                     " entries; the model has ", vocab_size, " tokens"));
  }
  for (int32_t id : p.allowed_first_tokens) {
    if (absl::Status status = CheckId("allowed_first_tokens", id, vocab_size); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

}  // namespace octogate::workers

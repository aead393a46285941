// How the next token is chosen from the model's logits.
//
// Order of application, that of Hugging Face transformers (which vLLM shares up to the place of
// min_p; after renormalisation the three cuts below are relative, so only ties with the cut
// differ):
//
//   logits -> allowed_first_tokens -> logit_bias -> repetition, presence, frequency penalties
//          -> temperature -> top_k -> top_p -> min_p -> draw
//
// Log-probabilities that are reported are those of the model: they are taken from the logits before
// any of these steps.
//
// Among equal logits the lower token id ranks first, everywhere.
#ifndef OCTOGATE_WORKERS_ENGINE_SAMPLING_PARAMETERS_H_
#define OCTOGATE_WORKERS_ENGINE_SAMPLING_PARAMETERS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace octogate::workers {

struct LogitBias {
  int32_t id = 0;
  float bias = 0;  // added to the logit; -infinity forbids the token
};

struct SamplingParameters {
  static constexpr int kMaxLogprobs = 100;
  static constexpr float kMaxTemperature = 100;
  static constexpr size_t kMaxLogitBiases = 4096;

  // 0 is greedy: the most probable token, and top_k, top_p, min_p and seed have no effect. At most
  // kMaxTemperature.
  float temperature = 0;
  int top_k = 0;    // keep this many most probable tokens; 0: all
  float top_p = 1;  // keep the fewest most probable tokens whose probabilities reach top_p; (0, 1]
  float min_p = 0;  // drop tokens below min_p times the largest probability; [0, 1]
  // Divides positive and multiplies negative logits of tokens in the prompt or the answer so far
  // (Keskar et al. 2019, "CTRL", arXiv:1909.05858); > 0, 1 is off.
  float repetition_penalty = 1;
  float presence_penalty = 0;   // subtracted once for each token in the answer so far
  float frequency_penalty = 0;  // subtracted for each time that the token is in the answer so far
  std::vector<LogitBias> logit_bias;

  // The draw for the n-th token of an answer depends on (seed, n) and the logits alone: equal
  // requests give equal answers in any batch, after a preemption, and on another replica.
  uint64_t seed = 0;

  // Report, for each token of the answer, its log-probability and those of this many most
  // probable tokens. -1: report nothing. At most kMaxLogprobs.
  int logprobs = -1;

  // Where not empty, the first token of the answer is one of these.
  std::vector<int32_t> allowed_first_tokens;
};

// INVALID_ARGUMENT, naming the parameter and its range.
absl::Status ValidateSamplingParameters(const SamplingParameters& parameters, int vocab_size);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SAMPLING_PARAMETERS_H_

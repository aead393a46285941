// Chooses the tokens of one answer; see sampling_parameters.h for what it does and in which order.
#ifndef OCTOGATE_WORKERS_ENGINE_SAMPLER_H_
#define OCTOGATE_WORKERS_ENGINE_SAMPLER_H_

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/draw.h"
#include "kernels/logit_edit.h"
#include "workers/engine/request.h"
#include "workers/engine/sampling_parameters.h"

namespace octogate::workers {

// Logits of `ids`, beside `log_sum_exp` of all.
TokenScores ComputeScores(std::span<const float> logits, float log_sum_exp,
                          std::span<const int32_t> ids);

// OK where every logit is a number below +infinity and one at least is above -infinity; otherwise
// DATA_LOSS: the weights are broken.
absl::Status CheckLogits(std::span<const float> logits);
// The same of logits that a sampler has edited: that none is above -infinity may be its doing, and
// is no error here.
absl::Status CheckEditedLogits(std::span<const float> logits);

// Of a row of logits: the largest, best first and of equals the lower id first, and log(sum(exp))
// of all, as Backend::TopK gives them.
struct RankedLogits {
  // More would take longer than handing over the row.
  static constexpr int kMaxCount = 256;

  std::span<const int32_t> ids;
  std::span<const float> logits;
  float log_sum_exp = 0;
  int vocab_size = 0;
};

// The log-probability of `id` and those of the `top` most probable tokens: from all logits, and
// from ranked ones, which give the same bits and have to hold all of these.
TokenLogprobs ComputeLogprobs(std::span<const float> logits, float log_sum_exp, int32_t id,
                              int top);
TokenLogprobs ComputeLogprobs(const RankedLogits& ranked, int32_t id, int top);
// The same of a token with this logit, which need not be one of the largest.
TokenLogprobs ComputeLogprobsOf(float logit, const RankedLogits& ranked, int top);

// Memory that samplers share as long as they run one after another.
struct SamplerScratch {
  struct Candidate {
    float logit = 0;
    int32_t id = 0;
  };
  std::vector<Candidate> candidates;
  std::vector<double> weights;
  std::vector<float> sums;
};

// Not thread-safe: one per answer.
class Sampler {
 public:
  // `parameters` have been validated; `prompt` counts for the repetition penalty.
  Sampler(const SamplingParameters& parameters, std::span<const int32_t> prompt);

  // Chooses the next token from logits that have passed CheckLogits, and overwrites them. Does not
  // count the token as part of the answer: Append does. FAILED_PRECONDITION where biases and masks
  // leave no token.
  absl::StatusOr<int32_t> Sample(std::span<float> logits, SamplerScratch& scratch) const;

  // What biases and penalties make of the logits of row `row` of a step, to be done where they are
  // before they are ranked or drawn from. Only where RankedCount() is not 0, or Draws().
  void AppendEdits(int32_t row, std::vector<kernels::LogitEdit>& edits) const;
  // Whether it may ask for any.
  bool has_edits() const { return counts_needed_ || !parameters_.logit_bias.empty(); }
  // Sample from logits that have been edited so and have passed CheckEditedLogits.
  absl::StatusOr<int32_t> SampleEdited(std::span<float> logits, SamplerScratch& scratch) const;

  // Whether the next token is drawn from all edited logits with no token cut, as Backend::Draw
  // does it where they are; and how, from row `row` of a step, for the token after `ahead` more.
  bool Draws() const;
  kernels::LogitDraw NextDraw(int32_t row, int ahead) const;

  // With how many of the largest edited logits SampleRanked may be able to choose the next token;
  // 0: it needs all logits, as they are. At most RankedLogits::kMaxCount.
  int RankedCount() const;
  // What Sample would choose from all logits, where the largest decide it; otherwise nothing, also
  // where CheckLogits or Sample would fail. Only where RankedCount() is not 0.
  std::optional<int32_t> SampleRanked(const RankedLogits& ranked, SamplerScratch& scratch) const;

  // The answer goes on with `id`.
  void Append(int32_t id);

 private:
  void AdjustLogits(std::span<float> logits) const;
  // Whether no token is cut for its rank or weight.
  bool KeepsAll() const;
  // Whether the next token can only be chosen from all logits as they are.
  bool NeedsRow() const;
  // Draws from the candidates in their order, after min_p.
  int32_t Draw(SamplerScratch& scratch, int32_t best) const;

  const SamplingParameters parameters_;
  uint64_t length_ = 0;                       // tokens in the answer so far
  absl::flat_hash_map<int32_t, int> counts_;  // of tokens in the answer, where penalties need them
  absl::flat_hash_set<int32_t> prompt_tokens_;
  bool counts_needed_ = false;
  bool biases_repeat_ = false;  // an id stands in logit_bias twice
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_SAMPLER_H_

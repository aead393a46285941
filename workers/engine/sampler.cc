#include "workers/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/draw.h"
#include "workers/engine/candidates.h"
#include "workers/engine/philox.h"

namespace octogate::workers {
namespace {

int32_t ArgMax(std::span<const float> logits) {
  // max_element returns the first of equals.
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

// Fills `candidates` with the tokens that are not forbidden, in order of id.
void CollectCandidates(std::span<const float> logits, std::vector<Candidate>& candidates) {
  candidates.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (logits[id] > kForbidden) {
      candidates.push_back({logits[id], static_cast<int32_t>(id)});
    }
  }
}

}  // namespace

TokenLogprobs ComputeLogprobs(std::span<const float> logits, float log_sum_exp, int32_t id,
                              int top) {
  TokenLogprobs result;
  result.logprob = logits[static_cast<size_t>(id)] - log_sum_exp;
  if (top <= 0) return result;
  std::vector<Candidate> candidates;
  CollectCandidates(logits, candidates);
  KeepTopK(static_cast<size_t>(top), candidates);
  result.top.reserve(candidates.size());
  for (const Candidate& c : candidates) result.top.push_back({c.id, c.logit - log_sum_exp});
  return result;
}

TokenLogprobs ComputeLogprobs(const RankedLogits& ranked, int32_t id, int top) {
  const auto place = std::find(ranked.ids.begin(), ranked.ids.end(), id) - ranked.ids.begin();
  return ComputeLogprobsOf(ranked.logits[static_cast<size_t>(place)], ranked, top);
}

TokenLogprobs ComputeLogprobsOf(float logit, const RankedLogits& ranked, int top) {
  TokenLogprobs result;
  result.logprob = logit - ranked.log_sum_exp;
  for (size_t i = 0; i < std::min(static_cast<size_t>(top), ranked.ids.size()); ++i) {
    if (!(ranked.logits[i] > kForbidden)) break;
    result.top.push_back({ranked.ids[i], ranked.logits[i] - ranked.log_sum_exp});
  }
  return result;
}

TokenScores ComputeScores(std::span<const float> logits, float log_sum_exp,
                          std::span<const int32_t> ids) {
  TokenScores scores;
  scores.log_sum_exp = log_sum_exp;
  scores.logits.reserve(ids.size());
  for (int32_t id : ids) scores.logits.push_back(logits[static_cast<size_t>(id)]);
  return scores;
}

absl::Status CheckEditedLogits(std::span<const float> logits) {
  for (size_t id = 0; id < logits.size(); ++id) {
    // NaN fails the comparison.
    if (!(logits[id] < std::numeric_limits<float>::infinity())) {
      return absl::DataLossError(absl::StrCat("the model's logit of token ", id, " is ", logits[id],
                                              "; its weights or their scale are broken"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLogits(std::span<const float> logits) {
  if (absl::Status status = CheckEditedLogits(logits); !status.ok()) return status;
  if (std::any_of(logits.begin(), logits.end(), [](float logit) { return logit > kForbidden; })) {
    return absl::OkStatus();
  }
  return absl::DataLossError("the model's logits are all -infinity; its weights are broken");
}

Sampler::Sampler(const SamplingParameters& parameters, std::span<const int32_t> prompt)
    : parameters_(parameters) {
  const bool repetition = parameters_.repetition_penalty != 1;
  counts_needed_ =
      repetition || parameters_.presence_penalty != 0 || parameters_.frequency_penalty != 0;
  if (repetition) prompt_tokens_.insert(prompt.begin(), prompt.end());
  absl::flat_hash_set<int32_t> biased;
  for (const LogitBias& bias : parameters_.logit_bias) {
    if (!biased.insert(bias.id).second) biases_repeat_ = true;
  }
}

void Sampler::Append(int32_t id) {
  ++length_;
  if (counts_needed_) ++counts_[id];
}

void Sampler::AdjustLogits(std::span<float> logits) const {
  for (const LogitBias& bias : parameters_.logit_bias) {
    logits[static_cast<size_t>(bias.id)] += bias.bias;
  }
  // Each token is adjusted on its own, so that the order of the hash tables has no effect.
  const float penalty = parameters_.repetition_penalty;
  const auto penalize_repetition = [&](int32_t id) {
    float& logit = logits[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  };
  if (penalty != 1) {
    for (int32_t id : prompt_tokens_) penalize_repetition(id);
    for (const auto& [id, count] : counts_) {
      if (!prompt_tokens_.contains(id)) penalize_repetition(id);
    }
  }
  for (const auto& [id, count] : counts_) {
    logits[static_cast<size_t>(id)] -=
        parameters_.presence_penalty + parameters_.frequency_penalty * static_cast<float>(count);
  }
}

void Sampler::AppendEdits(int32_t row, std::vector<kernels::LogitEdit>& edits) const {
  const size_t first = edits.size();
  absl::flat_hash_map<int32_t, size_t> places;  // of tokens that have a bias
  for (const LogitBias& bias : parameters_.logit_bias) {
    places[bias.id] = edits.size();
    edits.push_back({.row = row, .id = bias.id, .add = bias.bias});
  }
  const size_t biased = edits.size();
  // A token stands in one of the prompt's and the answer's, or in both.
  const auto edit_of = [&](int32_t id) -> kernels::LogitEdit& {
    if (biased > first) {
      if (const auto place = places.find(id); place != places.end()) return edits[place->second];
    }
    edits.push_back({.row = row, .id = id});
    return edits.back();
  };
  for (int32_t id : prompt_tokens_) {
    if (!counts_.contains(id)) edit_of(id).penalty = parameters_.repetition_penalty;
  }
  for (const auto& [id, count] : counts_) {
    kernels::LogitEdit& edit = edit_of(id);
    edit.penalty = parameters_.repetition_penalty;
    edit.subtract =
        parameters_.presence_penalty + parameters_.frequency_penalty * static_cast<float>(count);
  }
}

absl::StatusOr<int32_t> Sampler::Sample(std::span<float> logits, SamplerScratch& scratch) const {
  if (length_ == 0 && !parameters_.allowed_first_tokens.empty()) {
    // Tokens that are allowed keep their logits, everything else is forbidden.
    std::vector<Candidate> kept;
    kept.reserve(parameters_.allowed_first_tokens.size());
    for (int32_t id : parameters_.allowed_first_tokens) {
      kept.push_back({logits[static_cast<size_t>(id)], id});
    }
    std::fill(logits.begin(), logits.end(), kForbidden);
    for (const Candidate& c : kept) logits[static_cast<size_t>(c.id)] = c.logit;
  }
  AdjustLogits(logits);
  return SampleEdited(logits, scratch);
}

absl::StatusOr<int32_t> Sampler::SampleEdited(std::span<float> logits,
                                              SamplerScratch& scratch) const {
  const int32_t best = ArgMax(logits);
  const float best_logit = logits[static_cast<size_t>(best)];
  if (!(best_logit > kForbidden) || !std::isfinite(best_logit)) {
    return absl::FailedPreconditionError(
        "logit_bias, penalties and allowed_first_tokens leave no token to choose from");
  }
  if (parameters_.temperature == 0) return best;
  if (KeepsAll()) {
    const kernels::LogitDraw draw = NextDraw(0, 0);
    if (!std::isfinite(draw.scale)) return best;
    return kernels::DrawFromRow(logits, draw, scratch.sums);
  }

  // Scaling divides the distance from the best, which cannot overflow upwards.
  for (float& logit : logits) logit = (logit - best_logit) / parameters_.temperature;
  std::vector<Candidate>& candidates = scratch.candidates;
  CollectCandidates(logits, candidates);
  if (parameters_.top_k > 0) KeepTopK(static_cast<size_t>(parameters_.top_k), candidates);
  if (parameters_.top_p < 1) KeepTopP(parameters_.top_p, candidates);
  return Draw(scratch, best);
}

bool Sampler::KeepsAll() const {
  return parameters_.top_k == 0 && parameters_.top_p == 1 && parameters_.min_p == 0;
}

kernels::LogitDraw Sampler::NextDraw(int32_t row, int ahead) const {
  return {.uniform = UniformDouble(parameters_.seed, length_ + static_cast<uint64_t>(ahead)),
          .scale = 1 / parameters_.temperature,
          .row = row};
}

int32_t Sampler::Draw(SamplerScratch& scratch, int32_t best) const {
  const std::vector<Candidate>& candidates = scratch.candidates;
  std::vector<double>& weights = scratch.weights;
  weights.resize(candidates.size());
  double total = 0;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const double weight = std::exp(double{candidates[i].logit});
    weights[i] = weight < parameters_.min_p ? 0 : weight;
    total += weights[i];
  }
  double left = UniformDouble(parameters_.seed, length_) * total;
  int32_t chosen = best;  // where rounding leaves a remainder
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (weights[i] == 0) continue;
    chosen = candidates[i].id;
    left -= weights[i];
    if (left < 0) break;
  }
  return chosen;
}

}  // namespace octogate::workers

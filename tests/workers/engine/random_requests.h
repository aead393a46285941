// Requests of every kind, for tests that compare ways of answering them.
#ifndef OCTOGATE_TESTS_WORKERS_ENGINE_RANDOM_REQUESTS_H_
#define OCTOGATE_TESTS_WORKERS_ENGINE_RANDOM_REQUESTS_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/request.h"
#include "workers/engine/token_constraint.h"
#include "workers/model/config.h"
#include "workers/model/rope.h"

namespace octogate::workers {

class RandomChoices {
 protected:
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }
  bool Chance(int percent) { return Below(100) < percent; }

  const uint32_t seed_ = FreshSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937 random_{seed_};
};

// Allows a third of the tokens after each one, and the end from some length on. Fails after
// `limit` tokens.
class PickyConstraint : public TokenConstraint {
 public:
  PickyConstraint(int vocab_size, std::vector<int32_t> eos, int shortest, int limit)
      : vocab_size_(vocab_size), eos_(std::move(eos)), shortest_(shortest), limit_(limit) {}

  std::unique_ptr<TokenConstraint> Fork() const override {
    return std::make_unique<PickyConstraint>(*this);
  }
  size_t mask_words() const override { return static_cast<size_t>(vocab_size_ + 63) / 64; }
  absl::Status FillMask(std::span<uint64_t> words) const override {
    if (length_ >= limit_) return absl::ResourceExhaustedError("the answer is too long for it");
    std::fill(words.begin(), words.end(), 0);
    for (int32_t id = 0; id < vocab_size_; ++id) {
      if (Allows(id)) words[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64);
    }
    return absl::OkStatus();
  }
  absl::Status Accept(int32_t id) override {
    if (!Allows(id)) return absl::InvalidArgumentError("not allowed");
    last_ = id;
    ++length_;
    return absl::OkStatus();
  }

 private:
  bool Allows(int32_t id) const {
    if (std::find(eos_.begin(), eos_.end(), id) != eos_.end()) return length_ >= shortest_;
    return (id + 7 * last_ + length_) % 3 == 0;
  }

  int vocab_size_;
  std::vector<int32_t> eos_;
  int shortest_;
  int limit_;
  int32_t last_ = 0;
  int length_ = 0;
};

class RandomRequests : protected RandomChoices {
 protected:
  // With sampling, penalties, biases, log-probabilities and constraints, or without.
  GenerateRequest RandomRequest(const ModelConfig& config, int context);
  // Lets some of the requests stop within what they were answered with.
  void AddStops(const std::vector<Outcome>& outcomes, std::vector<GenerateRequest>& requests);
};

inline GenerateRequest RandomRequests::RandomRequest(const ModelConfig& config, int context) {
  GenerateRequest request;
  int prompt = 1 + Below(12);
  if (Chance(25)) prompt = 1 + Below(context - 1);
  // Where other rotary frequencies come into force.
  const int border = config.rope_scaling.original_max_position_embeddings;
  if (RopeRangeForLength(config, context) == RopeRange::kLong && Chance(60)) {
    prompt = std::max(1, border - Below(20));
  }
  request.prompt = RandomIds(random_, prompt, config.vocab_size);
  request.max_tokens = Chance(30) ? context : 1 + Below(40);
  request.ignore_eos = Chance(70);
  request.terms.tenant = Chance(50) ? "a" : "b";
  SamplingParameters& sampling = request.sampling;
  if (Chance(50)) sampling.logprobs = Below(3);
  if (Chance(60)) {
    sampling.temperature = Chance(50) ? 1.0f : 0.3f;
    sampling.seed = random_();
    if (Chance(30)) sampling.top_k = 1 + Below(9);
    if (Chance(30)) sampling.top_p = 0.8f;
    if (Chance(20)) sampling.min_p = 0.05f;
  }
  if (Chance(30)) sampling.repetition_penalty = 1.2f;
  if (Chance(30)) sampling.frequency_penalty = 0.7f;
  if (Chance(20)) sampling.presence_penalty = 0.4f;
  if (Chance(30)) {
    for (const int32_t id : RandomIds(random_, 5, config.vocab_size)) {
      sampling.logit_bias.push_back({id, static_cast<float>(Below(9) - 4)});
    }
  }
  if (Chance(25)) {
    request.ignore_eos = false;
    request.constraint = std::make_shared<PickyConstraint>(
        config.vocab_size, config.eos_token_ids, Below(20), Chance(30) ? 1 + Below(20) : 1000);
  }
  return request;
}

inline void RandomRequests::AddStops(const std::vector<Outcome>& outcomes,
                                     std::vector<GenerateRequest>& requests) {
  for (size_t i = 0; i < requests.size(); ++i) {
    const Outcome& outcome = outcomes[i];
    if (outcome.ids.size() > 3 && Chance(25)) {
      requests[i].stop_token_ids = {outcome.ids[outcome.ids.size() / 2]};
    } else if (outcome.text.size() > 12 && Chance(30)) {
      // Text of the middle of the answer, cut between characters.
      const auto starts = [&](size_t place) {
        return place >= outcome.text.size() || (outcome.text[place] & 0xc0) != 0x80;
      };
      size_t begin = outcome.text.size() / 2;
      while (!starts(begin)) --begin;
      size_t end = begin + 1 + random_() % 4;
      while (!starts(end)) ++end;
      requests[i].stop = {outcome.text.substr(begin, end - begin)};
    }
  }
}

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_ENGINE_RANDOM_REQUESTS_H_

#include "workers/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference_backend.h"
#include "tests/workers/engine/fresh_seed.h"
#include "workers/engine/philox.h"

namespace octogate::workers {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The known answers that come with the authors' Random123 library.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

int32_t SampleOnce(const SamplingParameters& parameters, std::vector<float> logits,
                   const std::vector<int32_t>& prompt = {0},
                   const std::vector<int32_t>& answer = {}) {
  Sampler sampler(parameters, prompt);
  for (int32_t id : answer) sampler.Append(id);
  SamplerScratch scratch;
  const absl::StatusOr<int32_t> id = sampler.Sample(logits, scratch);
  EXPECT_TRUE(id.ok()) << id.status();
  return id.value_or(-1);
}

TEST(SamplerTest, GreedyTakesTheLowestOfEqualIds) { EXPECT_EQ(SampleOnce({}, {1, 3, 2, 3}), 1); }

TEST(SamplerTest, TopKOfOneIsGreedyAtAnyTemperature) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    EXPECT_EQ(SampleOnce({.temperature = 5, .top_k = 1, .seed = seed}, {1, 3, 2, 3}), 1);
  }
}

TEST(SamplerTest, BiasForbidsAndForces) {
  SamplingParameters parameters;
  parameters.logit_bias = {{1, -kInfinity}, {0, 5}};
  EXPECT_EQ(SampleOnce(parameters, {1, 3, 2}), 0);
}

TEST(SamplerTest, FirstTokenIsOneOfTheAllowed) {
  SamplingParameters parameters;
  parameters.allowed_first_tokens = {0, 2};
  EXPECT_EQ(SampleOnce(parameters, {1, 3, 2}), 2);
  EXPECT_EQ(SampleOnce(parameters, {1, 3, 2}, {0}, {2}), 1) << "only the first";
}

TEST(SamplerTest, SaysSoWhereNoTokenIsLeft) {
  SamplingParameters parameters;
  parameters.allowed_first_tokens = {1};
  parameters.logit_bias = {{1, -kInfinity}};
  Sampler sampler(parameters, {});
  std::vector<float> logits = {1, 2, 3};
  SamplerScratch scratch;
  EXPECT_EQ(sampler.Sample(logits, scratch).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(SamplerTest, PenaltiesDoWhatTheirDefinitionsSay) {
  // Repetition: prompt and answer; positive logits divided, negative multiplied.
  EXPECT_EQ(SampleOnce({.repetition_penalty = 2}, {3, 2, 0}, {0}), 1);
  EXPECT_EQ(SampleOnce({.repetition_penalty = 2}, {3, 2, 0}, {2}, {0}), 1);
  EXPECT_EQ(SampleOnce({.repetition_penalty = 2}, {-1, -1.5f, -1.9f}, {0, 1}), 2);
  // Presence and frequency: the answer only, and frequency counts.
  EXPECT_EQ(SampleOnce({.presence_penalty = 2}, {3, 2, 0}, {0}), 0);
  EXPECT_EQ(SampleOnce({.presence_penalty = 2}, {3, 2, 0}, {0}, {0, 0}), 1);
  EXPECT_EQ(SampleOnce({.presence_penalty = 0.9f}, {3, 2, 0}, {0}, {0, 0}), 0);
  EXPECT_EQ(SampleOnce({.frequency_penalty = 0.9f}, {3, 2, 0}, {0}, {0, 0}), 1);
}

TEST(SamplerTest, DrawDependsOnSeedAndPositionAlone) {
  const SamplingParameters parameters{.temperature = 1, .seed = 7};
  const std::vector<float> logits(100, 0.0f);
  std::vector<int32_t> first;
  for (int round = 0; round < 2; ++round) {
    std::vector<int32_t> ids;
    std::vector<int32_t> answer;
    for (int i = 0; i < 50; ++i) {
      ids.push_back(SampleOnce(parameters, logits, {1, 2, 3}, answer));
      answer.push_back(round);  // other tokens, same positions
    }
    if (round == 0) first = ids;
    EXPECT_EQ(ids, first);
  }
  EXPECT_GT(std::count_if(first.begin(), first.end(), [&](int32_t id) { return id != first[0]; }),
            30);
}

// Probabilities by the definitions of Hugging Face transformers' warpers, with no thought for
// speed.
std::vector<double> Probabilities(const SamplingParameters& p, const std::vector<float>& logits) {
  std::vector<double> scaled(logits.begin(), logits.end());
  for (double& logit : scaled) logit /= p.temperature;
  const auto softmax = [&] {
    const double max = *std::max_element(scaled.begin(), scaled.end());
    std::vector<double> result;
    for (double logit : scaled) result.push_back(std::exp(logit - max));
    const double total = std::accumulate(result.begin(), result.end(), 0.0);
    for (double& probability : result) probability /= total;
    return result;
  };
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  const auto remove = [&](size_t id) { scaled[id] = -std::numeric_limits<double>::infinity(); };
  if (p.top_k > 0) {
    for (size_t i = static_cast<size_t>(p.top_k); i < order.size(); ++i) remove(order[i]);
  }
  if (p.top_p < 1) {
    const std::vector<double> probability = softmax();
    double before = 0;
    for (size_t id : order) {
      if (before >= double{p.top_p}) remove(id);
      before += probability[id];
    }
  }
  if (p.min_p > 0) {
    const std::vector<double> probability = softmax();
    const double largest = probability[order[0]];
    for (size_t id : order) {
      if (probability[id] < double{p.min_p} * largest) remove(id);
    }
  }
  return softmax();
}

// Chi-square against those probabilities. The bound is passed by chance once in about 10^9 runs
// (Wilson and Hilferty's approximation).
TEST(SamplerTest, DrawsFromTheDistributionThatTheParametersDefine) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 2);
  const std::vector<SamplingParameters> cases = {
      {.temperature = 1},
      {.temperature = 0.5f},
      {.temperature = 2, .top_k = 5},
      {.temperature = 1, .top_p = 0.8f},
      {.temperature = 1, .min_p = 0.1f},
      {.temperature = 1.5f, .top_k = 12, .top_p = 0.9f, .min_p = 0.05f},
      {.temperature = 1},
      {.temperature = 0.7f},
  };
  for (size_t c = 0; c < cases.size(); ++c) {
    SCOPED_TRACE(c);
    // With the last ones, of more tokens than a draw adds up together, some of them forbidden.
    std::vector<float> logits(c < 6 ? 20 : 700);
    for (float& logit : logits) {
      logit = c >= 6 && random() % 4 == 0 ? -kInfinity : normal(random);
    }
    const std::vector<double> expected = Probabilities(cases[c], logits);
    constexpr int kDraws = 20000;
    std::vector<int> counts(logits.size());
    for (int i = 0; i < kDraws; ++i) {
      SamplingParameters parameters = cases[c];
      parameters.seed = (uint64_t{random()} << 32) | random();
      ++counts[static_cast<size_t>(SampleOnce(parameters, logits))];
    }
    double chi_square = 0;
    int cells = 0;
    double rare_expected = 0;
    int rare_count = 0;
    for (size_t id = 0; id < counts.size(); ++id) {
      const double mean = expected[id] * kDraws;
      if (expected[id] == 0) {
        EXPECT_EQ(counts[id], 0) << "token " << id << " should have been cut off";
      } else if (mean < 10) {
        rare_expected += mean;
        rare_count += counts[id];
      } else {
        chi_square += (counts[id] - mean) * (counts[id] - mean) / mean;
        ++cells;
      }
    }
    if (rare_expected >= 10) {
      chi_square += (rare_count - rare_expected) * (rare_count - rare_expected) / rare_expected;
      ++cells;
    }
    const double freedom = std::max(1, cells - 1);
    const double root = 1 - 2 / (9 * freedom) + 6 * std::sqrt(2 / (9 * freedom));
    EXPECT_LT(chi_square, freedom * root * root * root);
  }
}

// The `count` largest logits as a backend gives them.
struct Largest {
  std::vector<int32_t> ids;
  std::vector<float> logits;
  float log_sum_exp = 0;

  Largest(const std::vector<float>& all, int count)
      : ids(static_cast<size_t>(count)), logits(static_cast<size_t>(count)) {
    const auto size = static_cast<int>(all.size());
    kernels::MakeReferenceBackend()->TopK(all.data(), 1, size, count, ids, logits,
                                          {&log_sum_exp, 1});
  }
  RankedLogits ranked(int vocab_size) const { return {ids, logits, log_sum_exp, vocab_size}; }
};

// Where the largest logits decide, they decide as all of them do: flat and peaked rows, rows with
// many ties, forbidden tokens, every combination of cuts.
TEST(RankedSamplingTest, ChoosesWhatSampleChooses) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  int decided = 0;
  int asked = 0;
  for (int trial = 0; trial < 600; ++trial) {
    SamplingParameters parameters;
    constexpr float kTemperatures[] = {0, 0.1f, 0.6f, 1, 1.5f, 20};
    constexpr float kTopP[] = {1, 0.95f, 0.8f, 0.3f, 1e-6f};
    constexpr float kMinP[] = {0, 0.05f, 0.5f, 1};
    parameters.temperature = kTemperatures[draw(0, 5)];
    if (draw(0, 1) == 1) parameters.top_k = draw(1, 70);
    parameters.top_p = kTopP[draw(0, 4)];
    parameters.min_p = kMinP[draw(0, 3)];
    std::vector<float> logits(
        static_cast<size_t>(draw(0, 3) == 0 ? draw(1, 100) : draw(100, 4000)));
    const float spread = std::uniform_real_distribution<float>(0.1f, 8)(random);
    std::normal_distribution<float> normal(static_cast<float>(draw(-30, 30)), spread);
    const int style = draw(0, 3);
    for (float& logit : logits) {
      logit = normal(random);
      if (style == 1) logit = std::round(logit * 4) / 4;
      if (style == 2 && draw(0, 2) == 0) logit = -kInfinity;
    }
    logits[static_cast<size_t>(draw(0, static_cast<int>(logits.size()) - 1))] = 31;
    const auto vocab_size = static_cast<int>(logits.size());
    const auto any_id = [&] { return draw(0, vocab_size - 1); };
    std::vector<int32_t> prompt;
    std::vector<int32_t> answer;
    if (draw(0, 1) == 1) {
      constexpr float kPenalties[] = {1, 1.3f, 0.7f};
      parameters.repetition_penalty = kPenalties[draw(0, 2)];
      parameters.presence_penalty = static_cast<float>(draw(-1, 2)) * 0.7f;
      parameters.frequency_penalty = static_cast<float>(draw(-1, 2)) * 0.3f;
      for (int i = draw(0, 40); i > 0; --i) prompt.push_back(any_id());
      for (int i = draw(0, 40); i > 0; --i) answer.push_back(any_id());
      std::set<int32_t> biased;
      for (int i = draw(0, 10); i > 0; --i) biased.insert(any_id());
      for (const int32_t id : biased) {
        parameters.logit_bias.push_back({id, draw(0, 3) == 0 ? -kInfinity : normal(random)});
      }
    }
    Sampler sampler(parameters, prompt);
    for (const int32_t id : answer) sampler.Append(id);
    const int count = std::min(sampler.RankedCount(), vocab_size);
    if (count == 0) continue;
    std::vector<kernels::LogitEdit> edits;
    sampler.AppendEdits(0, edits);
    std::vector<float> edited = logits;
    kernels::MakeReferenceBackend()->EditLogits(edits, vocab_size, edited.data());
    // A device may have ranked more, for another row of the step.
    const Largest largest(edited, std::min(vocab_size, count + draw(0, 1) * draw(0, 100)));
    for (uint64_t s = 0; s < 5; ++s) {
      parameters.seed = s;
      Sampler seeded(parameters, prompt);
      for (const int32_t id : answer) seeded.Append(id);
      SamplerScratch scratch;
      std::vector<float> all = logits;
      const auto expected = seeded.Sample(all, scratch);
      all = edited;
      const auto from_edited = seeded.SampleEdited(all, scratch);
      ASSERT_EQ(from_edited.ok(), expected.ok());
      if (!expected.ok()) continue;
      ASSERT_EQ(*from_edited, *expected);
      ++asked;
      const auto id = seeded.SampleRanked(largest.ranked(vocab_size), scratch);
      if (!id) continue;
      ++decided;
      ASSERT_EQ(*id, *expected) << "temperature " << parameters.temperature << " top_k "
                                << parameters.top_k << " top_p " << parameters.top_p << " min_p "
                                << parameters.min_p << " of " << vocab_size;
    }
  }
  EXPECT_GT(decided, asked / 3);
}

TEST(RankedSamplingTest, DecidesTheUsualCases) {
  std::mt19937 random(FreshSeed());
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(20000);
  for (float& logit : logits) logit = normal(random);
  for (size_t i = 0; i < 20; ++i) logits[i * 7] = 20 - static_cast<float>(i);
  for (const SamplingParameters& parameters :
       {SamplingParameters{}, SamplingParameters{.temperature = 0.7f, .top_k = 40},
        SamplingParameters{.temperature = 0.7f, .top_k = 40, .top_p = 0.9f},
        SamplingParameters{.temperature = 0.7f, .top_p = 0.9f},
        SamplingParameters{.temperature = 1, .top_p = 0.9f},
        SamplingParameters{.temperature = 1, .min_p = 0.05f}}) {
    const Sampler sampler(parameters, {});
    const Largest largest(logits, sampler.RankedCount());
    SamplerScratch scratch;
    EXPECT_TRUE(sampler.SampleRanked(largest.ranked(20000), scratch).has_value())
        << "temperature " << parameters.temperature << " top_k " << parameters.top_k;
  }
}

TEST(RankedSamplingTest, NeedsAllLogitsWhereTheyMatter) {
  EXPECT_EQ(Sampler({.temperature = 1}, {}).RankedCount(), 0);
  EXPECT_EQ(Sampler({.temperature = 1, .top_k = 5000}, {}).RankedCount(), 0);
  SamplingParameters biased;
  biased.logit_bias = {{1, 2}, {3, 4}};
  EXPECT_EQ(Sampler(biased, {}).RankedCount(), 1);
  biased.logit_bias.push_back({1, 2});
  EXPECT_EQ(Sampler(biased, {}).RankedCount(), 0) << "the sum of biases depends on their order";
  SamplingParameters first;
  first.allowed_first_tokens = {1};
  Sampler begins(first, {});
  EXPECT_EQ(begins.RankedCount(), 0);
  begins.Append(1);
  EXPECT_EQ(begins.RankedCount(), 1);
}

TEST(RankedSamplingTest, LeavesBrokenRowsToSample) {
  const Sampler sampler({}, {});
  SamplerScratch scratch;
  for (const float broken : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    const Largest largest({1, broken, 2}, 1);
    EXPECT_EQ(sampler.SampleRanked(largest.ranked(3), scratch), std::nullopt);
  }
  const Largest forbidden({-kInfinity, -kInfinity}, 1);
  EXPECT_EQ(sampler.SampleRanked(forbidden.ranked(2), scratch), std::nullopt);
}

// A backend draws from edited logits what Sample chooses from all: now, and for tokens to come.
TEST(DrawnSamplingTest, BackendsDrawWhatSampleChooses) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  const auto backend = kernels::MakeReferenceBackend();
  for (int trial = 0; trial < 300; ++trial) {
    std::vector<float> logits(1 + random() % 2000);
    for (float& logit : logits) logit = random() % 7 == 0 ? -kInfinity : normal(random);
    logits[random() % logits.size()] = 2;
    const auto any_id = [&] { return static_cast<int32_t>(random() % logits.size()); };
    SamplingParameters parameters{.temperature = 0.1f + static_cast<float>(random() % 20) / 10,
                                  .seed = random()};
    std::vector<int32_t> prompt;
    const bool edits = trial % 2 == 0;
    if (edits) {
      parameters.repetition_penalty = 1.3f;
      parameters.presence_penalty = 0.4f;
      parameters.logit_bias = {{any_id(), 1.5f}};
      for (int i = 0; i < 10; ++i) prompt.push_back(any_id());
    }
    Sampler sampler(parameters, prompt);
    ASSERT_TRUE(sampler.Draws());
    ASSERT_EQ(sampler.RankedCount(), 0);
    // With edits the logits of later tokens would be others.
    const int ahead = edits ? 0 : static_cast<int>(random() % 4);
    const kernels::LogitDraw draw = sampler.NextDraw(0, ahead);
    std::vector<kernels::LogitEdit> changes;
    sampler.AppendEdits(0, changes);
    std::vector<float> edited = logits;
    const auto columns = static_cast<int>(logits.size());
    backend->EditLogits(changes, columns, edited.data());
    int32_t drawn = -7;
    float value = 0;
    backend->Draw(edited.data(), columns, {&draw, 1}, {&drawn, 1}, {&value, 1});
    ASSERT_GE(drawn, 0);
    EXPECT_EQ(value, edited[static_cast<size_t>(drawn)]);
    for (int i = 0; i < ahead; ++i) sampler.Append(any_id());
    SamplerScratch scratch;
    const auto expected = sampler.Sample(logits, scratch);
    ASSERT_TRUE(expected.ok());
    ASSERT_EQ(drawn, *expected) << columns << " logits";
  }
}

TEST(DrawnSamplingTest, IsForPlainTemperaturesAlone) {
  EXPECT_TRUE(Sampler({.temperature = 1}, {}).Draws());
  EXPECT_FALSE(Sampler({}, {}).Draws());
  EXPECT_FALSE(Sampler({.temperature = 1e-45f}, {}).Draws()) << "its inverse is infinite";
  EXPECT_FALSE(Sampler({.temperature = 1, .top_k = 5}, {}).Draws());
  EXPECT_FALSE(Sampler({.temperature = 1, .top_p = 0.9f}, {}).Draws());
  EXPECT_FALSE(Sampler({.temperature = 1, .min_p = 0.1f}, {}).Draws());
  SamplingParameters repeated{.temperature = 1};
  repeated.logit_bias = {{1, 2}, {1, 2}};
  EXPECT_FALSE(Sampler(repeated, {}).Draws()) << "the sum of biases depends on their order";
  SamplingParameters first{.temperature = 1};
  first.allowed_first_tokens = {1};
  Sampler begins(first, {});
  EXPECT_FALSE(begins.Draws());
  begins.Append(1);
  EXPECT_TRUE(begins.Draws());
}

TEST(LogprobsTest, AreThoseOfTheModel) {
  const std::vector<float> logits = {0, 2, 1, 2};
  const double normalizer = std::log(1 + 2 * std::exp(2.0) + std::exp(1.0));
  const float log_sum_exp = Largest(logits, 0).log_sum_exp;
  const TokenLogprobs result = ComputeLogprobs(logits, log_sum_exp, 2, 3);
  EXPECT_NEAR(result.logprob, 1 - normalizer, 1e-6);
  ASSERT_EQ(result.top.size(), 3u);
  EXPECT_EQ(result.top[0].id, 1);
  EXPECT_EQ(result.top[1].id, 3);
  EXPECT_EQ(result.top[2].id, 2);
  EXPECT_NEAR(result.top[0].logprob, 2 - normalizer, 1e-6);
  EXPECT_EQ(result.top[2].logprob, result.logprob);
  EXPECT_TRUE(ComputeLogprobs(logits, log_sum_exp, 2, 0).top.empty());
}

TEST(LogprobsTest, OfRankedLogitsHaveTheBitsOfThoseOfAll) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<float> logits(1 + random() % 60);
    // Few values, so that many are equal, and some that are forbidden.
    for (float& logit : logits) {
      logit = random() % 5 == 0 ? -kInfinity : static_cast<float>(random() % 20) * 0.3f;
    }
    logits[random() % logits.size()] = 1;
    const int size = static_cast<int>(logits.size());
    const int count = 1 + static_cast<int>(random() % logits.size());
    const Largest largest(logits, count);
    const int top = static_cast<int>(random() % static_cast<size_t>(count + 1));
    for (const int32_t id : largest.ids) {
      const TokenLogprobs all = ComputeLogprobs(logits, largest.log_sum_exp, id, top);
      const TokenLogprobs ranked = ComputeLogprobs(largest.ranked(size), id, top);
      EXPECT_EQ(ranked.logprob, all.logprob);
      ASSERT_EQ(ranked.top.size(), all.top.size());
      for (size_t i = 0; i < all.top.size(); ++i) {
        EXPECT_EQ(ranked.top[i].id, all.top[i].id);
        EXPECT_EQ(ranked.top[i].logprob, all.top[i].logprob);
      }
    }
  }
}

TEST(CheckLogitsTest, RefusesWhatIsNotANumber) {
  EXPECT_TRUE(CheckLogits(std::vector<float>{-kInfinity, 0}).ok());
  for (float bad : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    const absl::Status status = CheckLogits(std::vector<float>{0, bad});
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("token 1"));
  }
  EXPECT_FALSE(CheckLogits(std::vector<float>{-kInfinity, -kInfinity}).ok());
}

TEST(ValidateSamplingParametersTest, NamesTheParameter) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::map<std::string, SamplingParameters> bad = {
      {"temperature", {.temperature = -1}},
      {"temperature is nan", {.temperature = nan}},
      {"top_k", {.top_k = -1}},
      {"top_p", {.top_p = 0}},
      {"top_p is nan", {.top_p = nan}},
      {"min_p", {.min_p = 1.5f}},
      {"repetition_penalty", {.repetition_penalty = 0}},
      {"presence_penalty", {.presence_penalty = kInfinity}},
      {"frequency_penalty", {.frequency_penalty = nan}},
      {"logprobs", {.logprobs = SamplingParameters::kMaxLogprobs + 1}},
      {"logit_bias names token 10", {.logit_bias = {{10, 1}}}},
      {"logit_bias is inf", {.logit_bias = {{1, kInfinity}}}},
      {"allowed_first_tokens names token -1", {.allowed_first_tokens = {-1}}},
  };
  EXPECT_TRUE(ValidateSamplingParameters({}, 10).ok());
  for (const auto& [name, parameters] : bad) {
    const absl::Status status = ValidateSamplingParameters(parameters, 10);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(status.message()), HasSubstr(name));
  }
}

}  // namespace
}  // namespace octogate::workers

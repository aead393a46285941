// Every rule gives the target's distribution: exactly, by going through all that chance can decide,
// and in samples. And the rules accept as often as theory says that they can.
#include "workers/speculation/acceptance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine.h"

namespace octogate::workers {
namespace {

using Distribution = std::vector<double>;

constexpr double kExact = 1e-12;

// Goes through all decisions, one course after the other, with the probability of each.
class EveryChance : public Chance {
 public:
  // Calls `course` once for each course of decisions that can come about.
  void ForEach(const std::function<void()>& course) {
    do {
      position_ = 0;
      probability_ = 1;
      course();
    } while (Next());
  }
  double probability() const { return probability_; }

  bool Happens(double probability) override {
    EXPECT_GE(probability, 0);
    EXPECT_LE(probability, 1);
    return Decide({1 - probability, probability}) == 1;
  }
  int Pick(std::span<const double> weights) override {
    Distribution shares(weights.begin(), weights.end());
    const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
    EXPECT_GT(sum, 0);
    for (double& share : shares) share /= sum;
    return Decide(shares);
  }

 private:
  int Decide(const Distribution& shares) {
    if (position_ == decisions_.size()) decisions_.push_back({FirstFrom(shares, 0), shares});
    const Decision& decision = decisions_[position_++];
    probability_ *= shares[decision.index];
    return static_cast<int>(decision.index);
  }
  bool Next() {
    while (!decisions_.empty()) {
      Decision& last = decisions_.back();
      last.index = FirstFrom(last.shares, last.index + 1);
      if (last.index < last.shares.size()) return true;
      decisions_.pop_back();
    }
    return false;
  }
  static size_t FirstFrom(const Distribution& shares, size_t index) {
    while (index < shares.size() && !(shares[index] > 0)) ++index;
    return index;
  }

  struct Decision {
    size_t index;
    Distribution shares;
  };
  std::vector<Decision> decisions_;
  size_t position_ = 0;
  double probability_ = 1;
};

struct Rule {
  std::string name;
  std::function<std::vector<int32_t>(const Distribution& q, int count, Chance& chance)> draw;
  std::function<Accepted(const Distribution& p, const Distribution& q,
                         const std::vector<int32_t>& drafts, Chance& chance)>
      accept;
};

std::vector<int32_t> TopTokens(const Distribution& q, int count, Chance& /*chance*/) {
  std::vector<int32_t> order(q.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&q](int32_t a, int32_t b) {
    return q[static_cast<size_t>(a)] > q[static_cast<size_t>(b)];
  });
  order.resize(std::min(order.size(), static_cast<size_t>(count)));
  return order;
}

Accepted TargetOnly(const Distribution& p, const Distribution& /*q*/,
                    const std::vector<int32_t>& drafts, Chance& chance) {
  return AcceptTargetOnly(p, drafts, chance);
}

const Rule kTopTokens = {"target-only walk, most probable drafts", TopTokens, TargetOnly};
const Rule kTargetOnlySampled = {"target-only walk, sampled drafts", DrawWithoutReplacement,
                                 TargetOnly};
const Rule kWithoutReplacement = {"recursive rejection", DrawWithoutReplacement,
                                  AcceptWithoutReplacement};
const Rule kKSeq = {"k-SEQ", DrawIndependent, AcceptKSeq};
const Rule kGreedyMultiDraft = {"greedy multi-draft", DrawGreedyMultiDraft, AcceptGreedyMultiDraft};
const std::vector<Rule> kRules = {kTopTokens, kTargetOnlySampled, kWithoutReplacement, kKSeq,
                                  kGreedyMultiDraft};

struct Outcome {
  Distribution tokens;    // what comes out
  double accepted = 0;    // how often that is a draft
  double all = 0;         // 1
  Distribution draft_in;  // by set of tokens, as bits: how probable it is that all drafts are in it
};

Outcome Enumerate(const Rule& rule, const Distribution& p, const Distribution& q, int count) {
  Outcome outcome;
  outcome.tokens.resize(p.size());
  outcome.draft_in.resize(size_t{1} << p.size());
  EveryChance chance;
  chance.ForEach([&] {
    const std::vector<int32_t> drafts = rule.draw(q, count, chance);
    EXPECT_LE(static_cast<int>(drafts.size()), count);
    const Accepted accepted = rule.accept(p, q, drafts, chance);
    const double probability = chance.probability();
    outcome.all += probability;
    outcome.tokens.at(static_cast<size_t>(accepted.token)) += probability;
    if (accepted.draft >= 0) {
      EXPECT_EQ(drafts.at(static_cast<size_t>(accepted.draft)), accepted.token);
      outcome.accepted += probability;
    } else {
      EXPECT_EQ(std::count(drafts.begin(), drafts.end(), accepted.token), 0);
    }
    size_t drawn = 0;
    for (int32_t token : drafts) drawn |= size_t{1} << token;
    for (size_t set = 0; set < outcome.draft_in.size(); ++set) {
      if ((drawn & ~set) == 0) outcome.draft_in[set] += probability;
    }
  });
  return outcome;
}

double LargestError(const Distribution& a, const Distribution& b) {
  double error = 0;
  for (size_t i = 0; i < a.size(); ++i) error = std::max(error, std::abs(a[i] - b[i]));
  return error;
}

// What no rule can exceed for drafts that are distributed like this: 1 + min over sets H of
// P(H) - Pr(all drafts in H) (arXiv:2502.18779).
double BestAcceptance(const Distribution& p, const Outcome& outcome) {
  double least = 0;
  for (size_t set = 0; set < outcome.draft_in.size(); ++set) {
    double mass = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      if ((set >> i & 1) != 0) mass += p[i];
    }
    least = std::min(least, mass - outcome.draft_in[set]);
  }
  return 1 + least;
}

class AcceptanceTest : public testing::Test {
 protected:
  AcceptanceTest() : random_(seed_) {}

  double Uniform() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  int Below(int bound) { return static_cast<int>(random_() % static_cast<uint64_t>(bound)); }

  // Some flat, some sharp, about half of them with zeros.
  Distribution RandomDistribution(int size) {
    Distribution values(static_cast<size_t>(size));
    const double sharpness = 6 * Uniform();
    const bool zeros = Below(2) == 0;
    for (double& value : values) {
      value = zeros && Below(3) == 0 ? 0 : std::exp(sharpness * (Uniform() - 1));
    }
    values[static_cast<size_t>(Below(size))] += 0.1;
    return Normalised(std::move(values));
  }
  static Distribution Normalised(Distribution values) {
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    for (double& value : values) value /= sum;
    return values;
  }
  struct Pair {
    Distribution p, q;
  };
  Pair RandomPair(int size) {
    Pair pair = {RandomDistribution(size), RandomDistribution(size)};
    switch (Below(6)) {
      case 0:
        pair.q = pair.p;
        break;
      case 1: {  // disjoint supports
        const int border = 1 + Below(size - 1);
        for (int i = 0; i < size; ++i) {
          (i < border ? pair.p : pair.q)[static_cast<size_t>(i)] = 0;
          (i < border ? pair.q : pair.p)[static_cast<size_t>(i)] += 0.01;
        }
        pair.p = Normalised(pair.p);
        pair.q = Normalised(pair.q);
        break;
      }
      case 2:  // a hair's breadth apart
        pair.q = pair.p;
        for (double& value : pair.q) value *= 1 + 1e-15 * Below(100);
        pair.q = Normalised(pair.q);
        break;
      default:
        break;
    }
    return pair;
  }

  uint32_t seed_ = FreshSeed();
  testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937_64 random_;
};

TEST_F(AcceptanceTest, EveryRuleGivesExactlyTheTargetsDistribution) {
  for (int round = 0; round < 400; ++round) {
    const int size = 2 + Below(4);
    const int count = 1 + Below(3);
    const Pair pair = RandomPair(size);
    for (const Rule& rule : kRules) {
      const Outcome outcome = Enumerate(rule, pair.p, pair.q, count);
      EXPECT_NEAR(outcome.all, 1, kExact) << rule.name;
      ASSERT_LT(LargestError(outcome.tokens, pair.p), kExact)
          << rule.name << ", round " << round << ", " << count << " drafts of " << size;
    }
  }
}

TEST_F(AcceptanceTest, MoreDraftsThanTokensDoNoHarm) {
  for (int round = 0; round < 50; ++round) {
    const Pair pair = RandomPair(3);
    for (const Rule& rule : kRules) {
      const Outcome outcome = Enumerate(rule, pair.p, pair.q, 5);
      ASSERT_LT(LargestError(outcome.tokens, pair.p), kExact) << rule.name;
      ASSERT_LT(LargestError(Enumerate(rule, pair.p, pair.q, 0).tokens, pair.p), kExact);
    }
  }
}

// Two levels: the walk goes on where a draft was accepted, with children that were drawn before.
TEST_F(AcceptanceTest, AWalkDownATreeGivesTheTargetsDistributionOfPairs) {
  constexpr int kSize = 3;
  for (const Rule& rule : kRules) {
    for (int round = 0; round < 10; ++round) {
      const Pair first = RandomPair(kSize);
      std::vector<Pair> second;
      for (int i = 0; i < kSize; ++i) second.push_back(RandomPair(kSize));
      Distribution pairs(kSize * kSize);
      EveryChance chance;
      chance.ForEach([&] {
        const std::vector<int32_t> drafts = rule.draw(first.q, 2, chance);
        std::vector<std::vector<int32_t>> children;
        for (int32_t token : drafts) {
          children.push_back(rule.draw(second[static_cast<size_t>(token)].q, 1, chance));
        }
        const Accepted one = rule.accept(first.p, first.q, drafts, chance);
        const Pair& next = second[static_cast<size_t>(one.token)];
        const int32_t two =
            one.draft < 0
                ? chance.Pick(next.p)
                : rule.accept(next.p, next.q, children[static_cast<size_t>(one.draft)], chance)
                      .token;
        pairs[static_cast<size_t>(one.token * kSize + two)] += chance.probability();
      });
      for (int i = 0; i < kSize; ++i) {
        for (int j = 0; j < kSize; ++j) {
          const double expected =
              first.p[static_cast<size_t>(i)] * second[static_cast<size_t>(i)].p[size_t(j)];
          ASSERT_NEAR(pairs[static_cast<size_t>(i * kSize + j)], expected, kExact) << rule.name;
        }
      }
    }
  }
}

// The mistake that the header warns of: the enumeration sees it.
TEST_F(AcceptanceTest, MostProbableDraftsUnderTheRuleForSampledOnesAreWrong) {
  for (const auto& accept : {AcceptWithoutReplacement, AcceptKSeq}) {
    const Rule wrong = {"wrong", TopTokens, accept};
    double total_variation = 0;
    constexpr int kRounds = 200;
    for (int round = 0; round < kRounds; ++round) {
      const Distribution p = RandomDistribution(4);
      const Outcome outcome = Enumerate(wrong, p, RandomDistribution(4), 2);
      EXPECT_NEAR(outcome.all, 1, kExact);
      for (size_t i = 0; i < p.size(); ++i) {
        total_variation += std::abs(outcome.tokens[i] - p[i]) / 2 / kRounds;
      }
    }
    EXPECT_GT(total_variation, 0.1);
  }
}

TEST_F(AcceptanceTest, GreedyFollowsTheArgument) {
  for (int round = 0; round < 200; ++round) {
    const Distribution p = RandomDistribution(5);
    const auto best = static_cast<int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
    const std::vector<int32_t> drafts = {Below(2), 2 + Below(2)};
    const Accepted accepted = AcceptGreedy(p, drafts);
    EXPECT_EQ(accepted.token, best);
    const auto found = std::find(drafts.begin(), drafts.end(), best);
    EXPECT_EQ(accepted.draft, found == drafts.end() ? -1 : found - drafts.begin());
  }
  EXPECT_EQ(AcceptGreedy(std::vector{0.1, 0.4, 0.4, 0.1}, std::vector{2, 1}).token, 1);
}

// Speculation may not change which token a seed gives.
TEST_F(AcceptanceTest, TheTargetOnlyWalkGivesThePlainChoice) {
  for (int round = 0; round < 500; ++round) {
    const Distribution p = RandomDistribution(6);
    const double number = Uniform();
    const auto uniform = [number] { return number; };
    UniformChance plain(uniform);
    UniformChance walk(uniform);
    EXPECT_EQ(AcceptTargetOnly(p, std::vector{3, 1, 4}, walk).token, plain.Pick(p));
  }
}

TEST_F(AcceptanceTest, NoRuleExceedsTheOptimumAndGreedyMultiDraftAttainsIt) {
  double optimum_sampled = 0;
  double recursive = 0;
  double optimum_independent = 0;
  double k_seq = 0;
  for (int round = 0; round < 300; ++round) {
    const int size = 2 + Below(4);
    const int count = 1 + Below(3);
    const Pair pair = RandomPair(size);
    for (const Rule& rule : kRules) {
      const Outcome outcome = Enumerate(rule, pair.p, pair.q, count);
      const double best = BestAcceptance(pair.p, outcome);
      EXPECT_LE(outcome.accepted, best + kExact) << rule.name;
      if (&rule == &kRules.back() || &rule == &kRules.front()) {
        ASSERT_NEAR(outcome.accepted, best, kExact) << rule.name << ", round " << round;
      }
      if (rule.name == kWithoutReplacement.name) {
        recursive += outcome.accepted;
        optimum_sampled += best;
      }
      if (rule.name == kKSeq.name) {
        k_seq += outcome.accepted;
        optimum_independent += best;
        // SpecTr's theorem: at least 1 - 1/e of the optimum.
        EXPECT_GE(outcome.accepted, (1 - std::exp(-1.0)) * best - kExact);
      }
    }
  }
  RecordProperty("recursive_rejection_of_optimum", std::to_string(recursive / optimum_sampled));
  RecordProperty("k_seq_of_optimum", std::to_string(k_seq / optimum_independent));
}

TEST_F(AcceptanceTest, OneDraftIsAcceptedAsOftenAsTheDistributionsOverlap) {
  for (int round = 0; round < 300; ++round) {
    const Pair pair = RandomPair(4);
    double overlap = 0;
    for (size_t i = 0; i < 4; ++i) overlap += std::min(pair.p[i], pair.q[i]);
    for (const Rule& rule : {kWithoutReplacement, kGreedyMultiDraft, kKSeq}) {
      EXPECT_NEAR(Enumerate(rule, pair.p, pair.q, 1).accepted, overlap, kExact) << rule.name;
    }
  }
}

TEST_F(AcceptanceTest, TheDivisorOfKSeqIsTheLeastThatKeepsTheTarget) {
  for (int round = 0; round < 300; ++round) {
    const int count = 1 + Below(8);
    const Pair pair = RandomPair(6);
    const double divisor = KSeqDivisor(pair.p, pair.q, count);
    ASSERT_GE(divisor, 1);
    ASSERT_LE(divisor, count);
    const auto excess = [&](double at) {  // of what one token can be given over its p
      double share = 0;
      for (size_t i = 0; i < 6; ++i) share += std::min(pair.q[i], pair.p[i] / at);
      return 1 - std::pow(1 - std::min(share, 1.0), count) - at * share;
    };
    EXPECT_LE(excess(divisor), 1e-14);
    if (divisor > 1 + 1e-9) {
      EXPECT_GE(excess(divisor - 1e-9), -1e-14);
    }
  }
}

TEST_F(AcceptanceTest, DrawsAreDistributedAsTheySay) {
  for (int round = 0; round < 100; ++round) {
    const Distribution q = RandomDistribution(4);
    const size_t support = static_cast<size_t>(
        std::count_if(q.begin(), q.end(), [](double value) { return value > 0; }));
    EveryChance chance;
    chance.ForEach([&] {
      const std::vector<int32_t> drafts = DrawWithoutReplacement(q, 3, chance);
      ASSERT_EQ(drafts.size(), std::min(support, size_t{3}));
      double expected = 1;
      double rest = 1;
      for (int32_t token : drafts) {
        expected *= q[static_cast<size_t>(token)] / rest;
        rest -= q[static_cast<size_t>(token)];
      }
      EXPECT_NEAR(chance.probability(), expected, 1e-9);
    });
    chance.ForEach([&] {
      const std::vector<int32_t> drafts = DrawGreedyMultiDraft(q, 3, chance);
      ASSERT_EQ(drafts.size(), std::min(support, size_t{3}));
      EveryChance none;
      const std::vector<int32_t> top = TopTokens(q, 2, none);
      EXPECT_TRUE(std::equal(top.begin(),
                             top.begin() + static_cast<int>(std::min(size_t{2}, drafts.size())),
                             drafts.begin()));
    });
  }
}

// The statistic of `counts` under `p` less its 1 - 1e-9 quantile (Wilson and Hilferty's
// approximation); positive: not from p. Cells with few expected are taken together.
double ChiSquareExcess(const std::vector<int>& counts, const Distribution& p, int samples) {
  double statistic = 0;
  double rest_expected = 0;
  double rest_count = 0;
  int cells = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double expected = p[i] * samples;
    if (expected < 25) {
      rest_expected += expected;
      rest_count += counts[i];
      continue;
    }
    ++cells;
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
  }
  if (rest_expected >= 25) {
    ++cells;
    statistic += (rest_count - rest_expected) * (rest_count - rest_expected) / rest_expected;
  } else {
    // Too few for the approximation: more than this many are as improbable.
    EXPECT_LT(rest_count, 120);
  }
  const double freedom = std::max(cells - 1, 1);
  const double spread = 2 / (9 * freedom);
  return statistic - freedom * std::pow(1 - spread + 6.0 * std::sqrt(spread), 3);
}

// What a model has at a temperature after some tokens, over its whole vocabulary.
Distribution ModelsDistribution(const std::string& fixture, double temperature) {
  const auto engine = MakeEngine(FixturePath(fixture), {.max_sequences = 1});
  if (engine == nullptr) return {};
  GenerateRequest request;
  request.prompt = {1, 17, 4, 96, 33};
  request.max_tokens = 1;
  request.score_first_tokens.resize(static_cast<size_t>(engine->config().vocab_size));
  std::iota(request.score_first_tokens.begin(), request.score_first_tokens.end(), 0);
  Distribution values;
  absl::Notification ended;
  const auto submitted = engine->Submit(request, [&](const GenerateEvent& event) {
    for (const float logit : event.first_scores.logits) {
      values.push_back(std::exp((double{logit} - event.first_scores.log_sum_exp) / temperature));
    }
    if (event.finish != FinishReason::kNone) ended.Notify();
  });
  EXPECT_TRUE(submitted.ok()) << submitted.status();
  if (submitted.ok()) ended.WaitForNotification();
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  for (double& value : values) value /= sum;
  return values;
}

TEST_F(AcceptanceTest, SamplesAreThoseOfTheTarget) {
  const auto uniform = [this] { return static_cast<double>(random_() >> 11) * 0x1p-53; };
  UniformChance chance(uniform);
  const auto excess = [&](const Rule& rule, const Pair& pair, int count, int samples) {
    std::vector<int> counts(pair.p.size());
    for (int i = 0; i < samples; ++i) {
      const std::vector<int32_t> drafts = rule.draw(pair.q, count, chance);
      ++counts[static_cast<size_t>(rule.accept(pair.p, pair.q, drafts, chance).token)];
    }
    return ChiSquareExcess(counts, pair.p, samples);
  };
  constexpr int kSamples = 100'000;
  for (int size : {6, 12}) {
    for (int count : {1, 3}) {
      const Pair pair = RandomPair(size);
      for (const Rule& rule : kRules) {
        EXPECT_LT(excess(rule, pair, count, kSamples), 0) << rule.name;
      }
    }
  }
  // It can tell.
  const Rule wrong = {"wrong", TopTokens, AcceptWithoutReplacement};
  const Pair pair = {{0.4, 0.3, 0.2, 0.1}, {0.3, 0.4, 0.2, 0.1}};
  EXPECT_GT(excess(wrong, pair, 2, kSamples), 0);

  // Of models, too: drafts of the target itself at other temperatures, and of another model.
  constexpr int kModelSamples = 10'000;
  const Distribution target = ModelsDistribution("llama", 1);
  for (const Distribution& draft :
       {ModelsDistribution("llama", 0.5), ModelsDistribution("llama", 2),
        ModelsDistribution("mistral", 4)}) {
    ASSERT_EQ(draft.size(), target.size());
    for (const Rule& rule : kRules) {
      EXPECT_LT(excess(rule, {target, draft}, 3, kModelSamples), 0) << rule.name;
    }
    EXPECT_GT(excess(wrong, {target, draft}, 3, kModelSamples), 0);
  }
}

}  // namespace
}  // namespace octogate::workers

// Answers with shared prefixes are those without, bit for bit.
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

// Prompts that begin with a random part of one of a few texts, or of one another.
std::vector<GenerateRequest> RequestsWithSharedPrefixes(std::mt19937& random, int count,
                                                        int vocab_size, int longest) {
  const auto pick = [&](int from, int to) {
    return std::uniform_int_distribution<int>(from, to)(random);
  };
  std::vector<std::vector<int32_t>> texts;
  for (int i = 0; i < 3; ++i) texts.push_back(RandomIds(random, longest, vocab_size));
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < count; ++i) {
    const std::vector<int32_t>& text =
        texts[static_cast<size_t>(pick(0, static_cast<int>(texts.size()) - 1))];
    std::vector<int32_t> prompt(text.begin(),
                                text.begin() + pick(1, static_cast<int>(text.size())));
    const auto own =
        RandomIds(random, pick(0, longest - static_cast<int>(prompt.size())), vocab_size);
    prompt.insert(prompt.end(), own.begin(), own.end());
    if (pick(0, 3) == 0) texts.push_back(prompt);
    requests.push_back(RequestFor(std::move(prompt), pick(1, 40)));
    GenerateRequest& request = requests.back();
    request.terms.priority = pick(0, 2);
    request.terms.tenant = pick(0, 1) == 0 ? "one" : "two";
    request.terms.cache_salt = pick(0, 3) == 0 ? "apart" : "";
    if (pick(0, 1) == 0) {
      request.sampling.temperature = 0.9f;
      request.sampling.seed = random();
    }
  }
  return requests;
}

// With LongRoPE, answers cross from one set of frequencies to the other: keys of one do not fit the
// other, even of the same tokens.
class PrefixSharingTest : public ::testing::TestWithParam<std::string> {};

TEST_P(PrefixSharingTest, AnswersAreThoseWithoutSharing) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto alone =
      MakeEngine(FixturePath(GetParam()), {.max_sequences = 1, .share_prefixes = false}, 1);
  ASSERT_NE(alone, nullptr);
  const int longest = std::min(alone->context() - 40, 200);
  const auto requests = RequestsWithSharedPrefixes(random, 40, alone->config().vocab_size, longest);
  const std::vector<Outcome> expected = RunAll(*alone, requests, false);
  EXPECT_EQ(alone->stats().prefix_query_tokens, 0u);

  // Little memory, so that pages are taken away and given out again.
  for (int kv_tokens : {longest + 60, 4 * longest}) {
    const auto shared = MakeEngine(
        FixturePath(GetParam()),
        {.max_sequences = 6, .max_rows_per_step = 23, .page_size = 5, .kv_tokens = kv_tokens}, 2);
    ASSERT_NE(shared, nullptr);
    ExpectSameAnswers(RunAll(*shared, requests, true), expected);
    // Once more, with what the first time has left behind.
    const std::vector<Outcome> again = RunAll(*shared, requests, true);
    ExpectSameAnswers(again, expected);
    EXPECT_TRUE(shared->Drain(absl::Now() + kLong).ok());
    const EngineStats stats = shared->stats();
    EXPECT_EQ(stats.pages_used, 0);
    EXPECT_GT(stats.prefix_hit_tokens, 0u);
    EXPECT_LE(stats.prefix_hit_tokens, stats.prefix_query_tokens);
    EXPECT_GT(stats.pages_idle, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, PrefixSharingTest,
                         ::testing::Values("llama", "mistral", "qwen3", "phi3_longrope"),
                         [](const auto& info) { return info.param; });

TEST(PrefixSharingEngineTest, ScoresOfARepeatedPromptHaveTheSameBits) {
  std::mt19937 random(FreshSeed());
  const auto engine = MakeEngine(FixturePath("llama"), {.page_size = 4});
  const auto prompt = RandomIds(random, 41, engine->config().vocab_size);
  const auto first = engine->NextTokenLogits(prompt, {1, 2, 3}, absl::Now() + kLong);
  const auto second = engine->NextTokenLogits(prompt, {1, 2, 3}, absl::Now() + kLong);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->logits, second->logits);
  EXPECT_EQ(first->log_sum_exp, second->log_sum_exp);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.prefix_query_tokens, 82u);
  EXPECT_EQ(stats.prefix_hit_tokens, 40u);
}

TEST(PrefixSharingEngineTest, AConversationGoesOnWhereItsLastAnswerEnded) {
  const auto engine = MakeEngine(FixturePath("llama"), {.page_size = 4});
  std::vector<int32_t> prompt = {1, 20, 30, 40, 50};
  const auto answer = Generate(*engine, RequestFor(prompt, 20));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->usage.cached_tokens, 0);
  prompt.insert(prompt.end(), answer->ids.begin(), answer->ids.end());
  prompt.insert(prompt.end(), {7, 8, 9});
  const auto next = Generate(*engine, RequestFor(prompt, 5));
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ(next->usage.prompt_tokens, 28);
  EXPECT_EQ(next->usage.cached_tokens, 24);  // the last token of the answer was never computed
}

TEST(PrefixSharingEngineTest, SaltsKeepTenantsApart) {
  const auto engine = MakeEngine(FixturePath("llama"), {.page_size = 4});
  GenerateRequest request = RequestFor(std::vector<int32_t>(21, 9), 3);
  const auto cached_tokens = [&](const std::string& salt) {
    request.terms.cache_salt = salt;
    const auto answer = Generate(*engine, request);
    EXPECT_TRUE(answer.ok()) << answer.status();
    return answer.ok() ? answer->usage.cached_tokens : -1;
  };
  EXPECT_EQ(cached_tokens("a"), 0);
  EXPECT_EQ(cached_tokens("b"), 0);
  EXPECT_EQ(cached_tokens(""), 0);
  EXPECT_EQ(cached_tokens("a"), 20);
  // What an embedding has computed is of use to others, but it computes every row itself.
  const auto embedding =
      engine->Embed(request.prompt, absl::Now() + kLong, nullptr, {.cache_salt = "b"});
  EXPECT_TRUE(embedding.ok());
  EXPECT_EQ(cached_tokens("b"), 20);
}

TEST(PrefixSharingEngineTest, EmbeddingsDoNotDependOnWhatIsCached) {
  std::mt19937 random(FreshSeed());
  const auto engine = MakeEngine(FixturePath("llama"), {.page_size = 4});
  const auto ids = RandomIds(random, 50, engine->config().vocab_size);
  const auto first = engine->Embed(ids, absl::Now() + kLong);
  const auto second = engine->Embed(ids, absl::Now() + kLong);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(*first, *second);
}

TEST(PrefixSharingEngineTest, CancellationLeavesNothingWrongBehind) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto alone =
      MakeEngine(FixturePath("llama"), {.max_sequences = 1, .share_prefixes = false});
  const auto requests = RequestsWithSharedPrefixes(random, 30, alone->config().vocab_size, 120);
  const std::vector<Outcome> expected = RunAll(*alone, requests, false);
  const auto engine = MakeEngine(
      FixturePath("llama"),
      {.max_sequences = 4, .max_rows_per_step = 11, .page_size = 4, .kv_tokens = 240}, 2);
  // Others that begin with the same texts come and are cancelled at any time.
  std::thread canceller([&] {
    std::mt19937 own(seed + 1);
    for (int i = 0; i < 200; ++i) {
      GenerateRequest request = requests[own() % requests.size()];
      request.terms.priority = static_cast<int>(own() % 4);
      const auto generation = engine->Submit(request, [](const GenerateEvent&) {});
      absl::SleepFor(absl::Microseconds(own() % 300));
      if (generation.ok()) (*generation)->Cancel();
    }
  });
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  canceller.join();
  EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().pages_used, 0);
}

TEST(PrefixSharingEngineTest, RefusesTermsOutOfRange) {
  const auto engine = MakeEngine(FixturePath("llama"), {});
  const auto refuse = [&](const ServiceTerms& terms, const std::string& words) {
    GenerateRequest request = RequestFor({1}, 1);
    request.terms = terms;
    const auto status = engine->Submit(request, [](const GenerateEvent&) {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(words));
  };
  refuse({.priority = 101}, "priority is 101");
  refuse({.priority = -101}, "priority is -101");
  refuse({.tenant = std::string(257, 'a')}, "tenant has 257 bytes");
  refuse({.cache_salt = std::string(257, 'a')}, "cache_salt has 257 bytes");
}

}  // namespace
}  // namespace octogate::workers

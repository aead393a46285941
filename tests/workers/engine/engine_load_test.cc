// Many requests at once: the same answers as alone, and nothing leaks.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine.h"

namespace octogate::workers {
namespace {

std::vector<GenerateRequest> RandomRequests(std::mt19937& random, int count, int vocab_size,
                                            int longest_prompt) {
  std::vector<GenerateRequest> requests(static_cast<size_t>(count));
  for (GenerateRequest& request : requests) {
    const auto pick = [&](int from, int to) {
      return std::uniform_int_distribution<int>(from, to)(random);
    };
    request.prompt = RandomIds(random, pick(1, longest_prompt), vocab_size);
    request.max_tokens = pick(1, 40);
    request.terms.priority = pick(0, 2);
    request.ignore_eos = pick(0, 1) == 0;
    request.sampling.logprobs = 0;
    if (pick(0, 1) == 0) {
      request.sampling.temperature = 0.9f;
      request.sampling.top_p = 0.95f;
      request.sampling.min_p = 0.01f;
      request.sampling.seed = random();
      request.sampling.repetition_penalty = 1.1f;
    }
    if (pick(0, 3) == 0) request.stop = {"e", "ab"};
  }
  return requests;
}

// With LongRoPE, sequences cross from one set of frequencies to the other inside the batch.
class EngineLoadTest : public ::testing::TestWithParam<std::string> {};

TEST_P(EngineLoadTest, AnswersDoNotDependOnTheBatchNorOnPreemption) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto alone = MakeEngine(FixturePath(GetParam()), {.max_sequences = 1}, 1);
  ASSERT_NE(alone, nullptr);
  const int longest = std::min(alone->context() - 40, 240);
  auto requests = RandomRequests(random, 24, alone->config().vocab_size, longest);
  // Eight that begin together and outgrow the cache below together.
  for (size_t i = 0; i < 8; ++i) {
    requests[i].prompt.resize(1);
    requests[i].terms.priority = 3;
    requests[i].max_tokens = 40 + static_cast<int>(i);
    requests[i].ignore_eos = true;
    requests[i].stop.clear();
  }
  const std::vector<Outcome> expected = RunAll(*alone, requests, false);
  // What preempted sequences have computed is lost; or some of it, or all comes back.
  for (const uint64_t swap_bytes : {uint64_t{0}, uint64_t{100'000}, uint64_t{1} << 30}) {
    SCOPED_TRACE(swap_bytes);
    // Enough for one of the longest.
    const auto batched = MakeEngine(FixturePath(GetParam()),
                                    {.max_sequences = 8,
                                     .max_rows_per_step = 19,
                                     .page_size = 5,
                                     .kv_tokens = longest + 60,
                                     .swap_bytes = swap_bytes},
                                    2);
    ASSERT_NE(batched, nullptr);
    const std::vector<Outcome> got = RunAll(*batched, requests, true);
    ExpectSameAnswers(got, expected);
    EXPECT_GT(batched->stats().preemptions, 0u);
    EXPECT_TRUE(batched->Drain(absl::Now() + kLong).ok());
    EXPECT_EQ(batched->stats().pages_used, 0);
    EXPECT_EQ(batched->stats().swap_bytes_used, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, EngineLoadTest,
                         ::testing::Values("llama", "mistral", "qwen2", "qwen3", "phi3_longrope"),
                         [](const auto& info) { return info.param; });

TEST(EngineStressTest, EveryRequestEndsOnceAndNoPageIsLost) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  const auto engine = MakeEngine(FixturePath("llama"),
                                 {.max_sequences = 4,
                                  .max_waiting = 12,
                                  .max_rows_per_step = 12,
                                  .page_size = 4,
                                  .kv_tokens = 160,
                                  .swap_bytes = 200'000},
                                 2);
  ASSERT_NE(engine, nullptr);
  std::atomic<int> accepted{0};
  std::atomic<int> refused{0};
  std::atomic<int> ended{0};
  std::array<std::atomic<int>, 8> reasons{};
  std::vector<std::thread> clients;
  for (uint32_t client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      std::mt19937 random(seed + client);
      std::vector<std::shared_ptr<Generation>> generations;
      for (GenerateRequest& request :
           RandomRequests(random, 60, engine->config().vocab_size, 100)) {
        if (random() % 4 == 0) {
          request.deadline = absl::Now() + absl::Microseconds(random() % 20000);
        }
        if (random() % 8 == 0) {
          const auto scores =
              engine->NextTokenLogits(request.prompt, {1, 2}, absl::Now() + absl::Milliseconds(20));
          if (scores.ok()) {
            EXPECT_EQ(scores->logits.size(), 2u);
          }
        }
        auto generation = engine->Submit(request, [&](const GenerateEvent& event) {
          if (event.finish == FinishReason::kNone) return;
          ++ended;
          ++reasons[static_cast<size_t>(event.finish)];
        });
        if (generation.ok()) {
          ++accepted;
          generations.push_back(*generation);
        } else {
          ++refused;
          EXPECT_TRUE(absl::IsResourceExhausted(generation.status()) ||
                      absl::IsDeadlineExceeded(generation.status()))
              << generation.status();
          absl::SleepFor(absl::Microseconds(500));
        }
        if (random() % 4 == 0 && !generations.empty()) {
          generations[random() % generations.size()]->Cancel();
        }
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(ended, accepted);
  EXPECT_EQ(accepted + refused, 240);
  EXPECT_GT(accepted, 0);
  EXPECT_EQ(reasons[static_cast<size_t>(FinishReason::kError)], 0);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.pages_used, 0);
  EXPECT_EQ(stats.swap_bytes_used, 0u);
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_EQ(stats.requests_accepted, stats.requests_finished);
}

}  // namespace
}  // namespace octogate::workers

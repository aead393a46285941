// Sequences that are preempted, copied to the swap space and back: the same answers, bit for bit,
// as if they had been computed without a break.
#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine.h"

namespace octogate::workers {
namespace {

constexpr uint64_t kPlenty = uint64_t{64} << 20;

// Sequences that begin together and outgrow `kv_tokens` together.
std::vector<GenerateRequest> Crowd(std::mt19937& random, int count, int vocab_size) {
  std::vector<GenerateRequest> requests(static_cast<size_t>(count));
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = RandomIds(random, 1 + static_cast<int>(random() % 12), vocab_size);
    requests[i].max_tokens = 40 + static_cast<int>(i);
    requests[i].ignore_eos = true;
    requests[i].sampling.logprobs = 0;
    if (i % 2 == 0) {
      requests[i].sampling.temperature = 0.9f;
      requests[i].sampling.seed = random();
      requests[i].sampling.repetition_penalty = 1.1f;
    }
  }
  return requests;
}

EngineOptions TightCache(uint64_t swap_bytes, bool share_prefixes, kernels::DType kv_dtype) {
  return {.max_sequences = 8,
          .max_rows_per_step = 19,
          .page_size = 5,
          .kv_tokens = 160,
          .share_prefixes = share_prefixes,
          .kv_dtype = kv_dtype,
          .swap_bytes = swap_bytes};
}

class SwapTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { random_.seed(seed_); }

  const uint32_t seed_ = FreshSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937 random_;
};

TEST_P(SwapTest, RestoredSequencesAnswerAsThoseThatWereNeverPreempted) {
  for (const kernels::DType type : {kernels::DType::kF32, kernels::DType::kBF16,
                                    kernels::DType::kF8E4M3, kernels::DType::kI8}) {
    SCOPED_TRACE(kernels::Name(type));
    const auto alone =
        MakeEngine(FixturePath(GetParam()), {.max_sequences = 1, .kv_dtype = type}, 1);
    ASSERT_NE(alone, nullptr);
    const auto requests = Crowd(random_, 8, alone->config().vocab_size);
    const std::vector<Outcome> expected = RunAll(*alone, requests, false);
    for (const bool share_prefixes : {false, true}) {
      const auto tight =
          MakeEngine(FixturePath(GetParam()), TightCache(kPlenty, share_prefixes, type), 2);
      ASSERT_NE(tight, nullptr);
      ExpectSameAnswers(RunAll(*tight, requests, true), expected);
      EXPECT_TRUE(tight->Drain(absl::Now() + kLong).ok());
      const EngineStats stats = tight->stats();
      EXPECT_GT(stats.preemptions, 0u);
      EXPECT_EQ(stats.preemptions_saved, stats.preemptions) << "nothing was measured";
      EXPECT_EQ(stats.preemptions_without_room, 0u);
      EXPECT_EQ(stats.swap_bytes_used, 0u);
      if (!share_prefixes) {
        EXPECT_GT(stats.restored_tokens, 0u);
        // Where other frequencies come into force, all is computed again.
        if (GetParam() != "phi3_longrope") {
          EXPECT_EQ(stats.recomputed_tokens, 0u) << "all that was lost came back";
        }
      }
    }
  }
}

TEST_P(SwapTest, AnswersAreTheSameWhereTheSwapSpaceIsFull) {
  const auto alone = MakeEngine(FixturePath(GetParam()), {.max_sequences = 1}, 1);
  ASSERT_NE(alone, nullptr);
  const auto requests = Crowd(random_, 8, alone->config().vocab_size);
  const std::vector<Outcome> expected = RunAll(*alone, requests, false);
  const auto roomy =
      MakeEngine(FixturePath(GetParam()), TightCache(kPlenty, false, kernels::DType::kF32), 1);
  ASSERT_NE(roomy, nullptr);
  const EngineStats sizes = roomy->stats();
  const uint64_t page_bytes = sizes.kv_bytes / static_cast<uint64_t>(sizes.pages_total);
  uint64_t saved = 0;
  uint64_t refused = 0;
  // Too small for any, for some, and for some more.
  for (const uint64_t pages : {0, 2, 6, 12}) {
    SCOPED_TRACE(pages);
    const auto tight =
        MakeEngine(FixturePath(GetParam()),
                   TightCache(pages * page_bytes + 1, false, kernels::DType::kF32), 1);
    ASSERT_NE(tight, nullptr);
    EXPECT_EQ(tight->stats().swap_bytes, pages * page_bytes);
    ExpectSameAnswers(RunAll(*tight, requests, true), expected);
    EXPECT_TRUE(tight->Drain(absl::Now() + kLong).ok());
    EXPECT_EQ(tight->stats().swap_bytes_used, 0u);
    saved += tight->stats().preemptions_saved;
    refused += tight->stats().preemptions_without_room;
  }
  EXPECT_GT(saved, 0u);
  EXPECT_GT(refused, 0u);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, SwapTest,
                         ::testing::Values("llama", "mistral", "qwen3", "phi3_longrope"),
                         [](const auto& info) { return info.param; });

using SwapEngineTest = SwapTest;

TEST_P(SwapEngineTest, TheChoiceByMeasuredCostChangesNoAnswer) {
  const auto alone = MakeEngine(FixturePath(GetParam()), {.max_sequences = 1}, 1);
  ASSERT_NE(alone, nullptr);
  const auto requests = Crowd(random_, 8, alone->config().vocab_size);
  EngineOptions options = TightCache(kPlenty, false, kernels::DType::kF32);
  options.step_cost_time = absl::Milliseconds(100);
  const auto tight = MakeEngine(FixturePath(GetParam()), options, 1);
  ASSERT_NE(tight, nullptr);
  ExpectSameAnswers(RunAll(*tight, requests, true), RunAll(*alone, requests, false));
  EXPECT_GT(tight->stats().preemptions, 0u);
}

// An embedding is a sum over rows: those before the preemption count once.
TEST_P(SwapEngineTest, EmbeddingsOfPreemptedPromptsAreTheSame) {
  const auto alone = MakeEngine(FixturePath(GetParam()), {.max_sequences = 1}, 1);
  ASSERT_NE(alone, nullptr);
  const int vocab_size = alone->config().vocab_size;
  const int length = std::min(alone->context(), 400);
  const auto tight = MakeEngine(FixturePath(GetParam()),
                                {.max_sequences = 4,
                                 .max_rows_per_step = 4,
                                 .page_size = 4,
                                 .kv_tokens = length + 60,
                                 .swap_bytes = kPlenty},
                                1);
  ASSERT_NE(tight, nullptr);
  GenerateRequest answer;  // beside which the embedding advances
  answer.prompt = RandomIds(random_, 8, vocab_size);
  answer.max_tokens = 40;
  answer.ignore_eos = true;
  GenerateRequest intruder = answer;  // for which there is no room beside it
  intruder.prompt = RandomIds(random_, 40, vocab_size);

  // What happens when is told by the answer's tokens, in the engine's thread.
  int tokens = 0;
  ASSERT_TRUE(tight
                  ->Submit(answer,
                           [&](const GenerateEvent&) {
                             ++tokens;
                             const absl::Time give_up = absl::Now() + kLong;
                             while (tokens == 1 && tight->stats().waiting == 0 &&
                                    absl::Now() < give_up) {
                               std::this_thread::yield();  // until the embedding is in the queue
                             }
                             if (tokens != 20) return;
                             EXPECT_TRUE(tight->Submit(intruder, [](const auto&) {}).ok());
                           })
                  .ok());
  const auto prompt = RandomIds(random_, length, vocab_size);
  const auto got = tight->Embed(prompt, absl::Now() + kLong, nullptr, ServiceTerms{.priority = -1});
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_GT(tight->stats().preemptions, 0u);
  EXPECT_GT(tight->stats().restored_tokens, 0u);
  const auto expected = alone->Embed(prompt, absl::Now() + kLong);
  ASSERT_TRUE(expected.ok());
  ASSERT_EQ(got->size(), expected->size());
  EXPECT_EQ(std::memcmp(got->data(), expected->data(), got->size() * sizeof(float)), 0);
}

TEST_P(SwapEngineTest, SequencesThatAreCancelledWhileTheyAreSwappedOutGiveTheMemoryBack) {
  const auto engine =
      MakeEngine(FixturePath(GetParam()), TightCache(kPlenty, false, kernels::DType::kF32), 1);
  ASSERT_NE(engine, nullptr);
  auto requests = Crowd(random_, 8, engine->config().vocab_size);
  absl::Mutex mutex;
  int cancelled = 0;
  int ended = 0;
  std::vector<std::shared_ptr<Generation>> generations;
  // Again and again, since a saved sequence may be back before it is seen.
  for (int round = 0; round < 50 && cancelled == 0; ++round) {
    ended = 0;
    for (GenerateRequest& request : requests) {
      request.max_tokens = 140;
      const auto generation = engine->Submit(request, [&](const GenerateEvent& event) {
        if (event.finish == FinishReason::kNone) return;
        absl::MutexLock lock(&mutex);
        ++ended;
        // What was saved of a sequence is there until it is admitted again.
        if (event.finish == FinishReason::kCancelled && event.timings.preemptions > 0) ++cancelled;
      });
      ASSERT_TRUE(generation.ok()) << generation.status();
      generations.push_back(*generation);
    }
    const auto all_ended = [&] { return ended == static_cast<int>(requests.size()); };
    for (;;) {
      absl::MutexLock lock(&mutex);
      if (all_ended() || engine->stats().swap_bytes_used > 0) break;
    }
    for (const auto& generation : generations) generation->Cancel();
    absl::MutexLock lock(&mutex);
    ASSERT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&all_ended), kLong));
  }
  EXPECT_GT(cancelled, 0);
  EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().swap_bytes_used, 0u);
  EXPECT_EQ(engine->stats().pages_used, 0);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, SwapEngineTest, ::testing::Values("llama"),
                         [](const auto& info) { return info.param; });

TEST(SwapMemoryTest, ASwapSpaceThatDoesNotFitIsRefusedWithTheNumbers) {
  const auto engine = Engine::Create(
      OpenCheckpoint(FixturePath("llama")), nullptr, kernels::MakeCpuBackend({.threads = 1}),
      {.kv_tokens = 64, .swap_bytes = kPlenty, .memory_limit_bytes = kPlenty / 2});
  ASSERT_FALSE(engine.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(engine.status())) << engine.status();
  EXPECT_NE(engine.status().message().find("swap space 64.0 MiB"), std::string::npos)
      << engine.status();
}

}  // namespace
}  // namespace octogate::workers

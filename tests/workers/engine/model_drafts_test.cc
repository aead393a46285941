// Drafts of a small model change no answer: token ids, texts, log-probabilities and reasons to end
// are those of plain decoding, bit for bit, whatever shares the batch, ends early or loses its
// pages, whether the draft model is right or wrong, and whether it drafts on while the model
// verifies.
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/random_requests.h"
#include "tests/workers/engine/speculating_engines.h"
#include "workers/engine/engine.h"
#include "workers/speculation/model_drafter.h"

namespace octogate::workers {
namespace {

struct Models {
  std::string target;
  std::string draft;  // with as many tokens
};

class ModelDraftsTest : public ::testing::TestWithParam<Models>, protected RandomRequests {
 protected:
  // `draft_pages`: of the draft model's cache.
  std::unique_ptr<Engine> MakeDrafted(EngineOptions options, int draft_pages) {
    const auto target = FixturePath(GetParam().target);
    auto backend = kernels::MakeCpuBackend({.threads = 1 + Below(2)});
    const auto checkpoint = OpenCheckpoint(target);
    EXPECT_NE(checkpoint, nullptr);
    if (checkpoint == nullptr) return nullptr;
    ModelDrafterOptions drafting{.vocab_size = checkpoint->config().vocab_size};
    drafting.passes = 1 + Below(4);
    drafting.rows = 1 + Below(8);
    drafting.children = 1 + Below(5);
    drafting.prompt_rows = 16 + Below(49);
    drafting.pages = draft_pages;
    drafting.page_size = 8;
    auto draft = OpenCheckpoint(FixturePath(GetParam().draft));
    if (Chance(50)) drafting.ahead_passes = 1 + Below(8);
    auto drafter =
        drafting.ahead_passes == 0
            ? ModelDrafter::Create(std::move(draft), backend.get(), drafting)
            : ModelDrafter::Create(std::move(draft),
                                   kernels::MakeCpuBackend({.threads = 1 + Below(2)}), drafting);
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    if (!drafter.ok()) return nullptr;
    Drafters drafters;
    drafters.push_back(*std::move(drafter));
    auto engine = Engine::Create(checkpoint, OpenTokenizer(target), std::move(backend), options,
                                 std::move(drafters));
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
  bool drafts_for_itself() const { return GetParam().target == GetParam().draft; }

  // Greedy and sampled ones with penalties, which all take some room.
  std::vector<GenerateRequest> LongRequests(int count, int tokens, int vocab_size) {
    std::vector<GenerateRequest> requests(static_cast<size_t>(count));
    for (size_t i = 0; i < requests.size(); ++i) {
      GenerateRequest& request = requests[i];
      request.prompt = RandomIds(random_, 4 + Below(12), vocab_size);
      request.max_tokens = tokens;
      request.ignore_eos = true;
      request.sampling.logprobs = 2;
      if (i % 2 == 0) continue;
      request.sampling.temperature = 0.3f;
      request.sampling.seed = random_();
      request.sampling.frequency_penalty = 0.3f;
    }
    return requests;
  }
};

TEST_P(ModelDraftsTest, AnyBatchHasTheAnswersOfPlainDecoding) {
  constexpr int kContext = 120;
  EngineOptions options{.max_sequences = 1, .page_size = 1 + Below(9), .max_context = kContext};
  const auto plain = MakeEngine(FixturePath(GetParam().target), options);
  ASSERT_NE(plain, nullptr);
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 12; ++i) requests.push_back(RandomRequest(plain->config(), kContext));
  std::vector<Outcome> expected = RunAll(*plain, requests, false);
  AddStops(expected, requests);
  expected = RunAll(*plain, requests, false);

  options.max_sequences = 2 + Below(7);
  options.max_rows_per_step = options.max_sequences + 40 + Below(60);
  options.kv_tokens = kContext + options.page_size + (Chance(50) ? Below(200) : 1000);
  options.swap_bytes = Chance(50) ? uint64_t{16} << 20 : 0;
  options.max_draft_nodes = 1 + Below(60);
  options.verify_all_drafts = true;
  // For all sequences, or for few of them.
  const auto engine = MakeDrafted(options, Chance(50) ? 1000 : 24);
  ASSERT_NE(engine, nullptr);
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().pages_used, 0);
  EXPECT_EQ(engine->stats().malformed_drafts, 0u);
  EXPECT_GT(engine->stats().speculation->tokens.drafted, 0);
}

TEST_P(ModelDraftsTest, WhatIsPreemptedGoesOnAsInPlainDecoding) {
  const auto plain = MakeEngine(FixturePath(GetParam().target), {.max_sequences = 1});
  ASSERT_NE(plain, nullptr);
  const auto requests = LongRequests(6, 50, plain->config().vocab_size);
  const auto expected = RunAll(*plain, requests, false);
  for (const uint64_t swap_bytes : {uint64_t{0}, uint64_t{16} << 20}) {
    SCOPED_TRACE(swap_bytes);
    EngineOptions options{.max_sequences = 6,
                          .page_size = 4,
                          .kv_tokens = 110,
                          .share_prefixes = false,
                          .swap_bytes = swap_bytes,
                          .max_draft_nodes = 20,
                          .verify_all_drafts = true};
    const auto engine = MakeDrafted(options, 1000);
    ASSERT_NE(engine, nullptr);
    const std::vector<Outcome> outcomes = RunAll(*engine, requests, true);
    ExpectSameAnswers(outcomes, expected);
    int preempted = 0;
    for (const Outcome& outcome : outcomes) {
      const int64_t drafts = drafts_for_itself() ? outcome.accepted : outcome.drafted;
      preempted += outcome.preemptions > 0 && drafts > 0 ? 1 : 0;
    }
    EXPECT_GT(preempted, 0);
    ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    EXPECT_EQ(engine->stats().pages_used, 0);
  }
}

TEST_P(ModelDraftsTest, WhatIsCancelledHasBeenRightAndLeavesItsPages) {
  const auto plain = MakeEngine(FixturePath(GetParam().target), {.max_sequences = 1});
  ASSERT_NE(plain, nullptr);
  const auto requests = LongRequests(8, 40, plain->config().vocab_size);
  const auto expected = RunAll(*plain, requests, false);
  // Two sequences and their trees fill the draft model's cache.
  const auto engine =
      MakeDrafted({.max_sequences = 2, .max_draft_nodes = 20, .verify_all_drafts = true},
                  2 * (16 + 40 + 24 + 8) / 8);
  ASSERT_NE(engine, nullptr);
  for (int round = 0; round < 3; ++round) {
    std::vector<size_t> enough;
    for (size_t i = 0; i < requests.size(); ++i) enough.push_back(static_cast<size_t>(Below(30)));
    const std::vector<Outcome> outcomes = RunAll(*engine, requests, true, enough);
    ExpectBeginnings(outcomes, expected);
    for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.finish, FinishReason::kCancelled);
  }
  // There is room for all that come after them.
  for (const Outcome& outcome : RunAll(*engine, requests, false)) EXPECT_GT(outcome.drafted, 0);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().pages_used, 0);
}

INSTANTIATE_TEST_SUITE_P(Pairs, ModelDraftsTest,
                         ::testing::Values(Models{"llama", "llama"}, Models{"llama", "mistral"},
                                           Models{"llama3", "llama3"}, Models{"qwen3", "qwen2"},
                                           Models{"qwen3", "qwen3"},
                                           Models{"phi3_longrope", "phi3"}),
                         [](const auto& info) {
                           return info.param.target + "_by_" + info.param.draft;
                         });

}  // namespace
}  // namespace octogate::workers

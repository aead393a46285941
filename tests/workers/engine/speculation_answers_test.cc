// Speculation changes no answer: token ids, texts, log-probabilities and reasons to end are those
// of plain decoding, bit for bit, whatever drafters propose.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/random_requests.h"
#include "tests/workers/engine/speculating_engines.h"
#include "workers/engine/engine.h"
#include "workers/model/rope.h"
#include "workers/speculation/drafter_factory.h"

namespace octogate::workers {
namespace {

std::vector<std::string> Fixtures() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath(""))) {
    if (std::filesystem::exists(entry.path() / "expected.json")) {
      names.push_back(entry.path().filename());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

class SpeculationTest : public ::testing::TestWithParam<std::string>, protected RandomRequests {};

TEST_P(SpeculationTest, AnOracleSavesStepsAndChangesNothing) {
  const auto plain = MakeEngine(FixturePath(GetParam()), {.max_sequences = 1});
  ASSERT_NE(plain, nullptr);
  GenerateRequest request;
  request.prompt = RandomIds(random_, 5, plain->config().vocab_size);
  request.max_tokens = 60;
  request.ignore_eos = true;
  request.sampling.logprobs = 2;
  const auto expected = RunAll(*plain, {request}, false);
  Drafters drafters;
  drafters.push_back(std::make_unique<TestDrafter>(
      "oracle", Drafting::kOracle, plain->config().vocab_size, 1, Known({request}, expected)));
  const auto engine = MakeSpeculator(
      GetParam(), {.max_sequences = 1, .max_draft_nodes = 9, .verify_all_drafts = true},
      std::move(drafters));
  ASSERT_NE(engine, nullptr);
  ExpectSameAnswers(RunAll(*engine, {request}, false), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  const SpeculationUsage usage = *engine->stats().speculation;
  // The first token is the prompt's; then nine drafts and one more at a time.
  EXPECT_EQ(usage.steps, 1 + 6);
  EXPECT_EQ(usage.tokens.accepted, 60 - usage.steps);
  EXPECT_EQ(usage.tokens.drafted, usage.tokens.accepted);
  ASSERT_EQ(usage.depths.size(), 9u);
  EXPECT_EQ(usage.depths[0].accepted, 6);
  EXPECT_GT(usage.verify, absl::ZeroDuration());
}

// Everything at once.
TEST_P(SpeculationTest, AnyDraftsOfAnyBatchGiveTheAnswersOfPlainDecoding) {
  const auto checkpoint = OpenCheckpoint(FixturePath(GetParam()));
  ASSERT_NE(checkpoint, nullptr);
  const ModelConfig& config = checkpoint->config();
  constexpr kernels::DType kTypes[] = {kernels::DType::kF32, kernels::DType::kBF16,
                                       kernels::DType::kF8E4M3, kernels::DType::kI8};
  for (int trial = 0; trial < 3; ++trial) {
    const bool is_long_rope = GetParam() == "phi3_longrope";
    const int context = is_long_rope && trial < 2 ? 256 + 1 + Below(60) : 40 + Below(120);
    EngineOptions options;
    options.max_context = context;
    options.kv_dtype = kTypes[Below(4)];
    options.page_size = 1 + Below(9);
    options.max_sequences = 1;
    const auto plain = MakeEngine(FixturePath(GetParam()), options);
    ASSERT_NE(plain, nullptr);
    std::vector<GenerateRequest> requests;
    for (int i = 0; i < 10; ++i) requests.push_back(RandomRequest(config, context));
    std::vector<Outcome> expected = RunAll(*plain, requests, false);
    AddStops(expected, requests);
    expected = RunAll(*plain, requests, false);

    options.max_sequences = 1 + Below(8);
    options.max_rows_per_step = options.max_sequences + Below(60);
    options.share_prefixes = Chance(50);
    // From a cache that hardly holds one sequence to one that holds many.
    options.kv_tokens = context + options.page_size + (Chance(70) ? Below(100) : 1000);
    options.swap_bytes = Chance(50) ? uint64_t{16} << 20 : 0;
    options.max_draft_nodes = Chance(50) ? kMaxDraftNodes : 1 + Below(30);
    options.verify_all_drafts = Chance(70);
    if (trial == 0) {  // certainly drafts
      options.max_rows_per_step = options.max_sequences + 40;
      options.max_draft_nodes = kMaxDraftNodes;
      options.verify_all_drafts = true;
    }
    if (Chance(30)) options.step_cost_time = absl::Milliseconds(20);
    SCOPED_TRACE(::testing::Message()
                 << "trial " << trial << ": context " << context << ", KV type "
                 << kernels::Name(*options.kv_dtype) << ", pages of " << options.page_size << " of "
                 << options.kv_tokens << ", " << options.max_sequences << " sequences, "
                 << options.max_rows_per_step << " rows, " << options.max_draft_nodes << " nodes");
    const auto known = Known(requests, expected);
    Drafters drafters;
    drafters.push_back(std::make_unique<TestDrafter>("mixed", Drafting::kMixed, config.vocab_size,
                                                     random_(), known));
    if (Chance(60)) {
      drafters.push_back(std::make_unique<TestDrafter>("another", static_cast<Drafting>(Below(6)),
                                                       config.vocab_size, random_(), known));
    }
    const auto engine = MakeSpeculator(GetParam(), options, std::move(drafters), 1 + Below(2));
    ASSERT_NE(engine, nullptr);
    ExpectSameAnswers(RunAll(*engine, requests, true), expected);
    // What the prefix cache has kept is right, too.
    ExpectSameAnswers(RunAll(*engine, requests, false), expected);
    ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    EXPECT_EQ(engine->stats().pages_used, 0);
    EXPECT_EQ(engine->stats().swap_bytes_used, 0u);
    if (trial == 0) {
      EXPECT_GT(engine->stats().speculation->tokens.accepted, 0);
    }
  }
}

// Those that people use, together, with every tree that recycling has, on answers that they learn
// from and answers that they know.
TEST_P(SpeculationTest, TheDraftersThatThereAreChangeNothing) {
  EngineOptions options{.max_sequences = 1, .max_context = 120};
  const auto plain = MakeEngine(FixturePath(GetParam()), options);
  ASSERT_NE(plain, nullptr);
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 7; ++i) requests.push_back(RandomRequest(plain->config(), 120));
  requests.push_back(RequestFor(RandomIds(random_, 5, plain->config().vocab_size), 60, "", 2));
  const auto expected = RunAll(*plain, requests, false);
  const auto checkpoint = OpenCheckpoint(FixturePath(GetParam()));
  ASSERT_NE(checkpoint, nullptr);
  SpeculationOptions speculation;
  for (const std::string_view name : DrafterNames()) {
    if (name != "retrieval" && name != "model" && name != "hidden")
      speculation.drafters.emplace_back(name);
  }
  options.max_sequences = 4;
  options.kv_tokens = 300;
  for (const std::string_view tree : RecyclingTreeNames()) {
    for (const bool forced : {true, false}) {
      SCOPED_TRACE(::testing::Message() << tree << (forced ? ", all verified" : ""));
      speculation.recycling_tree = tree;
      auto drafters = MakeDrafters(speculation, {.checkpoint = checkpoint.get()});
      ASSERT_TRUE(drafters.ok()) << drafters.status();
      options.max_draft_nodes = forced ? 8 + Below(57) : 1 + Below(64);
      options.verify_all_drafts = forced;
      options.share_drafts = Chance(50);
      const auto engine = MakeSpeculator(GetParam(), options, *std::move(drafters), 2);
      ASSERT_NE(engine, nullptr);
      ExpectSameAnswers(RunAll(*engine, requests, true), expected);
      ExpectSameAnswers(RunAll(*engine, requests, true), expected);
      ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
      EXPECT_EQ(engine->stats().malformed_drafts, 0u);
      if (!forced) continue;
      const SpeculationUsage usage = *engine->stats().speculation;
      for (const DrafterUsage& drafter : usage.drafters) {
        EXPECT_GT(drafter.tokens.drafted, 0) << drafter.drafter;
        EXPECT_GT(drafter.tokens.accepted, 0) << drafter.drafter;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, SpeculationTest, ::testing::ValuesIn(Fixtures()),
                         [](const auto& info) { return info.param; });

TEST_F(SpeculatingEngineTest, WhatIsCancelledHasBeenRightUntilThen) {
  auto requests = GreedyRequests(6, 200);
  for (GenerateRequest& request : requests) request.sampling.logprobs = 1;
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kMixed, Known(requests, expected)),
                                {.max_sequences = 4, .kv_tokens = 400});
  std::vector<size_t> enough;
  for (size_t i = 0; i < requests.size(); ++i) enough.push_back(static_cast<size_t>(Below(100)));
  const std::vector<Outcome> outcomes = RunAll(*engine, requests, true, enough);
  ExpectBeginnings(outcomes, expected);
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.finish, FinishReason::kCancelled);
  EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().pages_used, 0);
}

// Pages are taken away between steps that verify drafts, and computed again or copied back.
TEST_F(SpeculatingEngineTest, WhatIsPreemptedGoesOnAsInPlainDecoding) {
  auto requests = GreedyRequests(8, 60);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].sampling.logprobs = 1;
    if (i % 2 == 0) continue;
    requests[i].sampling.temperature = 1;
    requests[i].sampling.seed = random_();
    requests[i].sampling.repetition_penalty = 1.2f;
  }
  const auto expected = RunAll(*plain_, requests, false);
  for (const uint64_t swap_bytes : {uint64_t{0}, uint64_t{16} << 20}) {
    SCOPED_TRACE(swap_bytes);
    const auto engine =
        Speculate(Make(Drafting::kFull, Known(requests, expected)), {.max_sequences = 8,
                                                                     .page_size = 4,
                                                                     .kv_tokens = 140,
                                                                     .share_prefixes = false,
                                                                     .swap_bytes = swap_bytes});
    const std::vector<Outcome> outcomes = RunAll(*engine, requests, true);
    ExpectSameAnswers(outcomes, expected);
    int preempted = 0;  // and had drafts that were right
    for (const Outcome& outcome : outcomes) {
      preempted += outcome.preemptions > 0 && outcome.accepted > 0 ? 1 : 0;
    }
    EXPECT_GT(preempted, 0);
    ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    const EngineStats stats = engine->stats();
    EXPECT_GT(swap_bytes > 0 ? stats.restored_tokens : stats.recomputed_tokens, 0u);
    EXPECT_EQ(stats.pages_used, 0);
  }
}

// A first step for the prompt, and one whose tree holds all that plain decoding would go on with,
// and what would follow if nothing ended it.
TEST_F(SpeculatingEngineTest, WhatEndsAnAnswerEndsItWithinATree) {
  constexpr int kContext = 40;
  const auto plain =
      MakeEngine(FixturePath("llama"), {.max_sequences = 1, .max_context = kContext});
  const auto longer =
      MakeEngine(FixturePath("llama"), {.max_sequences = 1, .max_context = kContext + 16});
  ASSERT_NE(plain, nullptr);
  ASSERT_NE(longer, nullptr);
  GenerateRequest endless;
  std::vector<Outcome> beyond;
  std::string stop;
  // Until the answer has a token, and four bytes of text, in its middle that are nowhere before.
  for (int attempt = 0; attempt < 100 && stop.empty(); ++attempt) {
    endless.prompt = RandomIds(random_, kContext - 16, config().vocab_size);
    endless.max_tokens = 1000;
    endless.ignore_eos = true;
    endless.sampling.temperature = 1;  // hardly ever the same token again and again
    endless.sampling.seed = random_();
    endless.sampling.logprobs = 1;
    beyond = RunAll(*longer, {endless}, false);
    const std::string& text = beyond[0].text;
    const auto starts = [&](size_t place) { return (text[place] & 0xc0) != 0x80; };
    size_t begin = text.size() / 4;
    while (begin > 0 && !starts(begin)) --begin;
    size_t end = std::min(begin + 4, text.size());
    while (end < text.size() && !starts(end)) ++end;
    const std::string found = text.substr(begin, end - begin);
    const auto ninth = beyond[0].ids.begin() + 8;
    const bool is_new = std::find(beyond[0].ids.begin(), ninth, *ninth) == ninth;
    if (is_new && found.size() >= 4 && text.find(found) == begin) stop = found;
  }
  ASSERT_FALSE(stop.empty());
  ASSERT_EQ(beyond[0].ids.size(), 32u);

  GenerateRequest at_token = endless;
  at_token.stop_token_ids = {beyond[0].ids[8]};
  GenerateRequest at_length = endless;
  at_length.max_tokens = 9;
  GenerateRequest at_text = endless;
  at_text.stop = {stop};
  GenerateRequest at_error = endless;
  at_error.ignore_eos = false;
  at_error.constraint =
      std::make_shared<PickyConstraint>(config().vocab_size, config().eos_token_ids, 100, 9);

  const std::vector<std::pair<GenerateRequest, FinishReason>> cases = {
      {endless, FinishReason::kLength},  // the end of the context
      {at_token, FinishReason::kStop},      {at_length, FinishReason::kLength},
      {at_text, FinishReason::kStopString}, {at_error, FinishReason::kError},
  };
  for (const auto& [request, finish] : cases) {
    SCOPED_TRACE(FinishReasonName(finish));
    const std::vector<Outcome> expected = RunAll(*plain, {request}, false);
    ASSERT_EQ(expected[0].finish, finish);
    // A constraint makes it another answer, whose end nothing follows.
    auto known = Known({request}, finish == FinishReason::kError ? expected : beyond);
    const auto engine =
        Speculate(Make(Drafting::kOracle, known), {.max_sequences = 1, .max_context = kContext});
    const std::vector<Outcome> outcomes = RunAll(*engine, {request}, false);
    ExpectSameAnswers(outcomes, expected);
    ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    EXPECT_EQ(engine->stats().pages_used, 0);
    ASSERT_GE(expected[0].ids.size(), 3u);
    EXPECT_EQ(engine->stats().speculation->steps, 2);
    // But the first, which is the prompt's, and the last, where it was not drafted.
    EXPECT_GE(outcomes[0].accepted, static_cast<int64_t>(expected[0].ids.size()) - 2);
  }
}

TEST_F(SpeculatingEngineTest, AnAttemptGoesOnWhereAnotherOneWasLost) {
  auto requests = GreedyRequests(1, 40);
  requests[0].sampling.temperature = 1;
  requests[0].sampling.seed = random_();
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kFull, Known(requests, expected)));
  const auto middle = expected[0].ids.begin() + 1 + Below(38);
  requests[0].generated_prefix.assign(expected[0].ids.begin(), middle);
  const auto rest = RunAll(*engine, requests, false);
  EXPECT_EQ(rest[0].ids, std::vector<int32_t>(middle, expected[0].ids.end()));
}

}  // namespace
}  // namespace octogate::workers

// Speculation changes no answer: token ids, texts, log-probabilities and reasons to end are those
// of plain decoding, bit for bit, whatever drafters propose.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/speculating_engines.h"
#include "workers/engine/engine.h"
#include "workers/model/rope.h"
#include "workers/speculation/drafter_factory.h"

namespace octogate::workers {
namespace {

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

class SpeculationTest : public ::testing::TestWithParam<std::string>, protected RandomChoices {
 protected:
  GenerateRequest RandomRequest(const ModelConfig& config, int context);
  // Lets some of the requests stop within what they were answered with.
  void AddStops(const std::vector<Outcome>& outcomes, std::vector<GenerateRequest>& requests);
};

GenerateRequest SpeculationTest::RandomRequest(const ModelConfig& config, int context) {
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

void SpeculationTest::AddStops(const std::vector<Outcome>& outcomes,
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

// Those that people use, together, on answers that they learn from and answers that they know.
TEST_P(SpeculationTest, TheDraftersThatThereAreChangeNothing) {
  EngineOptions options{.max_sequences = 1, .max_context = 120};
  const auto plain = MakeEngine(FixturePath(GetParam()), options);
  ASSERT_NE(plain, nullptr);
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 8; ++i) requests.push_back(RandomRequest(plain->config(), 120));
  const auto expected = RunAll(*plain, requests, false);
  SpeculationOptions speculation;
  for (const std::string_view name : DrafterNames()) {
    if (name != "retrieval" && name != "model") speculation.drafters.emplace_back(name);
  }
  const auto checkpoint = OpenCheckpoint(FixturePath(GetParam()));
  ASSERT_NE(checkpoint, nullptr);
  auto drafters = MakeDrafters(speculation, {.checkpoint = checkpoint.get()});
  ASSERT_TRUE(drafters.ok()) << drafters.status();
  options.max_sequences = 4;
  options.kv_tokens = 300;
  options.max_draft_nodes = 1 + Below(64);
  options.verify_all_drafts = Chance(50);
  const auto engine = MakeSpeculator(GetParam(), options, *std::move(drafters), 2);
  ASSERT_NE(engine, nullptr);
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().malformed_drafts, 0u);
}

INSTANTIATE_TEST_SUITE_P(Fixtures, SpeculationTest, ::testing::ValuesIn(Fixtures()),
                         [](const auto& info) { return info.param; });

TEST_F(SpeculatingEngineTest, WhatIsCancelledHasBeenRightUntilThen) {
  auto requests = GreedyRequests(6, 200);
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kMixed, Known(requests, expected)),
                                {.max_sequences = 4, .kv_tokens = 400});
  absl::Mutex mutex;
  size_t ended = 0;
  std::vector<std::vector<int32_t>> ids(requests.size());
  std::vector<std::shared_ptr<Generation>> generations;
  for (size_t i = 0; i < requests.size(); ++i) {
    generations.push_back(std::make_shared<Generation>());
    const size_t enough = static_cast<size_t>(Below(100));
    ASSERT_TRUE(engine
                    ->Submit(
                        requests[i],
                        [&, i, enough, handle = generations[i]](const GenerateEvent& event) {
                          absl::MutexLock lock(&mutex);
                          ids[i].insert(ids[i].end(), event.ids.begin(), event.ids.end());
                          if (ids[i].size() >= enough) handle->Cancel();
                          if (event.finish != FinishReason::kNone) ++ended;
                        },
                        generations[i])
                    .ok());
  }
  {
    absl::MutexLock lock(&mutex);
    const auto all_ended = [&] { return ended == requests.size(); };
    ASSERT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&all_ended), kLong));
    for (size_t i = 0; i < requests.size(); ++i) {
      ASSERT_LE(ids[i].size(), expected[i].ids.size());
      EXPECT_TRUE(std::equal(ids[i].begin(), ids[i].end(), expected[i].ids.begin()));
    }
  }
  EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_EQ(engine->stats().pages_used, 0);
}

// A first step for the prompt, and one whose tree holds all that plain decoding would go on with.
TEST_F(SpeculatingEngineTest, WhatEndsAnAnswerEndsItWithinATree) {
  const int context = 40;
  const auto plain = MakeEngine(FixturePath("llama"), {.max_sequences = 1, .max_context = context});
  ASSERT_NE(plain, nullptr);
  GenerateRequest endless;
  endless.prompt = RandomIds(random_, context - 16, config().vocab_size);
  endless.max_tokens = 1000;
  endless.ignore_eos = true;
  endless.sampling.temperature = 1;  // hardly ever the same token again and again
  endless.sampling.seed = random_();
  endless.sampling.logprobs = 1;
  const std::vector<Outcome> whole = RunAll(*plain, {endless}, false);
  ASSERT_EQ(whole[0].ids.size(), 16u);

  GenerateRequest at_token = endless;
  at_token.stop_token_ids = {whole[0].ids[8]};
  GenerateRequest at_length = endless;
  at_length.max_tokens = 9;
  GenerateRequest at_text = endless;
  const auto starts = [&](size_t place) { return (whole[0].text[place] & 0xc0) != 0x80; };
  size_t middle = whole[0].text.size() / 2;
  while (!starts(middle)) --middle;
  size_t behind = middle + 1;
  while (behind < whole[0].text.size() && !starts(behind)) ++behind;
  at_text.stop = {whole[0].text.substr(middle, behind - middle)};
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
    const auto engine = Speculate(Make(Drafting::kOracle, Known({request}, expected)),
                                  {.max_sequences = 1, .max_context = context});
    ExpectSameAnswers(RunAll(*engine, {request}, false), expected);
    ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    EXPECT_LE(engine->stats().speculation->steps, 2);
    EXPECT_EQ(engine->stats().pages_used, 0);
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

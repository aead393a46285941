// Speculation changes no answer: token ids, texts, log-probabilities and reasons to end are those
// of plain decoding, bit for bit, whatever drafters propose.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_drafters.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/engine.h"
#include "workers/engine/speculator.h"
#include "workers/speculation/drafter_factory.h"

namespace octogate::workers {
namespace {

using Drafters = std::vector<std::unique_ptr<Drafter>>;

std::unique_ptr<Engine> MakeSpeculator(const std::string& fixture, const EngineOptions& options,
                                       Drafters drafters, int threads = 1) {
  const auto folder = FixturePath(fixture);
  auto engine =
      Engine::Create(OpenCheckpoint(folder), OpenTokenizer(folder),
                     kernels::MakeCpuBackend({.threads = threads}), options, std::move(drafters));
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

std::shared_ptr<const KnownSequences> Known(const std::vector<GenerateRequest>& requests,
                                            const std::vector<Outcome>& outcomes) {
  auto known = std::make_shared<KnownSequences>();
  for (size_t i = 0; i < requests.size(); ++i) {
    known->push_back(requests[i].prompt);
    known->back().insert(known->back().end(), outcomes[i].ids.begin(), outcomes[i].ids.end());
  }
  return known;
}

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

class SpeculationTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { random_.seed(seed_); }
  int Below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }
  bool Chance(int percent) { return Below(100) < percent; }

  GenerateRequest RandomRequest(const ModelConfig& config, int context);
  // Lets some of the requests stop within what they were answered with.
  void AddStops(const std::vector<Outcome>& outcomes, std::vector<GenerateRequest>& requests);

  const uint32_t seed_ = FreshSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937 random_;
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
    options.leave_logits = Chance(50);
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
                 << options.max_rows_per_step << " rows, " << options.max_draft_nodes << " nodes"
                 << (options.leave_logits ? ", logits stay" : ""));
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

// What the request's first token is chosen from.
std::vector<float> HiddenState(Engine& engine, const GenerateRequest& request) {
  std::vector<float> hidden;
  absl::Notification ended;
  const auto submitted = engine.Submit(request, [&](const GenerateEvent& event) {
    if (!event.hidden_state.empty()) hidden = event.hidden_state;
    if (event.finish != FinishReason::kNone) ended.Notify();
  });
  EXPECT_TRUE(submitted.ok()) << submitted.status();
  if (submitted.ok()) {
    EXPECT_TRUE(ended.WaitForNotificationWithTimeout(kLong));
  }
  return hidden;
}

class SpeculatingEngineTest : public SpeculationTest {
 protected:
  void SetUp() override {
    SpeculationTest::SetUp();
    plain_ = MakeEngine(FixturePath("llama"), {.max_sequences = 1});
    ASSERT_NE(plain_, nullptr);
  }

  const ModelConfig& config() const { return plain_->config(); }
  std::unique_ptr<Drafter> Make(Drafting drafting,
                                std::shared_ptr<const KnownSequences> known = nullptr,
                                std::shared_ptr<TestDrafter::Record> record = nullptr,
                                const std::string& name = "test") {
    if (known == nullptr) known = std::make_shared<KnownSequences>();
    return std::make_unique<TestDrafter>(name, drafting, config().vocab_size, random_(),
                                         std::move(known), std::move(record));
  }
  std::unique_ptr<Engine> Speculate(std::unique_ptr<Drafter> drafter, EngineOptions options = {}) {
    options.max_draft_nodes = 20;
    options.verify_all_drafts = true;
    Drafters drafters;
    drafters.push_back(std::move(drafter));
    return MakeSpeculator("llama", options, std::move(drafters));
  }
  std::vector<GenerateRequest> GreedyRequests(int count, int max_tokens) {
    std::vector<GenerateRequest> requests(static_cast<size_t>(count));
    for (GenerateRequest& request : requests) {
      request.prompt = RandomIds(random_, 1 + Below(20), config().vocab_size);
      request.max_tokens = max_tokens;
      request.ignore_eos = true;
    }
    return requests;
  }

  std::unique_ptr<Engine> plain_;
};

TEST_F(SpeculatingEngineTest, DraftersSeeTheModelsCandidatesOfEveryRow) {
  const auto requests = GreedyRequests(4, 30);
  const auto expected = RunAll(*plain_, requests, false);
  const auto record = std::make_shared<TestDrafter::Record>();
  auto engine = Speculate(Make(Drafting::kFull, Known(requests, expected), record));
  ExpectSameAnswers(RunAll(*engine, requests, false), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  const SpeculationUsage usage = *engine->stats().speculation;
  engine.reset();
  EXPECT_EQ(record->rows, usage.steps + usage.tokens.drafted);
  EXPECT_EQ(record->kept_rows, usage.steps + usage.tokens.accepted);
  // Greedy answers are the best candidates, one after the other.
  EXPECT_EQ(record->first_candidates, 4 * 30);
}

// Drafts what it knows, and writes down the hidden states of the sequences' rows.
class FeatureDrafter : public Drafter {
 public:
  // By the sequence up to the row's token.
  using States = std::map<std::vector<int32_t>, std::vector<float>>;

  FeatureDrafter(std::unique_ptr<Drafter> known, States* states)
      : known_(std::move(known)), states_(states) {}

  std::string_view name() const override { return "feature"; }
  bool wants_hidden() const override { return true; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view scope) override {
    return std::make_unique<Sequence>(known_->Begin(scope), states_);
  }
  uint64_t bytes() const override { return 0; }

 private:
  class Sequence : public SequenceDrafter {
   public:
    Sequence(std::unique_ptr<SequenceDrafter> known, States* states)
        : known_(std::move(known)), states_(states) {}
    void Append(std::span<const int32_t> tokens) override {
      tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
      known_->Append(tokens);
    }
    void Observe(std::span<const ComputedRow> rows) override {
      std::vector<int32_t> path = tokens_;
      for (const ComputedRow& row : rows) {
        EXPECT_EQ(row.hidden.empty(), !row.kept);
        EXPECT_TRUE(row.candidates.empty()) << "nobody asked for them";
        if (!row.kept) continue;
        if (&row != rows.data()) path.push_back(row.token);
        states_->emplace(path, std::vector<float>(row.hidden.begin(), row.hidden.end()));
      }
    }
    void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
      known_->Propose(max_nodes, max_depth, tree);
    }

   private:
    const std::unique_ptr<SequenceDrafter> known_;
    States* const states_;
    std::vector<int32_t> tokens_;
  };

  const std::unique_ptr<Drafter> known_;
  States* const states_;
};

TEST_F(SpeculatingEngineTest, DraftersMayHaveTheHiddenStateOfEveryKeptRow) {
  const auto requests = GreedyRequests(3, 12);
  const auto expected = RunAll(*plain_, requests, false);
  FeatureDrafter::States states;
  auto engine = Speculate(
      std::make_unique<FeatureDrafter>(Make(Drafting::kFull, Known(requests, expected)), &states),
      {.leave_logits = Chance(50)});
  ExpectSameAnswers(RunAll(*engine, requests, false), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_GT(engine->stats().speculation->tokens.accepted, 0);
  engine.reset();
  for (size_t i = 0; i < requests.size(); ++i) {
    GenerateRequest up_to = requests[i];
    up_to.max_tokens = 1;
    up_to.hidden_state = true;
    for (const int32_t id : expected[i].ids) {
      SCOPED_TRACE(up_to.prompt.size());
      const auto found = states.find(up_to.prompt);
      ASSERT_NE(found, states.end());
      EXPECT_EQ(found->second, HiddenState(*plain_, up_to)) << "the same bits";
      up_to.prompt.push_back(id);
    }
  }
}

TEST_F(SpeculatingEngineTest, WrongDraftsAreCountedAndNeverAccepted) {
  const auto requests = GreedyRequests(3, 20);
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kWrong, Known(requests, expected)));
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  const SpeculationUsage usage = *engine->stats().speculation;
  EXPECT_GT(usage.tokens.drafted, 0);
  EXPECT_EQ(usage.tokens.accepted, 0);
  ASSERT_EQ(usage.drafters.size(), 1u);
  EXPECT_EQ(usage.drafters[0].drafter, "test");
  EXPECT_EQ(usage.drafters[0].tokens.drafted, usage.tokens.drafted);
}

TEST_F(SpeculatingEngineTest, MalformedDraftsAreDroppedAndCounted) {
  const auto requests = GreedyRequests(3, 20);
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kMalformed));
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_GT(engine->stats().malformed_drafts, 0u);
  EXPECT_EQ(engine->stats().speculation->tokens.drafted, 0);
}

TEST_F(SpeculatingEngineTest, EveryAnswerTellsWhatSpeculationDidForIt) {
  const auto requests = GreedyRequests(1, 30);
  const auto expected = RunAll(*plain_, requests, false);
  const auto engine = Speculate(Make(Drafting::kOracle, Known(requests, expected)));
  absl::Mutex mutex;
  std::optional<SpeculationUsage> usage;
  size_t largest_event = 0;
  bool ended = false;
  ASSERT_TRUE(engine
                  ->Submit(requests[0],
                           [&](const GenerateEvent& event) {
                             absl::MutexLock lock(&mutex);
                             largest_event = std::max(largest_event, event.ids.size());
                             if (event.finish == FinishReason::kNone) {
                               EXPECT_FALSE(event.speculation);
                               return;
                             }
                             usage = event.speculation;
                             ended = true;
                           })
                  .ok());
  absl::MutexLock lock(&mutex);
  ASSERT_TRUE(mutex.AwaitWithTimeout(absl::Condition(&ended), kLong));
  ASSERT_TRUE(usage);
  EXPECT_EQ(largest_event, 21u) << "what a step accepts is one event";
  EXPECT_EQ(usage->steps + usage->tokens.accepted, 30);
  EXPECT_GT(usage->draft, absl::ZeroDuration());
  EXPECT_GT(usage->verify, absl::ZeroDuration());
  EXPECT_GT(usage->plain, absl::ZeroDuration()) << "of the prompt";
}

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

TEST_F(SpeculatingEngineTest, DraftersLearnFromEachTenantAlone) {
  auto requests = GreedyRequests(4, 2);
  requests[0].terms.tenant = "a";
  requests[1].terms.tenant = "b";
  requests[2].terms = {.tenant = "a", .cache_salt = "salt"};
  requests[3].terms.tenant = "a";
  const auto record = std::make_shared<TestDrafter::Record>();
  auto engine = Speculate(Make(Drafting::kEmpty, nullptr, record));
  RunAll(*engine, requests, false);
  engine.reset();
  const std::vector<std::string>& scopes = record->scopes;
  ASSERT_EQ(scopes.size(), 4u);
  EXPECT_NE(scopes[0], scopes[1]);
  EXPECT_NE(scopes[0], scopes[2]);
  EXPECT_EQ(scopes[0], scopes[3]);
}

TEST_F(SpeculatingEngineTest, DraftsThatNeverPayAreMadeRarely) {
  const auto requests = GreedyRequests(1, 300);
  const auto expected = RunAll(*plain_, requests, false);
  const auto record = std::make_shared<TestDrafter::Record>();
  Drafters drafters;
  drafters.push_back(Make(Drafting::kWrong, Known(requests, expected), record));
  auto engine =
      MakeSpeculator("llama", {.max_sequences = 1, .max_draft_nodes = 20}, std::move(drafters));
  ExpectSameAnswers(RunAll(*engine, requests, false), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_LT(engine->stats().speculation->tokens.drafted, 100) << "of 300 tokens";
}

// Long enough for requests to stop drafting, as does not pay with so small a model, and to begin
// again; whether they do is a matter of time, which nothing may depend on.
TEST_F(SpeculatingEngineTest, RequestsMayStopToDraftAndBeginAgain) {
  const auto requests = GreedyRequests(3, plain_->context());
  const auto expected = RunAll(*plain_, requests, false);
  const auto record = std::make_shared<TestDrafter::Record>();
  Drafters drafters;
  drafters.push_back(Make(Drafting::kMixed, Known(requests, expected), record));
  auto engine =
      MakeSpeculator("llama", {.max_sequences = 2, .max_draft_nodes = 20}, std::move(drafters));
  ASSERT_NE(engine, nullptr);
  for (int i = 0; i < 3; ++i) ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_GE(engine->stats().speculation->steps, 9);
  EXPECT_EQ(engine->stats().pages_used, 0);
  engine.reset();
  EXPECT_GE(record->scopes.size(), 1u) << "the first request drafts";
}

TEST_F(SpeculatingEngineTest, DraftersAndTheirOptionsAreChecked) {
  const auto create = [&](Drafters drafters, const EngineOptions& options) {
    return Engine::Create(OpenCheckpoint(FixturePath("llama")), nullptr, kernels::MakeCpuBackend(),
                          options, std::move(drafters))
        .status();
  };
  const auto some = [&](int count) {
    Drafters drafters;
    for (int i = 0; i < count; ++i) drafters.push_back(Make(Drafting::kEmpty));
    return drafters;
  };
  EXPECT_TRUE(create(some(kMaxDrafters), {.max_draft_nodes = 1}).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(create(some(kMaxDrafters + 1), {.max_draft_nodes = 1})));
  EXPECT_TRUE(absl::IsInvalidArgument(create(some(1), {.max_draft_nodes = 0})));
  EXPECT_TRUE(absl::IsInvalidArgument(create(some(1), {.max_draft_nodes = kMaxDraftNodes + 1})));
  EXPECT_TRUE(absl::IsInvalidArgument(create(some(1), {.max_draft_nodes = -1})));
  Drafters null;
  null.push_back(nullptr);
  EXPECT_TRUE(absl::IsInvalidArgument(create(std::move(null), {.max_draft_nodes = 1})));
}

TEST_F(SpeculatingEngineTest, TheLargestLogitsAreFoundInOrderOfRank) {
  for (int trial = 0; trial < 100; ++trial) {
    std::vector<float> logits(static_cast<size_t>(1 + Below(400)));
    // Few values, so that many are equal.
    for (float& logit : logits) logit = static_cast<float>(Below(40));
    std::vector<int32_t> order(logits.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    const int count = Below(12);
    order.resize(std::min(order.size(), static_cast<size_t>(count)));
    std::vector<int32_t> found;
    FindLargest(logits, count, found);
    EXPECT_EQ(found, order);
  }
  std::vector<int32_t> found;
  FindLargest(std::vector<float>{NAN, -INFINITY, 1, NAN}, 3, found);
  EXPECT_EQ(found, std::vector<int32_t>{2});
}

}  // namespace
}  // namespace octogate::workers

// Answers that keep to a grammar while drafts of them are verified: they are those of plain
// decoding, bit for bit, and no pass has a row for what the grammar does not allow.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/random_requests.h"
#include "tests/workers/engine/speculating_engines.h"
#include "workers/engine/engine.h"
#include "workers/engine/model_runner.h"
#include "workers/grammar/grammar_constraint.h"
#include "workers/grammar/sql_grammar.h"
#include "workers/speculation/drafter_factory.h"

namespace octogate::workers {
namespace {

using Compiled = std::shared_ptr<const CompiledGrammar>;

// What a constraint and its forks said of tokens.
struct Verdicts {
  std::atomic<int> accepted{0};
  std::atomic<int> refused{0};
  std::atomic<int> exhausted{0};  // of these, because of a limit
};

class WatchedConstraint : public TokenConstraint {
 public:
  WatchedConstraint(std::unique_ptr<TokenConstraint> constraint, std::shared_ptr<Verdicts> verdicts)
      : constraint_(std::move(constraint)), verdicts_(std::move(verdicts)) {}
  std::unique_ptr<TokenConstraint> Fork() const override {
    return std::make_unique<WatchedConstraint>(constraint_->Fork(), verdicts_);
  }
  size_t mask_words() const override { return constraint_->mask_words(); }
  absl::Status FillMask(std::span<uint64_t> words) const override {
    return constraint_->FillMask(words);
  }
  absl::Status Accept(int32_t id) override {
    absl::Status status = constraint_->Accept(id);
    ++(status.ok() ? verdicts_->accepted : verdicts_->refused);
    if (absl::IsResourceExhausted(status)) ++verdicts_->exhausted;
    return status;
  }

 private:
  const std::unique_ptr<TokenConstraint> constraint_;
  const std::shared_ptr<Verdicts> verdicts_;
};

class GrammarDraftsTest : public ::testing::Test, protected RandomChoices {
 protected:
  void SetUp() override {
    plain_ = MakeEngine(FixturePath("llama3"), {.max_sequences = 1});
    ASSERT_NE(plain_, nullptr);
    auto bytes = plain_->tokenizer()->TokenBytes();
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    auto trie =
        TokenTrie::Create({.bytes = *std::move(bytes), .end_ids = plain_->config().eos_token_ids});
    ASSERT_TRUE(trie.ok()) << trie.status();
    trie_ = std::make_shared<const TokenTrie>(*std::move(trie));
  }

  Compiled Compile(const absl::StatusOr<Grammar>& grammar, const CompileOptions& options = {}) {
    EXPECT_TRUE(grammar.ok()) << grammar.status();
    auto compiled = CompiledGrammar::Compile(*grammar, trie_, options);
    EXPECT_TRUE(compiled.ok()) << compiled.status();
    return compiled.ok() ? *std::move(compiled) : nullptr;
  }

  int vocab_size() const { return plain_->config().vocab_size; }

  GenerateRequest Request(const Compiled& grammar) {
    GenerateRequest request;
    request.prompt = RandomIds(random_, 1 + Below(10), vocab_size());
    request.max_tokens = 40;
    request.terms.tenant = Chance(50) ? "a" : "b";
    request.sampling.temperature = 1;
    request.sampling.seed = random_();
    request.sampling.logprobs = Below(3);
    if (Chance(30)) request.sampling.repetition_penalty = 1.2f;
    if (Chance(30)) request.sampling.frequency_penalty = 0.7f;
    if (Chance(30)) request.sampling.top_k = 1 + Below(9);
    request.constraint = std::make_shared<WatchedConstraint>(
        std::make_unique<GrammarConstraint>(GrammarMatcher(grammar)), verdicts_);
    return request;
  }

  std::unique_ptr<Engine> plain_;
  std::shared_ptr<const TokenTrie> trie_;
  const std::shared_ptr<Verdicts> verdicts_ = std::make_shared<Verdicts>();
};

// Drafts that know the answer, guess, and break the grammar, in a batch that has hardly any room.
TEST_F(GrammarDraftsTest, AnyDraftsGiveTheAnswersOfPlainDecoding) {
  const Compiled grammars[] = {
      Compile(JsonGrammar()),
      Compile(ParseGrammar("root ::= (\"[\" root \"]\" | [a-z]){20,}")),
      Compile(ParseGrammar("root ::= (\"ab\" | \"cd\" | [0-9] \" \"){3,60}")),
  };
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 15; ++i) requests.push_back(Request(grammars[i % 3]));
  const std::vector<Outcome> expected = RunAll(*plain_, requests, false);
  for (const uint64_t swap_bytes : {uint64_t{0}, uint64_t{64} << 20}) {
    SCOPED_TRACE(swap_bytes);
    Drafters drafters;
    const auto known = Known(requests, expected);
    for (const Drafting drafting : {Drafting::kFull, Drafting::kMixed}) {
      drafters.push_back(
          std::make_unique<TestDrafter>("test " + std::to_string(static_cast<int>(drafting)),
                                        drafting, vocab_size(), random_(), known));
    }
    const auto engine = MakeSpeculator("llama3",
                                       {.max_sequences = 8,
                                        .page_size = 5,
                                        .kv_tokens = 120,
                                        .share_prefixes = false,
                                        .swap_bytes = swap_bytes,
                                        .max_draft_nodes = 40,
                                        .verify_all_drafts = true},
                                       std::move(drafters));
    ASSERT_NE(engine, nullptr);
    const int refused = verdicts_->refused;
    const std::vector<Outcome> outcomes = RunAll(*engine, requests, true);
    ExpectSameAnswers(outcomes, expected);
    EXPECT_GT(verdicts_->refused, refused) << "of random drafts some break the grammar";
    int64_t accepted = 0;
    for (const Outcome& outcome : outcomes) accepted += outcome.accepted;
    EXPECT_GT(accepted, 0);
    ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    EXPECT_GT(engine->stats().preemptions, 0u);
    EXPECT_EQ(engine->stats().pages_used, 0);
  }
}

// Those that people use, the model drafting for itself among them, asked the same again and again.
TEST_F(GrammarDraftsTest, TheDraftersThatThereAreGiveTheAnswersOfPlainDecoding) {
  const Compiled json = Compile(JsonGrammar());
  const Compiled repeated = Compile(ParseGrammar("root ::= (\"abc\" | \"abd\" | \" \"){10,}"));
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 8; ++i) requests.push_back(Request(i % 2 == 0 ? json : repeated));
  const std::vector<Outcome> expected = RunAll(*plain_, requests, false);
  LoadOptions load;
  load.engine = {.max_sequences = 4, .kv_tokens = 400, .verify_all_drafts = true};
  load.speculation = SetUpSpeculation({.drafters = {"lookahead", "model", "recycling", "suffix"},
                                       .max_draft_nodes = 1 + Below(60),
                                       .draft_model = FixturePath("llama3")});
  const auto model = LoadModel(FixturePath("llama3"), load);
  ASSERT_TRUE(model.ok()) << model.status();
  Engine& engine = *(*model)->engine;
  for (int round = 0; round < 3; ++round) {
    ExpectSameAnswers(RunAll(engine, requests, true), expected);
  }
  ASSERT_TRUE(engine.Drain(absl::Now() + kLong).ok());
  EXPECT_GT(engine.stats().speculation->tokens.accepted, 0);
  EXPECT_EQ(engine.stats().malformed_drafts, 0u);
}

// Proposes some tokens, and below each of them others, and looks at which of them came to have
// rows.
class WideDrafter : public Drafter {
 public:
  struct Record {
    int64_t rows = 0;
    int64_t below = 0;  // of these, at the second depth
  };

  WideDrafter(Compiled grammar, int vocab_size, uint32_t seed, std::shared_ptr<Record> record)
      : grammar_(std::move(grammar)),
        vocab_size_(vocab_size),
        random_(seed),
        record_(std::move(record)) {}
  std::string_view name() const override { return "wide"; }
  int candidates() const override { return 1; }
  uint64_t bytes() const override { return 0; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view /*scope*/) override {
    return std::make_unique<Sequence>(this);
  }

 private:
  class Sequence : public SequenceDrafter {
   public:
    explicit Sequence(WideDrafter* drafter)
        : drafter_(*drafter), before_(drafter->grammar_), now_(drafter->grammar_) {}

    void Append(std::span<const int32_t> tokens) override {
      before_ = now_.Fork();
      if (is_begun_) {
        for (const int32_t token : tokens) EXPECT_TRUE(now_.AcceptToken(token).ok());
      }
      is_begun_ = true;
      last_ = last_now_;
      last_now_ = tokens.back();
    }
    // Before the answer there is nothing to judge rows by but the prompt's, which has none.
    void Observe(std::span<const ComputedRow> rows) override {
      for (const ComputedRow& row : rows.subspan(1)) {
        ++drafter_.record_->rows;
        const bool is_child = row.previous == last_ && Allowed({row.token});
        const bool is_below = !is_child && Allowed({row.previous, row.token});
        drafter_.record_->below += is_below ? 1 : 0;
        EXPECT_TRUE(is_child || is_below) << row.previous << " " << row.token;
      }
    }
    void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
      const auto any = [this] {
        return static_cast<int32_t>(drafter_.random_() %
                                    static_cast<uint32_t>(drafter_.vocab_size_));
      };
      for (int i = 0; i < max_nodes / 3; ++i) tree.Add(-1, any(), 0.5f, 1);
      const int wide = tree.size();
      for (int i = 0; max_depth > 1 && tree.size() < max_nodes && i < max_nodes; ++i) {
        tree.Add(i % wide, any(), 0.5f, 1);
      }
    }

   private:
    bool Allowed(std::initializer_list<int32_t> tokens) const {
      GrammarMatcher matcher = before_.Fork();
      return std::all_of(tokens.begin(), tokens.end(),
                         [&](int32_t token) { return matcher.AcceptToken(token).ok(); });
    }

    WideDrafter& drafter_;
    GrammarMatcher before_;  // the last step
    GrammarMatcher now_;
    bool is_begun_ = false;  // the prompt is there
    int32_t last_ = -1;      // token before the last step
    int32_t last_now_ = -1;
  };

  const Compiled grammar_;
  const int vocab_size_;
  std::mt19937 random_;
  const std::shared_ptr<Record> record_;
};

TEST_F(GrammarDraftsTest, NoRowIsForWhatTheGrammarForbids) {
  const Compiled grammar = Compile(ParseGrammar("root ::= ([a-z] [0-9 ] | [A-Z]+ \".\"){10,}"));
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 6; ++i) requests.push_back(Request(grammar));
  const std::vector<Outcome> expected = RunAll(*plain_, requests, false);
  const auto record = std::make_shared<WideDrafter::Record>();
  Drafters drafters;
  drafters.push_back(std::make_unique<WideDrafter>(grammar, vocab_size(), random_(), record));
  const auto engine = MakeSpeculator(
      "llama3", {.max_sequences = 3, .max_draft_nodes = kMaxDraftNodes, .verify_all_drafts = true},
      std::move(drafters));
  ASSERT_NE(engine, nullptr);
  const int refused = verdicts_->refused;
  ExpectSameAnswers(RunAll(*engine, requests, true), expected);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_GT(verdicts_->refused, refused);
  EXPECT_GT(record->rows, 100);
  EXPECT_GT(record->below, 0);
}

// A chain of one token, as long as there may be.
class ChainDrafter : public Drafter {
 public:
  explicit ChainDrafter(int32_t token) : token_(token) {}
  std::string_view name() const override { return "chain"; }
  uint64_t bytes() const override { return 0; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view /*scope*/) override {
    return std::make_unique<Sequence>(token_);
  }

 private:
  class Sequence : public SequenceDrafter {
   public:
    explicit Sequence(int32_t token) : token_(token) {}
    void Append(std::span<const int32_t> /*tokens*/) override {}
    void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
      for (int i = 0; i < std::min(max_nodes, max_depth); ++i) tree.Add(i - 1, token_, 0.9f, 1);
    }

   private:
    const int32_t token_;
  };

  const int32_t token_;
};

// What a draft needs that is never chosen is no error of the answer.
TEST_F(GrammarDraftsTest, DraftsThatComeToALimitEndThere) {
  const int32_t open = *plain_->tokenizer()->TokenId("(");
  const Compiled nested = Compile(ParseGrammar("root ::= (\"(\" root \")\" | [a-z]){0,200}"),
                                  {.max_state_bytes = 20'000});
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(Request(nested));
    requests.back().max_tokens = 60 + kMaxDraftNodes;
    // The answer itself never goes there.
    requests.back().sampling.logit_bias = {{open, -100}};
  }
  const std::vector<Outcome> expected = RunAll(*plain_, requests, false);
  for (const Outcome& outcome : expected) ASSERT_NE(outcome.finish, FinishReason::kError);
  ASSERT_EQ(verdicts_->exhausted, 0);
  Drafters drafters;
  drafters.push_back(std::make_unique<ChainDrafter>(open));
  const auto engine = MakeSpeculator(
      "llama3", {.max_sequences = 2, .max_draft_nodes = kMaxDraftNodes, .verify_all_drafts = true},
      std::move(drafters));
  ASSERT_NE(engine, nullptr);
  const std::vector<Outcome> outcomes = RunAll(*engine, requests, true);
  ExpectSameAnswers(outcomes, expected);
  EXPECT_GT(verdicts_->exhausted, 0);
  for (const Outcome& outcome : outcomes) {
    EXPECT_GT(outcome.drafted, 0) << "what comes before the limit is verified";
  }
}

}  // namespace
}  // namespace octogate::workers

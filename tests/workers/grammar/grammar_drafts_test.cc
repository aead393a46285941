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
      Compile(ParseGrammar("root ::= (\"ab\" | \"cd\" | [0-9] \" \"){30,60}")),
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

  // `vocabulary`: tokens that do not end an answer.
  WideDrafter(Compiled grammar, std::vector<int32_t> vocabulary, uint32_t seed,
              std::shared_ptr<Record> record)
      : grammar_(std::move(grammar)),
        vocabulary_(std::move(vocabulary)),
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
    // All that the grammar allows of what was drafted has a row, and nothing else.
    void Observe(std::span<const ComputedRow> rows) override {
      EXPECT_EQ(rows.size(), 1 + allowed_);
      allowed_ = 0;
      for (const ComputedRow& row : rows.subspan(1)) {
        ++drafter_.record_->rows;
        const bool is_child = row.previous == last_ && Allowed(before_, {row.token});
        const bool is_below = !is_child && Allowed(before_, {row.previous, row.token});
        drafter_.record_->below += is_below ? 1 : 0;
        EXPECT_TRUE(is_child || is_below) << row.previous << " " << row.token;
      }
    }
    void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
      const auto any = [this] {
        return drafter_.vocabulary_[drafter_.random_() % drafter_.vocabulary_.size()];
      };
      for (int i = 0; i < max_nodes / 3; ++i) tree.Add(-1, any(), 0.5f, 1);
      const int wide = tree.size();
      for (int i = 0; max_depth > 1 && tree.size() < max_nodes && i < max_nodes; ++i) {
        tree.Add(i % wide, any(), 0.5f, 1);
      }
      for (const DraftNode& node : tree.nodes) {
        const bool is_allowed =
            node.parent < 0
                ? Allowed(now_, {node.token})
                : Allowed(now_, {tree.nodes[static_cast<size_t>(node.parent)].token, node.token});
        allowed_ += is_allowed ? 1 : 0;
      }
    }

   private:
    static bool Allowed(const GrammarMatcher& from, std::initializer_list<int32_t> tokens) {
      GrammarMatcher matcher = from.Fork();
      return std::all_of(tokens.begin(), tokens.end(),
                         [&](int32_t token) { return matcher.AcceptToken(token).ok(); });
    }

    WideDrafter& drafter_;
    GrammarMatcher before_;  // the last step
    GrammarMatcher now_;
    bool is_begun_ = false;  // the prompt is there
    size_t allowed_ = 0;     // of the last draft
    int32_t last_ = -1;      // token before the last step
    int32_t last_now_ = -1;
  };

  const Compiled grammar_;
  const std::vector<int32_t> vocabulary_;
  std::mt19937 random_;
  const std::shared_ptr<Record> record_;
};

TEST_F(GrammarDraftsTest, RowsAreForWhatTheGrammarAllows) {
  const Compiled grammar = Compile(ParseGrammar("root ::= ([a-z] [0-9 ] | [A-Z]+ \".\"){10,}"));
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 6; ++i) requests.push_back(Request(grammar));
  const std::vector<Outcome> expected = RunAll(*plain_, requests, false);
  const auto record = std::make_shared<WideDrafter::Record>();
  std::vector<int32_t> vocabulary;
  const std::vector<int32_t>& ends = plain_->config().eos_token_ids;
  for (int32_t id = 0; id < vocab_size(); ++id) {
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) vocabulary.push_back(id);
  }
  Drafters drafters;
  drafters.push_back(std::make_unique<WideDrafter>(grammar, vocabulary, random_(), record));
  const auto engine = MakeSpeculator(
      "llama3", {.max_sequences = 1, .max_draft_nodes = kMaxDraftNodes, .verify_all_drafts = true},
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
  const Compiled nested = Compile(
      ParseGrammar("root ::= (\"(\" inner \")\" | [a-z]){20,}\ninner ::= \"(\" inner \")\" | \"\""),
      {.max_state_bytes = 16'000});
  // The answer itself never goes there.
  std::vector<std::pair<int32_t, float>> bias;
  const auto bytes = plain_->tokenizer()->TokenBytes();
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  for (size_t id = 0; id < bytes->size(); ++id) {
    if ((*bytes)[id].find('(') != std::string::npos) bias.emplace_back(id, -100.0f);
  }
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 4; ++i) {
    requests.push_back(Request(nested));
    requests.back().max_tokens = 60 + kMaxDraftNodes;
    for (const auto& [id, value] : bias) requests.back().sampling.logit_bias.push_back({id, value});
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

// What an engine tells its drafters, and whom it takes as one.
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/speculating_engines.h"
#include "workers/engine/engine.h"
#include "workers/engine/speculator.h"

namespace octogate::workers {
namespace {

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

// Drafts the same tokens each time, as one with a distribution or as what it has retrieved.
class SameDrafter : public Drafter {
 public:
  SameDrafter(std::string name, bool is_judge, std::vector<int32_t> tokens, float probability)
      : name_(std::move(name)),
        is_judge_(is_judge),
        tokens_(std::move(tokens)),
        probability_(probability) {}
  std::string_view name() const override { return name_; }
  bool has_distribution() const override { return is_judge_; }
  bool is_retrieved() const override { return !is_judge_; }
  uint64_t bytes() const override { return 0; }
  std::unique_ptr<SequenceDrafter> Begin(std::string_view /*scope*/) override {
    return std::make_unique<Sequence>(this);
  }

 private:
  class Sequence : public SequenceDrafter {
   public:
    explicit Sequence(const SameDrafter* drafter) : drafter_(*drafter) {}
    void Append(std::span<const int32_t> /*tokens*/) override {}
    void Propose(int max_nodes, int /*max_depth*/, DraftTree& tree) override {
      for (const int32_t token : drafter_.tokens_) {
        if (tree.size() < max_nodes) tree.Add(-1, token, drafter_.probability_, 1);
      }
    }

   private:
    const SameDrafter& drafter_;
  };

  const std::string name_;
  const bool is_judge_;
  const std::vector<int32_t> tokens_;
  const float probability_;
};

TEST_F(SpeculatingEngineTest, WhatADistributionFindsImprobableIsNotVerified) {
  // One step that may draft, before anything is learned, and that by one token.
  const auto requests = GreedyRequests(1, 3);
  const auto expected = RunAll(*plain_, requests, false);
  // Four tokens that are all but sure; what is left for others is 0.04.
  std::vector<int32_t> sure(4);
  std::iota(sure.begin(), sure.end(), Below(config().vocab_size / 2));
  std::vector<int32_t> found(8);
  std::iota(found.begin(), found.end(), sure.front());
  const auto drafted = [&](float prune_below, bool judge) {
    Drafters drafters;
    drafters.push_back(std::make_unique<SameDrafter>("found", false, found, 0.5f));
    drafters.push_back(std::make_unique<SameDrafter>("other", judge, sure, 0.24f));
    const auto engine = MakeSpeculator(
        "llama",
        {.max_draft_nodes = 20, .prune_retrieved_below = prune_below, .verify_all_drafts = true},
        std::move(drafters));
    if (engine == nullptr) return int64_t{-1};
    ExpectSameAnswers(RunAll(*engine, requests, false), expected);
    EXPECT_TRUE(engine->Drain(absl::Now() + kLong).ok());
    return engine->stats().speculation->drafters[0].tokens.drafted;
  };
  EXPECT_EQ(drafted(0, true), std::ssize(found));
  EXPECT_EQ(drafted(0.03f, true), std::ssize(found)) << "there is that much left";
  EXPECT_EQ(drafted(0.1f, true), std::ssize(sure)) << "those that both have drafted";
  EXPECT_EQ(drafted(0.3f, true), 0);
  EXPECT_EQ(drafted(0.3f, false), std::ssize(found)) << "nobody judges";
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
      before_ = tokens_;
      tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
      known_->Append(tokens);
    }
    void Observe(std::span<const ComputedRow> rows) override {
      std::vector<int32_t> path = before_;
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
    std::vector<int32_t> before_;  // the last step
  };

  const std::unique_ptr<Drafter> known_;
  States* const states_;
};

TEST_F(SpeculatingEngineTest, DraftersMayHaveTheHiddenStateOfEveryKeptRow) {
  const auto requests = GreedyRequests(3, 12);
  const auto expected = RunAll(*plain_, requests, false);
  FeatureDrafter::States states;
  auto engine = Speculate(
      std::make_unique<FeatureDrafter>(Make(Drafting::kFull, Known(requests, expected)), &states));
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

TEST_F(SpeculatingEngineTest, DraftersLearnFromEachTenantAloneUnlessTheyShare) {
  auto requests = GreedyRequests(4, 2);
  requests[0].terms.tenant = "a";
  requests[1].terms.tenant = "b";
  requests[2].terms = {.tenant = "a", .cache_salt = "salt"};
  requests[3].terms.tenant = "a";
  const auto scopes = [&](bool share) {
    const auto record = std::make_shared<TestDrafter::Record>();
    auto engine = Speculate(Make(Drafting::kEmpty, nullptr, record), {.share_drafts = share});
    RunAll(*engine, requests, false);
    engine.reset();
    return record->scopes;
  };
  const std::vector<std::string> alone = scopes(false);
  ASSERT_EQ(alone.size(), 4u);
  EXPECT_NE(alone[0], alone[1]);
  EXPECT_NE(alone[0], alone[2]);
  EXPECT_EQ(alone[0], alone[3]);
  EXPECT_EQ(scopes(true), std::vector<std::string>(4, scopes(true)[0]));
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

}  // namespace
}  // namespace octogate::workers

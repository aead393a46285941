// What is retrieved becomes a tree of drafts, for those who may see it.
#include "workers/speculation/retrieval_drafter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "tests/retrieval/drafts/store_file.h"
#include "tests/workers/engine/fresh_seed.h"
#include "workers/speculation/draft_scope.h"
#include "workers/speculation/planner.h"

namespace octogate::workers {
namespace {

using retrieval::Document;
using retrieval::kTestTokenizer;
using retrieval::StoreFile;
using Path = std::vector<int32_t>;

// Shares of the places that were found.
constexpr RetrievalDrafterOptions kOptions = {
    .tokenizer = kTestTokenizer, .vocab_size = 20, .unseen_places = 0};

std::shared_ptr<const retrieval::DraftStore> Store(const std::vector<Document>& documents) {
  const StoreFile file;  // once mapped, a file may go
  EXPECT_TRUE(file.Write(documents, {.tokenizer = kTestTokenizer, .vocab_size = 20}).ok());
  return file.Open();
}

std::map<Path, float> Paths(const DraftTree& tree) {
  std::map<Path, float> paths;
  for (const DraftNode& node : tree.nodes) {
    Path path = {node.token};
    for (int i = node.parent; i >= 0; i = tree.nodes[static_cast<size_t>(i)].parent) {
      path.push_back(tree.nodes[static_cast<size_t>(i)].token);
    }
    std::reverse(path.begin(), path.end());
    paths[path] = node.probability;
  }
  return paths;
}

TEST(RetrievalDrafterTest, ProposesWhatFollowedWithItsShare) {
  auto drafter = RetrievalDrafter::Create(
      {{Store({{1, 2, 3, 4}, {1, 2, 3, 5}, {9, 1, 2, 6}}), ""}, {Store({{1, 2, 3, 4}}), ""}},
      kOptions);
  ASSERT_TRUE(drafter.ok()) << drafter.status();
  const std::unique_ptr<SequenceDrafter> sequence = (*drafter)->Begin("a");
  DraftTree tree;
  sequence->Propose(64, 10, tree);
  EXPECT_TRUE(tree.empty());
  sequence->Append(Document{7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 1});
  sequence->Append(Document{2});
  sequence->Propose(64, 10, tree);
  EXPECT_TRUE(CheckDraftTree(tree, 20).ok());
  EXPECT_EQ(Paths(tree), (std::map<Path, float>{
                             {{3}, 0.75F}, {{6}, 0.25F}, {{3, 4}, 2.0F / 3}, {{3, 5}, 1.0F / 3}}));
  EXPECT_EQ(tree.nodes.at(0).drafters, 1);

  DraftTree small;
  sequence->Propose(2, 10, small);
  EXPECT_EQ(Paths(small), (std::map<Path, float>{{{3}, 0.75F}, {{3, 4}, 2.0F / 3}}));
  DraftTree flat;
  sequence->Propose(64, 1, flat);
  EXPECT_EQ(Paths(flat), (std::map<Path, float>{{{3}, 0.75F}, {{6}, 0.25F}}));
  DraftTree none;
  sequence->Propose(0, 10, none);
  EXPECT_TRUE(none.empty());

  sequence->Append(Document{6});  // the longer end counts: 1 2 6
  DraftTree end;
  sequence->Propose(64, 10, end);
  EXPECT_TRUE(end.empty());
}

TEST(RetrievalDrafterTest, IsLessSureTheFewerPlacesAndTheLessOfTheSequenceWasFound) {
  RetrievalDrafterOptions options = kOptions;
  options.lookup.min_span = 1;
  options.unseen_places = 2;
  auto drafter =
      RetrievalDrafter::Create({{Store({{1, 2, 3, 4}, {1, 2, 3, 5}, {2, 6}}), ""}}, options);
  ASSERT_TRUE(drafter.ok()) << drafter.status();
  const auto paths = [&](const Document& sequence) {
    const std::unique_ptr<SequenceDrafter> drafts = (*drafter)->Begin("a");
    drafts->Append(sequence);
    DraftTree tree;
    drafts->Propose(64, 10, tree);
    return Paths(tree);
  };
  // Of two tokens 2 / 2 places are unseen, of one 2.
  EXPECT_EQ(paths({1, 2}),
            (std::map<Path, float>{{{3}, 2.0F / 3}, {{3, 4}, 1.0F / 3}, {{3, 5}, 1.0F / 3}}));
  EXPECT_EQ(paths({7, 2}),
            (std::map<Path, float>{{{3}, 0.4F}, {{6}, 0.2F}, {{3, 4}, 0.25F}, {{3, 5}, 0.25F}}));
  EXPECT_EQ(paths({7, 1}).at({2}), 0.5F);
  EXPECT_EQ(paths({7, 1}).at({2, 3}), 0.5F);
}

// In texts of which a token depends on the two before it, in a store of few of them.
TEST(RetrievalDrafterTest, EstimatesComeNearerToWhatFollowsThanBareShares) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  constexpr int kVocabulary = 20;
  // Of every two tokens before: the probabilities of the next.
  std::vector<std::discrete_distribution<int>> next;
  for (int i = 0; i < kVocabulary * kVocabulary; ++i) {
    std::vector<double> weights(kVocabulary);
    for (double& weight : weights) {
      weight = std::pow(std::uniform_real_distribution<double>(0.01, 1)(random), 8);
    }
    next.emplace_back(weights.begin(), weights.end());
  }
  const auto text = [&](int tokens) {
    Document document = {0, 0};
    while (static_cast<int>(document.size()) < tokens) {
      const auto pair = static_cast<size_t>(document[document.size() - 2] * kVocabulary +
                                            document[document.size() - 1]);
      document.push_back(next[pair](random));
    }
    return document;
  };
  std::vector<Document> documents;
  for (int i = 0; i < 20; ++i) documents.push_back(text(50));
  const std::shared_ptr<const retrieval::DraftStore> store = Store(documents);
  const Document answer = text(3000);

  // Of the nodes at the first depth.
  struct Tested {
    double squared_error = 0;
    double expected = 0;
    int right = 0;
  };
  const auto test = [&](const RetrievalDrafterOptions& options) {
    auto drafter = RetrievalDrafter::Create({{store, ""}}, options);
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    const std::unique_ptr<SequenceDrafter> sequence = (*drafter)->Begin("a");
    Tested tested;
    for (const int32_t token : answer) {
      DraftTree tree;
      sequence->Propose(64, 1, tree);
      for (const DraftNode& node : tree.nodes) {
        const double right = node.token == token ? 1 : 0;
        const double error = double{node.probability} - right;
        tested.squared_error += error * error;
        tested.expected += double{node.probability};
        tested.right += node.token == token ? 1 : 0;
      }
      sequence->Append({&token, 1});
    }
    return tested;
  };
  RetrievalDrafterOptions bare = kOptions;
  bare.lookup.min_span = 1;
  RetrievalDrafterOptions doubting = bare;
  doubting.unseen_places = RetrievalDrafterOptions().unseen_places;
  const Tested without = test(bare);
  const Tested with = test(doubting);
  ASSERT_EQ(with.right, without.right);
  EXPECT_LT(with.squared_error, without.squared_error);
  EXPECT_LT(std::abs(with.expected - with.right), std::abs(without.expected - without.right));
}

// Two sequences, of which one token and five were found, each at one place.
TEST(RetrievalDrafterTest, RowsGoToWhatMoreTokensFound) {
  const std::shared_ptr<const retrieval::DraftStore> store =
      Store({{1, 2, 3, 4, 5, 6, 7, 8}, {9, 10, 11, 12}});
  for (const bool doubts : {false, true}) {
    SCOPED_TRACE(doubts);
    RetrievalDrafterOptions options = kOptions;
    options.lookup.min_span = 1;
    if (doubts) options.unseen_places = RetrievalDrafterOptions().unseen_places;
    auto drafter = RetrievalDrafter::Create({{store, ""}}, options);
    ASSERT_TRUE(drafter.ok()) << drafter.status();
    const auto propose = [&](const Document& sequence) {
      const std::unique_ptr<SequenceDrafter> drafts = (*drafter)->Begin("a");
      drafts->Append(sequence);
      DraftTree tree;
      drafts->Propose(3, 3, tree);
      return tree;
    };
    DraftTree by_one = propose({13, 9});
    DraftTree by_five = propose({1, 2, 3, 4, 5});
    ASSERT_EQ(by_one.size(), 3);
    ASSERT_EQ(by_five.size(), 3);
    DraftPlanner planner({.seconds = [](const StepLoad& step) { return 0.7 + 0.15 * step.rows; }});
    std::vector<PlannedSequence> planned(2);
    planned[0] = {.tree = &by_one, .context = 2, .free_slots = 8, .most_slots = 8};
    planned[1] = {.tree = &by_five, .context = 5, .free_slots = 8, .most_slots = 8};
    const StepLoad step = {.rows = 2, .logit_rows = 2, .attended = 7};
    planner.Plan(step, step, {.rows = 64}, planned);
    EXPECT_GT(by_five.size(), 0);
    EXPECT_EQ(by_one.empty(), doubts);
  }
}

TEST(RetrievalDrafterTest, ACorpusOfOneTenantIsSeenByItAlone) {
  auto drafter = RetrievalDrafter::Create(
      {{Store({{1, 2, 3}}), "tenant"}, {Store({{1, 2, 4}}), ""}}, kOptions);
  ASSERT_TRUE(drafter.ok()) << drafter.status();
  const std::pair<std::string, int> cases[] = {{DraftScopeOf("tenant", ""), 2},
                                               {DraftScopeOf("tenant", "salt"), 2},
                                               {DraftScopeOf("other", ""), 1},
                                               {DraftScopeOf("tenants", ""), 1},
                                               {DraftScopeOf("tenan", "t"), 1},
                                               {DraftScopeOf("", "tenant"), 1},
                                               {"", 1}};  // of all tenants
  for (const auto& [scope, size] : cases) {
    const std::unique_ptr<SequenceDrafter> sequence = (*drafter)->Begin(scope);
    sequence->Append(Document{1, 2});
    DraftTree tree;
    sequence->Propose(64, 10, tree);
    EXPECT_EQ(tree.size(), size) << scope;
    EXPECT_GE(tree.Child(-1, 4), 0);
  }
}

TEST(RetrievalDrafterTest, RefusesAnotherTokenizersStore) {
  RetrievalDrafterOptions options = kOptions;
  options.tokenizer.low ^= 1;
  EXPECT_EQ(RetrievalDrafter::Create({{Store({{1}}), ""}}, options).status().code(),
            absl::StatusCode::kFailedPrecondition);
  options = kOptions;
  options.vocab_size = 21;
  EXPECT_EQ(RetrievalDrafter::Create({{Store({{1}}), ""}}, options).status().code(),
            absl::StatusCode::kFailedPrecondition);
  options = kOptions;
  options.lookup.min_span = 17;
  EXPECT_EQ(RetrievalDrafter::Create({}, options).status().code(),
            absl::StatusCode::kInvalidArgument);
  options = kOptions;
  options.lookup.max_near = 0;
  EXPECT_EQ(RetrievalDrafter::Create({}, options).status().code(),
            absl::StatusCode::kInvalidArgument);
  for (const float unseen :
       {-1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    options = kOptions;
    options.unseen_places = unseen;
    EXPECT_EQ(RetrievalDrafter::Create({}, options).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(RetrievalDrafter::Create({{nullptr, ""}}, kOptions).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octogate::workers

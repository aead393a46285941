// What a draft model drafts while the model verifies: later proposals are better or cheaper for it,
// their probabilities are those of drafts made before a pass, and nothing runs after the pass.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "tests/workers/engine/random_requests.h"
#include "tests/workers/engine/speculating_engines.h"
#include "tests/workers/speculation/draft_paths.h"
#include "workers/speculation/model_drafter.h"

namespace octogate::workers {
namespace {

using Ids = std::vector<int32_t>;

class ModelDrafterAheadTest : public ::testing::TestWithParam<const char*>,
                              protected RandomChoices {
 protected:
  void SetUp() override {
    checkpoint_ = OpenCheckpoint(FixturePath(GetParam()));
    ASSERT_NE(checkpoint_, nullptr);
    options_.vocab_size = checkpoint_->config().vocab_size;
    options_.page_size = 4;
    options_.ahead_passes = 6;
  }

  std::unique_ptr<ModelDrafter> Make() {
    auto drafter = ModelDrafter::Create(
        checkpoint_, kernels::MakeCpuBackend({.threads = 1 + Below(2)}), options_);
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    return drafter.ok() ? *std::move(drafter) : nullptr;
  }
  Ids Text(int count) { return RandomIds(random_, count, options_.vocab_size); }

  // A pass that verifies for as long as it takes to draft `passes` ahead.
  static void Verify(ModelDrafter& drafter, SequenceDrafter* sequence, int passes) {
    const uint64_t until = drafter.passes() + static_cast<uint64_t>(passes);
    drafter.BeginPass({&sequence, 1});
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (drafter.passes() < until && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    drafter.EndPass();
    EXPECT_GE(drafter.passes(), until);
  }

  // Through the most probable children.
  static Ids LikelyPath(const DraftTree& tree) {
    int node = -1;
    for (int i = 0; i < tree.size(); ++i) {
      const DraftNode& next = tree.nodes[static_cast<size_t>(i)];
      if (next.parent == node && next.rank == 0) node = i;
    }
    return PathTo(tree, node);
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  ModelDrafterOptions options_;
};

// The probability of a token after a text, of a drafter that has just begun to read it.
float ProbabilityOf(ModelDrafter& drafter, const Ids& text, int32_t token) {
  const auto sequence = drafter.Begin("");
  sequence->Append(text);
  DraftTree tree;
  sequence->Propose(kMaxDraftNodes, 1, tree);
  const int node = tree.Child(-1, token);
  return node < 0 ? -1 : tree.nodes[static_cast<size_t>(node)].probability;
}

TEST_P(ModelDrafterAheadTest, ProbabilitiesAreThoseOfDraftsMadeBeforeAPass) {
  options_.passes = 1 + Below(4);
  options_.rows = 1 + Below(8);
  options_.children = 2 + Below(4);
  options_.ahead_passes = 1 + Below(8);
  const auto drafter = Make();
  const auto fresh = Make();
  ASSERT_TRUE(drafter != nullptr && fresh != nullptr);
  const auto sequence = drafter->Begin("");
  Ids all = Text(1 + Below(40));
  sequence->Append(all);
  int drafted = 0;
  for (int round = 0; round < 12; ++round) {
    DraftTree tree;
    sequence->Propose(1 + Below(60), 1 + Below(12), tree);
    ASSERT_TRUE(CheckDraftTree(tree, options_.vocab_size).ok());
    for (int i = 0; i < 5 && !tree.empty(); ++i) {
      const int node = Below(tree.size());
      Ids text = all;
      const Ids path = PathTo(tree, node);
      text.insert(text.end(), path.begin(), path.end() - 1);
      ASSERT_EQ(tree.nodes[static_cast<size_t>(node)].probability,
                ProbabilityOf(*fresh, text, path.back()))
          << "round " << round;
    }
    drafted += tree.size();
    if (Chance(80)) {
      SequenceDrafter* const verified = sequence.get();
      drafter->BeginPass({&verified, 1});
      std::this_thread::sleep_for(std::chrono::microseconds(Below(3000)));
      drafter->EndPass();
    }
    // What the model says may go on below what was proposed, or elsewhere.
    Ids next = Chance(30) || tree.empty() ? Ids{} : PathTo(tree, Below(tree.size()));
    if (Chance(80)) next.push_back(Text(1)[0]);
    sequence->Append(next);
    all.insert(all.end(), next.begin(), next.end());
    if (Chance(10)) sequence->Append({});
  }
  EXPECT_GT(drafted, 0);
}

TEST_P(ModelDrafterAheadTest, WhatWasDraftedAheadIsNotComputedAgain) {
  const auto drafter = Make();
  ASSERT_NE(drafter, nullptr);
  const auto sequence = drafter->Begin("");
  sequence->Append(Text(20));
  DraftTree tree;
  sequence->Propose(20, 16, tree);
  Verify(*drafter, sequence.get(), options_.ahead_passes);
  sequence->Append(LikelyPath(tree));
  const uint64_t before = drafter->passes();
  DraftTree next;
  sequence->Propose(20, 16, next);
  EXPECT_EQ(next.size(), 20);
  EXPECT_LT(drafter->passes() - before, static_cast<uint64_t>(options_.passes));
  // All of a tree that nothing has followed is there already.
  DraftTree again;
  const uint64_t whole = drafter->passes();
  Verify(*drafter, sequence.get(), 1);
  sequence->Append({});
  const uint64_t grown = drafter->passes();
  EXPECT_GT(grown, whole);
  sequence->Propose(20, 16, again);
  EXPECT_EQ(drafter->passes(), grown);
  EXPECT_EQ(again.size(), 20);
}

TEST_P(ModelDrafterAheadTest, ReachesDeeperThanItsOwnPasses) {
  options_.passes = 2;
  options_.rows = 2;
  options_.children = 2;
  const auto drafter = Make();
  ASSERT_NE(drafter, nullptr);
  const auto sequence = drafter->Begin("");
  sequence->Append(Text(20));
  const auto deepest = [&] {
    DraftTree tree;
    sequence->Propose(60, 60, tree);
    int depth = 0;
    for (const DraftNode& node : tree.nodes) depth = std::max(depth, node.depth);
    return std::pair(depth, tree.size());
  };
  const auto [depth, nodes] = deepest();
  EXPECT_LE(depth, options_.passes);
  Verify(*drafter, sequence.get(), options_.ahead_passes);
  const auto [later_depth, later_nodes] = deepest();
  EXPECT_GE(later_depth, depth);
  EXPECT_GT(later_nodes, nodes);
}

TEST_P(ModelDrafterAheadTest, AnotherTextBeginsAnotherTree) {
  const auto drafter = Make();
  const auto fresh = Make();
  ASSERT_TRUE(drafter != nullptr && fresh != nullptr);
  const Ids text = Text(10);
  const auto sequence = drafter->Begin("");
  sequence->Append(text);
  DraftTree tree;
  sequence->Propose(20, 16, tree);
  Verify(*drafter, sequence.get(), 1);
  // Neither proposed nor one of the candidates that a row has.
  int32_t other = 0;
  while (tree.Child(-1, other) >= 0) ++other;
  Ids next = {other, other};
  sequence->Append(next);
  DraftTree actual;
  sequence->Propose(20, 16, actual);
  const auto twin = fresh->Begin("");
  twin->Append(text);
  twin->Append(next);
  DraftTree expected;
  twin->Propose(20, 16, expected);
  EXPECT_TRUE(SameBits(actual, expected));
}

TEST_P(ModelDrafterAheadTest, TakesABackendOfItsOwnAndAsManyRowsAsATreeHas) {
  const auto backend = kernels::MakeCpuBackend({.threads = 1});
  const auto shared = ModelDrafter::Create(checkpoint_, backend.get(), options_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(shared)) << shared;
  const auto code = [&](int passes) {
    options_.ahead_passes = passes;
    return ModelDrafter::Create(checkpoint_, kernels::MakeCpuBackend({.threads = 1}), options_)
        .status()
        .code();
  };
  EXPECT_EQ(code(8), absl::StatusCode::kOk);
  EXPECT_EQ(code(9), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(-1), absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Families, ModelDrafterAheadTest,
                         ::testing::Values("llama", "mistral", "qwen3", "phi3_longrope"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace octogate::workers

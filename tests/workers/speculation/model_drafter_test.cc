// Drafts of a small model have the probabilities that it computes for their paths one token at a
// time, and do not depend on what was drafted, kept and dropped before.
#include "workers/speculation/model_drafter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "tests/workers/speculation/draft_paths.h"
#include "workers/model/rope.h"
#include "workers/model/tokenizer_fingerprint.h"

namespace octogate::workers {
namespace {

using Ids = std::vector<int32_t>;

class ModelDrafterTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    checkpoint_ = OpenCheckpoint(FixturePath(GetParam()));
    ASSERT_NE(checkpoint_, nullptr);
    options_.vocab_size = checkpoint_->config().vocab_size;
    options_.page_size = 4;
  }

  std::unique_ptr<ModelDrafter> MakeDrafter() {
    auto drafter = ModelDrafter::Create(checkpoint_, backend_.get(), options_);
    EXPECT_TRUE(drafter.ok()) << drafter.status();
    return drafter.ok() ? *std::move(drafter) : nullptr;
  }

  // log(softmax) after `ids`, by one pass over all of them.
  std::vector<double> LogProbabilities(const Ids& ids) {
    const int length = static_cast<int>(ids.size());
    auto transformer = Transformer::Load(checkpoint_, backend_.get(), {.max_rows = length});
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    Ids pages;
    for (int32_t page = 0; page * 16 < length; ++page) pages.push_back(page);
    auto cache =
        (*transformer)->CreateKvCache(static_cast<int>(pages.size()), 16, kernels::DType::kF32);
    EXPECT_TRUE(cache.ok()) << cache.status();
    const Ids logit_rows = {length - 1};
    const StepSequence sequence = {.row_count = length,
                                   .pages = pages,
                                   .rope_range = RopeRangeForLength(checkpoint_->config(), length)};
    std::vector<float> logits(static_cast<size_t>(checkpoint_->config().vocab_size));
    (*transformer)
        ->Forward({.ids = ids, .sequences = {&sequence, 1}, .logit_rows = logit_rows}, **cache,
                  logits, {});
    double sum = 0;
    for (float logit : logits) sum += std::exp(double{logit});
    std::vector<double> result;
    for (float logit : logits) result.push_back(double{logit} - std::log(sum));
    return result;
  }

  std::unique_ptr<kernels::Backend> backend_ = kernels::MakeCpuBackend({.threads = 1});
  std::shared_ptr<const Checkpoint> checkpoint_;
  ModelDrafterOptions options_;
};

TEST_P(ModelDrafterTest, ProbabilitiesAreThoseOfPlainDecoding) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto drafter = MakeDrafter();
  ASSERT_NE(drafter, nullptr);
  const Ids prompt = RandomIds(random, 1 + static_cast<int>(random() % 70), options_.vocab_size);
  const auto sequence = drafter->Begin("");
  sequence->Append(prompt);
  DraftTree tree;
  sequence->Propose(30, 3, tree);
  ASSERT_TRUE(CheckDraftTree(tree, options_.vocab_size).ok());
  ASSERT_EQ(tree.size(), 30);
  for (int i = 0; i < tree.size(); ++i) {
    const DraftNode& node = tree.nodes[static_cast<size_t>(i)];
    EXPECT_LE(node.depth, 3);
    Ids ids = prompt;
    const Ids path = PathTo(tree, i);
    ids.insert(ids.end(), path.begin(), path.end() - 1);
    const std::vector<double> expected = LogProbabilities(ids);
    EXPECT_NEAR(std::log(node.probability), expected[static_cast<size_t>(node.token)], 1e-4);
    // Its siblings before it, and nobody else, are more probable.
    const auto better = std::count_if(expected.begin(), expected.end(), [&](double other) {
      return other > expected[static_cast<size_t>(node.token)] + 1e-4;
    });
    EXPECT_LE(better, node.rank);
    EXPECT_LT(node.rank, options_.children);
  }
}

TEST_P(ModelDrafterTest, ALongSequenceDraftsAsAFreshOneDoes) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto drafter = MakeDrafter();
  const auto other = MakeDrafter();
  ASSERT_NE(drafter, nullptr);
  const auto sequence = drafter->Begin("");
  const auto neighbour = drafter->Begin("");
  Ids all = RandomIds(random, 1 + static_cast<int>(random() % 40), options_.vocab_size);
  sequence->Append(all);
  for (int round = 0; round < 12; ++round) {
    DraftTree tree;
    sequence->Propose(1 + static_cast<int>(random() % 40), 1 + static_cast<int>(random() % 4),
                      tree);
    ASSERT_TRUE(CheckDraftTree(tree, options_.vocab_size).ok());
    // A path of the tree, or a part, or something else comes true.
    Ids next;
    if (!tree.empty()) next = PathTo(tree, static_cast<int>(random() % tree.nodes.size()));
    if (random() % 3 == 0) next.clear();
    // Usually with a token that was not drafted behind it.
    if (random() % 3 != 0) {
      const Ids bonus = RandomIds(random, 1, options_.vocab_size);
      next.insert(next.end(), bonus.begin(), bonus.end());
    }
    sequence->Append(next);
    all.insert(all.end(), next.begin(), next.end());
    neighbour->Append(RandomIds(random, 3, options_.vocab_size));
    DraftTree unused;
    neighbour->Propose(10, 3, unused);

    DraftTree expected;
    DraftTree actual;
    const auto fresh = other->Begin("");
    fresh->Append(all);
    fresh->Propose(25, 4, expected);
    sequence->Propose(25, 4, actual);
    ASSERT_EQ(expected.size(), 25);
    EXPECT_TRUE(SameBits(actual, expected));
  }
}

TEST_P(ModelDrafterTest, ComputesAsManyPassesAsMayBeWorthTheirTime) {
  options_.pages = 100;
  const auto drafter = MakeDrafter();
  ASSERT_NE(drafter, nullptr);
  const auto passes_with = [&](double token_seconds, double least_path = 0) {
    const auto sequence = drafter->Begin("");
    sequence->Append(Ids(20, 1));
    // Reads what is before the last token.
    DraftTree tree;
    sequence->Propose(1, 1, tree);
    tree.nodes.clear();
    const uint64_t before = drafter->passes();
    absl::Duration time;
    const DraftCall call = {.sequence = sequence.get(),
                            .max_nodes = kMaxDraftNodes,
                            .max_depth = 16,
                            .token_seconds = token_seconds,
                            .least_path = least_path,
                            .tree = &tree,
                            .time = &time};
    drafter->ProposeAll({&call, 1});
    EXPECT_FALSE(tree.empty());
    return static_cast<int>(drafter->passes() - before);
  };
  EXPECT_EQ(passes_with(0), options_.passes) << "not known";
  EXPECT_EQ(passes_with(1e-12), 1);
  EXPECT_EQ(passes_with(1e6), options_.most_passes);
  EXPECT_EQ(passes_with(1e6, 1), 1) << "no path is as probable";
}

TEST_P(ModelDrafterTest, ProposesNothingWithoutPagesAndGivesThemBack) {
  options_.pages = 12;
  const auto drafter = MakeDrafter();
  ASSERT_NE(drafter, nullptr);
  DraftTree tree;
  {
    const auto large = drafter->Begin("");
    large->Append(Ids(20, 1));
    large->Propose(8, 4, tree);
    EXPECT_FALSE(tree.empty());
    const auto second = drafter->Begin("");
    second->Append(Ids(20, 1));
    DraftTree none;
    second->Propose(8, 4, none);
    EXPECT_TRUE(none.empty());
  }
  const auto third = drafter->Begin("");
  DraftTree before;
  third->Propose(8, 4, before);
  EXPECT_TRUE(before.empty()) << "nothing to follow";
  third->Append(Ids(20, 1));
  DraftTree after;
  third->Propose(8, 4, after);
  EXPECT_TRUE(SameBits(after, tree));
}

TEST_P(ModelDrafterTest, HasAsManyPositionsAsFitIntoItsCache) {
  const auto small = [&](uint64_t bytes) {
    options_.cache_bytes = bytes;
    const auto drafter = MakeDrafter();
    return drafter == nullptr ? 0 : drafter->bytes();
  };
  const uint64_t least = small(0);
  EXPECT_GT(least, 0u) << "one page";
  const uint64_t more = small(uint64_t{1} << 20);
  EXPECT_GT(more, least);
  EXPECT_LE(more - least, uint64_t{1} << 20);
  const uint64_t most = small(uint64_t{1} << 40);
  EXPECT_EQ(small(uint64_t{1} << 41), most);
}

TEST_P(ModelDrafterTest, StaysWithinTheContext) {
  options_.pages = checkpoint_->config().max_position_embeddings / options_.page_size + 16;
  const auto drafter = MakeDrafter();
  ASSERT_NE(drafter, nullptr);
  const int most = checkpoint_->config().max_position_embeddings;
  const auto sequence = drafter->Begin("");
  sequence->Append(Ids(static_cast<size_t>(most - 1), 1));
  DraftTree tree;
  sequence->Propose(8, 4, tree);
  EXPECT_FALSE(tree.empty());
  for (const DraftNode& node : tree.nodes) EXPECT_EQ(node.depth, 1);
  sequence->Append(Ids{1});
  DraftTree none;
  sequence->Propose(8, 4, none);
  EXPECT_TRUE(none.empty());
}

TEST_P(ModelDrafterTest, RefusesAnotherTokenizer) {
  options_.target_tokenizer = TokenizerFingerprint(*OpenTokenizer(FixturePath("llama")));
  options_.draft_tokenizer = TokenizerFingerprint(*OpenTokenizer(FixturePath("qwen2")));
  const auto code = [&] {
    return ModelDrafter::Create(checkpoint_, backend_.get(), options_).status().code();
  };
  EXPECT_EQ(code(), absl::StatusCode::kFailedPrecondition);
  options_.draft_tokenizer = options_.target_tokenizer;
  EXPECT_EQ(code(), absl::StatusCode::kOk);
  ++options_.vocab_size;
  EXPECT_EQ(code(), absl::StatusCode::kFailedPrecondition);
  --options_.vocab_size;
  options_.passes = 100;
  EXPECT_EQ(code(), absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Families, ModelDrafterTest,
                         testing::Values("llama", "mistral", "qwen3", "phi3"));

}  // namespace
}  // namespace octogate::workers

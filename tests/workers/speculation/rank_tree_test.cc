// Which shapes trees of ranks have, beside all paths that they could have.
#include "workers/speculation/rank_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <random>
#include <set>
#include <vector>

#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

std::vector<int> Depths(const RankTree& tree) {
  std::vector<int> depths;
  for (const RankNode& node : tree) {
    depths.push_back(node.parent < 0 ? 1 : depths[static_cast<size_t>(node.parent)] + 1);
  }
  return depths;
}

// Breadth first, with no node twice.
void ExpectWellFormed(const RankTree& tree) {
  std::set<std::pair<int, int>> seen;
  for (size_t i = 0; i < tree.size(); ++i) {
    ASSERT_LT(tree[i].parent, static_cast<int>(i));
    EXPECT_TRUE(seen.insert({tree[i].parent, tree[i].rank}).second);
  }
  const std::vector<int> depths = Depths(tree);
  EXPECT_TRUE(std::is_sorted(depths.begin(), depths.end()));
}

TEST(RankTreeTest, ThePapersTreeHas80NodesOnSixLevels) {
  const RankTree tree = PaperRankTree();
  ExpectWellFormed(tree);
  ASSERT_EQ(tree.size(), 80U);
  std::vector<int> levels(7, 0);
  for (int depth : Depths(tree)) ++levels[static_cast<size_t>(depth)];
  EXPECT_EQ(levels, (std::vector<int>{0, 8, 21, 25, 15, 8, 3}));
}

TEST(RankTreeTest, APlanHasTheBestPathsOfAll) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::vector<float>> rates(1 + random() % 4);
    for (std::vector<float>& ranks : rates) {
      ranks.resize(1 + random() % 4);
      for (float& rate : ranks) rate = static_cast<float>(random() % 5) / 4;
    }
    std::vector<double> all;
    const std::function<void(size_t, double)> collect = [&](size_t depth, double expected) {
      if (depth == rates.size()) return;
      for (float rate : rates[depth]) {
        if (rate == 0) continue;
        all.push_back(expected * double{rate});
        collect(depth + 1, expected * double{rate});
      }
    };
    collect(0, 1);
    std::sort(all.rbegin(), all.rend());
    const size_t nodes = random() % 100;
    all.resize(std::min(all.size(), nodes));

    const RankTree tree = PlanRankTree(rates, static_cast<int>(nodes));
    ExpectWellFormed(tree);
    const std::vector<int> depths = Depths(tree);
    std::vector<double> planned;
    for (size_t i = 0; i < tree.size(); ++i) {
      const double before = tree[i].parent < 0 ? 1 : planned[static_cast<size_t>(tree[i].parent)];
      planned.push_back(
          before *
          double{rates[static_cast<size_t>(depths[i]) - 1][static_cast<size_t>(tree[i].rank)]});
    }
    std::sort(planned.rbegin(), planned.rend());
    EXPECT_EQ(planned, all);
  }
}

}  // namespace
}  // namespace octogate::workers

// What is taken is what a heap that forgets nothing gives.
#include "workers/speculation/best_first.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <utility>

#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

TEST(BestFirstTest, TakesTheBestOfAllThatWasOfferedAndOfEqualsTheFirst) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    const int takes = static_cast<int>(random() % 90);
    BestFirst<int> best_first(takes);
    std::map<std::pair<float, int>, int> all;  // by falling path and rising number
    int offered = 0;
    int taken = 0;
    while (taken < takes || random() % 20 > 0) {
      if (all.empty() || taken == takes || random() % 5 > 0) {
        // Few values, so that many are equal.
        const auto path = static_cast<float>(random() % 50) / 50;
        best_first.Offer(path, offered);
        all[{-path, offered}] = offered;
        ++offered;
        continue;
      }
      ASSERT_FALSE(best_first.empty());
      const auto [path, what] = best_first.Take();
      ASSERT_EQ(what, all.begin()->second);
      ASSERT_EQ(path, -all.begin()->first.first);
      all.erase(all.begin());
      ++taken;
    }
    EXPECT_TRUE(best_first.empty()) << "no more can be taken";
  }
}

}  // namespace
}  // namespace octogate::workers

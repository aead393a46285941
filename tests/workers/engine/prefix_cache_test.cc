#include "workers/engine/prefix_cache.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

using Tokens = std::vector<int32_t>;
constexpr int32_t kNone = PrefixCache::kNone;

TEST(PrefixCacheTest, FindsAPageOnlyBehindItsOwnBeginning) {
  PrefixCache cache(4);
  EXPECT_EQ(cache.Insert("", kNone, Tokens{1, 2}, 0), 0);
  EXPECT_EQ(cache.Insert("", 0, Tokens{3, 4}, 1), 1);
  EXPECT_EQ(cache.Insert("", kNone, Tokens{5, 6}, 2), 2);
  EXPECT_EQ(cache.Find("", kNone, Tokens{1, 2}), 0);
  EXPECT_EQ(cache.Find("", 0, Tokens{3, 4}), 1);
  EXPECT_EQ(cache.Find("", 2, Tokens{3, 4}), kNone);
  EXPECT_EQ(cache.Find("", kNone, Tokens{3, 4}), kNone);
  EXPECT_EQ(cache.Find("", kNone, Tokens{2, 1}), kNone);
}

TEST(PrefixCacheTest, ContextsShareNothing) {
  PrefixCache cache(4);
  EXPECT_EQ(cache.Insert("a", kNone, Tokens{1, 2}, 0), 0);
  EXPECT_EQ(cache.Find("b", kNone, Tokens{1, 2}), kNone);
  EXPECT_EQ(cache.Find("", kNone, Tokens{1, 2}), kNone);
  EXPECT_EQ(cache.Insert("b", kNone, Tokens{1, 2}, 1), 1);
  EXPECT_EQ(cache.Find("a", kNone, Tokens{1, 2}), 0);
  EXPECT_EQ(cache.Find("b", kNone, Tokens{1, 2}), 1);
}

TEST(PrefixCacheTest, KeepsTheFirstOfTwoPagesWithTheSameContents) {
  PrefixCache cache(4);
  EXPECT_EQ(cache.Insert("", kNone, Tokens{1, 2}, 0), 0);
  EXPECT_EQ(cache.Insert("", kNone, Tokens{1, 2}, 1), 0);
  EXPECT_FALSE(cache.contains(1));
  EXPECT_EQ(cache.size(), 1);
}

TEST(PrefixCacheTest, AForgottenPageIsNotFound) {
  PrefixCache cache(4);
  cache.Insert("", kNone, Tokens{1}, 0);
  cache.Insert("", 0, Tokens{2}, 1);
  cache.Forget(1);
  cache.Forget(3);  // was no entry
  EXPECT_EQ(cache.Find("", 0, Tokens{2}), kNone);
  EXPECT_EQ(cache.Find("", kNone, Tokens{1}), 0);
  EXPECT_EQ(cache.Insert("", 0, Tokens{7}, 1), 1);
  EXPECT_EQ(cache.Find("", 0, Tokens{7}), 1);
}

TEST(PrefixCacheTest, ContextsAreForgottenWhole) {
  PrefixCache cache(5);
  cache.Insert("a", kNone, Tokens{1}, 4);
  cache.Insert("a", 4, Tokens{2}, 0);
  cache.Insert("a", 0, Tokens{3}, 2);
  cache.Insert("b", kNone, Tokens{1}, 1);
  const uint32_t stamp = cache.stamps()->Get(2);
  const uint32_t other = cache.stamps()->Get(1);
  EXPECT_EQ(cache.ForgetContexts([](std::string_view) { return false; }), std::vector<int32_t>());
  EXPECT_EQ(cache.ForgetContexts([](std::string_view context) { return context == "a"; }),
            (std::vector<int32_t>{0, 2, 4}));
  EXPECT_EQ(cache.size(), 1);
  EXPECT_EQ(cache.Find("a", kNone, Tokens{1}), kNone);
  EXPECT_EQ(cache.Find("b", kNone, Tokens{1}), 1);
  EXPECT_NE(cache.stamps()->Get(2), stamp);
  EXPECT_EQ(cache.stamps()->Get(1), other);
  // Its pages can be entered again, alone and as the parents of others.
  EXPECT_EQ(cache.Insert("a", kNone, Tokens{1}, 0), 0);
  EXPECT_EQ(cache.Insert("a", 0, Tokens{2}, 4), 4);
  cache.Forget(4);
  cache.Forget(0);
  EXPECT_EQ(cache.size(), 1);
}

TEST(PrefixCacheTest, HashesDependOnEveryTokenAndOnTheOrder) {
  EXPECT_NE(ChainHash(0, Tokens{1, 2}), ChainHash(0, Tokens{2, 1}));
  EXPECT_NE(ChainHash(0, Tokens{1, 2}), ChainHash(1, Tokens{1, 2}));
  EXPECT_EQ(ChainHash(ChainHash(5, Tokens{1}), Tokens{2}), ChainHash(5, Tokens{1, 2}));
}

uint64_t PoorHash(uint64_t parent, std::span<const int32_t> tokens) {
  return ChainHash(parent, tokens) % 5;
}

// Against a map from whole beginnings, with hashes that collide all the time and some that do not.
TEST(PrefixCacheTest, AHitHoldsExactlyWhatWasAskedForWhateverTheHash) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (PrefixCache::Hash hash : {PrefixCache::Hash{PoorHash}, PrefixCache::Hash{ChainHash}}) {
    constexpr int kPages = 40;
    PrefixCache cache(kPages, hash);
    using Chain = std::pair<std::string, Tokens>;  // context, all tokens up to the end of the page
    std::map<int32_t, Chain> chains;               // by page that is entered
    std::map<Chain, int32_t> pages;
    const auto pick = [&](int count) { return static_cast<int>(random() % unsigned(count)); };
    for (int i = 0; i < 20000; ++i) {
      // A random entry, or none, and what may follow.
      int32_t parent = kNone;
      Chain chain(pick(2) == 0 ? "a" : "b", {});
      if (!chains.empty() && pick(4) > 0) {
        const auto place = std::next(chains.begin(), pick(static_cast<int>(chains.size())));
        parent = place->first;
        chain = place->second;
      }
      const Tokens tokens = {pick(2), pick(2)};
      chain.second.insert(chain.second.end(), tokens.begin(), tokens.end());
      const auto expected = pages.find(chain);
      const int32_t found = cache.Find(chain.first, parent, tokens);
      ASSERT_EQ(found, expected == pages.end() ? kNone : expected->second);
      const int32_t page = pick(kPages);
      if (pick(100) == 0) {
        const std::string context = pick(2) == 0 ? "a" : "b";
        std::vector<int32_t> forgotten =
            cache.ForgetContexts([&](std::string_view other) { return other == context; });
        std::sort(forgotten.begin(), forgotten.end());
        std::vector<int32_t> of_context;
        for (const auto& [its_page, its_chain] : chains) {
          if (its_chain.first == context) of_context.push_back(its_page);
        }
        ASSERT_EQ(forgotten, of_context);
        for (const int32_t its_page : of_context) {
          pages.erase(chains[its_page]);
          chains.erase(its_page);
        }
      } else if (pick(2) == 0) {
        if (chains.contains(page)) continue;
        const int32_t entered = cache.Insert(chain.first, parent, tokens, page);
        if (expected != pages.end()) {
          ASSERT_EQ(entered, expected->second);
        } else if (hash == PrefixCache::Hash{ChainHash}) {
          ASSERT_EQ(entered, page);  // 64 bits: no collision is to be expected in 10^4 insertions
        }
        if (entered == page) {
          chains[page] = chain;
          pages[chain] = page;
        }
      } else if (chains.contains(page)) {
        const Chain& removed = chains[page];
        const bool has_children = std::any_of(chains.begin(), chains.end(), [&](const auto& other) {
          const auto& [context, all] = other.second;
          return context == removed.first && all.size() > removed.second.size() &&
                 std::equal(removed.second.begin(), removed.second.end(), all.begin());
        });
        if (has_children) continue;
        cache.Forget(page);
        pages.erase(removed);
        chains.erase(page);
      }
      ASSERT_EQ(cache.size(), static_cast<int>(chains.size()));
      ASSERT_EQ(cache.contains(page), chains.contains(page));
    }
  }
}

}  // namespace
}  // namespace octogate::workers

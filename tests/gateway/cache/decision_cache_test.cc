// What a cache of decisions holds, against a model; and that nothing is found under another key.
#include "gateway/cache/decision_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

namespace octogate::gateway {
namespace {

v1::Decision DecisionFor(const std::string& node) {
  v1::Decision decision;
  decision.set_router("main");
  decision.set_node(node);
  decision.set_argument("argument of " + node);
  decision.set_duration_us(17);
  decision.mutable_usage()->set_prompt_tokens(5);
  decision.add_heads()->set_duration_us(3);
  return decision;
}

std::string Key(const std::string& query, const std::string& tenant = "t") {
  return DecisionCache::KeyOf(tenant, "main", query, {}, false);
}

TEST(DecisionCacheTest, AHitIsTheDecisionWithoutWhatItHasCost) {
  DecisionCache cache(10);
  EXPECT_FALSE(cache.Find(Key("q")).has_value());
  cache.Put("t", Key("q"), DecisionCache::AsKept(DecisionFor("n")), cache.epoch());
  const auto found = cache.Find(Key("q"));
  ASSERT_TRUE(found.has_value());
  v1::Decision expected = DecisionFor("n");
  expected.set_cached(true);
  expected.clear_usage();
  expected.clear_duration_us();
  expected.mutable_heads(0)->clear_duration_us();
  EXPECT_EQ(found->SerializeAsString(), expected.SerializeAsString());
  const CacheCounts counts = cache.Counts("");
  EXPECT_EQ(counts.lookups, 2);
  EXPECT_EQ(counts.hits, 1);
  EXPECT_EQ(counts.writes, 1);
  EXPECT_EQ(counts.entries, 1);
}

TEST(DecisionCacheTest, WhatFailedOnTheWayIsNotKept) {
  DecisionCache cache(10);
  v1::Decision decision = DecisionFor("n");
  decision.mutable_heads(0)->set_error("UNAVAILABLE: no worker");
  cache.Put("t", Key("q"), decision, cache.epoch());
  EXPECT_FALSE(cache.Peek(Key("q")).has_value());
  decision = DecisionFor("n");
  decision.set_reason(
      "lexical was 0.9 sure of 'n', 0.5 needed; the argument failed: no worker, so the query goes "
      "on as it came");
  cache.Put("t", Key("q"), decision, cache.epoch());
  EXPECT_FALSE(cache.Peek(Key("q")).has_value());
}

TEST(DecisionCacheTest, WhatWasUnderWayAtAFlushIsNotKept) {
  DecisionCache cache(10);
  const uint64_t before = cache.epoch();
  cache.Flush("another");
  cache.Put("t", Key("q"), DecisionFor("n"), before);
  EXPECT_FALSE(cache.Find(Key("q")).has_value());
}

TEST(DecisionCacheTest, NoEntriesMeansNone) {
  DecisionCache cache(0);
  EXPECT_FALSE(cache.enabled());
  cache.Put("t", Key("q"), DecisionFor("n"), cache.epoch());
  EXPECT_FALSE(cache.Find(Key("q")).has_value());
  EXPECT_EQ(cache.Counts("").entries, 0);
}

// Every part of a key may try to look like the end of another.
TEST(DecisionCacheTest, DifferentQueriesHaveDifferentKeys) {
  const std::vector<std::string> texts = {"",  "1:a",     "a",       ":", "0;",
                                          "-", "stay1:a", "near1:a", "1"};
  std::map<std::string, std::tuple<int, int, int, int, int, bool>> seen;
  const int count = static_cast<int>(texts.size());
  for (int tenant = 0; tenant < count; ++tenant) {
    for (int router = 0; router < count; ++router) {
      for (int query = 0; query < count; ++query) {
        for (int excluded = 0; excluded <= count; ++excluded) {
          for (int session = 0; session < count; ++session) {
            for (const bool stay : {false, true}) {
              router::RouteOptions options;
              if (excluded < count) options.excluded = {texts[excluded]};
              options.session_node = texts[session];
              options.stay = stay;
              // Without a session it makes no difference whether it stays.
              const bool counts = stay && session != 0;
              const auto identity =
                  std::make_tuple(tenant, router, query, excluded, session, counts);
              const auto [known, added] = seen.try_emplace(
                  DecisionCache::KeyOf(texts[tenant], texts[router], texts[query], options, true),
                  identity);
              EXPECT_TRUE(known->second == identity) << known->first;
            }
          }
        }
      }
    }
  }
}

TEST(DecisionCacheTest, ASessionCountsWhereTheRouterReadsIt) {
  router::RouteOptions here, there;
  here.session_node = "a";
  there.session_node = "b";
  const auto key = [](const router::RouteOptions& options, bool reads) {
    return DecisionCache::KeyOf("t", "main", "q", options, reads);
  };
  EXPECT_NE(key(here, true), key(there, true));
  EXPECT_EQ(key(here, false), key(there, false));
}

// One shard, so that the order of eviction is that of one list.
TEST(DecisionCachePropertyTest, HoldsWhatAModelHolds) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    const size_t capacity = 1 + random() % 12;
    DecisionCache cache(capacity);
    std::list<std::pair<std::string, std::string>> model;  // key, node; used last first
    std::map<std::string, std::string> tenant_of;
    int64_t evictions = 0;
    for (int step = 0; step < 400; ++step) {
      const std::string tenant = random() % 2 == 0 ? "a" : "b";
      const std::string key = Key("q" + std::to_string(random() % 20), tenant);
      tenant_of[key] = tenant;
      const auto known = std::find_if(model.begin(), model.end(),
                                      [&](const auto& entry) { return entry.first == key; });
      const int action = static_cast<int>(random() % 20);
      if (action == 0) {
        const CacheCounts flushed = cache.Flush(tenant);
        const size_t before = model.size();
        model.remove_if([&](const auto& entry) { return tenant_of.at(entry.first) == tenant; });
        EXPECT_EQ(flushed.entries, static_cast<int64_t>(before - model.size()));
      } else if (action < 10) {
        const auto found = cache.Find(key);
        ASSERT_EQ(found.has_value(), known != model.end());
        if (known == model.end()) continue;
        EXPECT_EQ(found->node(), known->second);
        model.splice(model.begin(), model, known);
      } else {
        const std::string node = "n" + std::to_string(step);
        cache.Put(tenant, key, DecisionFor(node), cache.epoch());
        if (known != model.end()) continue;  // the first one stays
        if (model.size() == capacity) {
          model.pop_back();
          ++evictions;
        }
        model.emplace_front(key, node);
      }
      const CacheCounts counts = cache.Counts("");
      ASSERT_EQ(counts.entries, static_cast<int64_t>(model.size()));
      ASSERT_EQ(counts.evictions, evictions);
      ASSERT_EQ(cache.Counts("a").entries + cache.Counts("b").entries, counts.entries);
      ASSERT_EQ(cache.Counts("a").bytes + cache.Counts("b").bytes, counts.bytes);
      if (model.empty()) {
        ASSERT_EQ(counts.bytes, 0);
      }
    }
  }
}

TEST(DecisionCacheTest, KeepsToItsBytesAndEntries) {
  constexpr size_t kBytes = size_t{256} << 10;
  DecisionCache cache(4096, kBytes);
  for (int i = 0; i < 5000; ++i) {
    cache.Put("t", Key(std::to_string(i) + std::string(200, 'x')), DecisionFor("n"), cache.epoch());
    ASSERT_LE(cache.Counts("").bytes, static_cast<int64_t>(kBytes));
  }
  EXPECT_GT(cache.Counts("").entries, 100);
  EXPECT_LE(cache.Counts("").entries, 4096);
  EXPECT_GT(cache.Counts("").evictions, 0);
  const int64_t writes = cache.Counts("").writes;
  cache.Put("t", Key(std::string(DecisionCache::kMaxEntryBytes, 'x')), DecisionFor("n"),
            cache.epoch());
  EXPECT_EQ(cache.Counts("").writes, writes);
}

TEST(DecisionCacheTest, ManyThreadsSeeWholeDecisions) {
  DecisionCache cache(200);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&cache, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < 3000; ++i) {
        const std::string name = std::to_string(random() % 400);
        if (const auto found = cache.Find(Key(name)); found.has_value()) {
          EXPECT_EQ(found->node(), name);
        } else {
          cache.Put("t", Key(name), DecisionFor(name), cache.epoch());
        }
        if (i % 1000 == 0) cache.Flush(i % 2000 == 0 ? "t" : "");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(cache.Counts("").entries, 200);
}

}  // namespace
}  // namespace octogate::gateway

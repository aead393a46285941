// What a cache of answers holds, against a model: the same words, similar ones by a plain search,
// expiry, and room.
#include "gateway/cache/answer_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <list>
#include <random>
#include <string>
#include <vector>

namespace octogate::gateway {
namespace {

v1::AnswerCache Settings(int max_entries, double threshold = 0) {
  v1::AnswerCache settings;
  settings.set_max_entries(max_entries);
  settings.set_expires_after_ms(60'000);
  settings.set_threshold(threshold);
  return settings;
}

AnswerKey Key(const std::string& query, const std::string& tenant = "t",
              const std::string& rest = "rest") {
  return {.tenant = tenant, .rest = tenant + rest, .query = query};
}

std::shared_ptr<const KeptAnswer> AnswerOf(const std::string& query, const std::string& text,
                                           absl::Time given_at) {
  auto answer = std::make_shared<KeptAnswer>();
  answer->query = query;
  answer->tokens.set_text(text);
  answer->given_at = given_at;
  return answer;
}

std::vector<float> RandomVector(std::mt19937* random) {
  std::normal_distribution<float> normal;
  std::vector<float> vector(8);
  double square = 0;
  for (float& value : vector) {
    value = normal(*random);
    square += double{value} * value;
  }
  for (float& value : vector) value /= static_cast<float>(std::sqrt(square));
  return vector;
}

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

class AnswerCacheTest : public testing::Test {
 protected:
  Clock TestClock() {
    return [this] { return now_; };
  }
  absl::Time now_ = absl::FromUnixSeconds(1'000'000);
};

TEST_F(AnswerCacheTest, AnswersExpire) {
  AnswerCache cache(Settings(10), AnswerCache::kMaxBytes, TestClock());
  cache.Put(Key("q"), AnswerOf("q", "a", now_), {}, cache.epoch());
  now_ += absl::Milliseconds(59'999);
  EXPECT_NE(cache.Find(Key("q")), nullptr);
  now_ += absl::Milliseconds(1);
  EXPECT_EQ(cache.Peek(Key("q")), nullptr);
  EXPECT_EQ(cache.Find(Key("q")), nullptr);
  EXPECT_EQ(cache.Counts("").entries, 0);
  EXPECT_EQ(cache.Counts("").bytes, 0);
  EXPECT_EQ(cache.Counts("").evictions, 0);
}

TEST_F(AnswerCacheTest, AClockThatIsSetBackMakesNothingGoodForLonger) {
  AnswerCache cache(Settings(10), AnswerCache::kMaxBytes, TestClock());
  cache.Put(Key("q"), AnswerOf("q", "a", now_), {}, cache.epoch());
  now_ -= absl::Hours(5);
  EXPECT_EQ(cache.Find(Key("q")), nullptr);
}

TEST_F(AnswerCacheTest, WhatWasKeptUnderOtherMarksIsNotFound) {
  AnswerCache cache(Settings(10, 0.5), AnswerCache::kMaxBytes, TestClock());
  AnswerKey before = Key("q"), after = Key("q");
  before.marks = "1";
  after.marks = "2";
  cache.Put(before, AnswerOf("q", "a", now_), {1, 0}, cache.epoch());
  for (const AnswerKey& key : {after, Key("q")}) {
    EXPECT_EQ(cache.Find(key), nullptr);
    EXPECT_EQ(cache.Peek(key), nullptr);
    EXPECT_EQ(cache.FindAlike(key, {1, 0}).answer, nullptr);
  }
  EXPECT_NE(cache.Find(before), nullptr);
  EXPECT_NE(cache.FindAlike(before, {1, 0}).answer, nullptr);
  cache.Put(after, AnswerOf("q", "b", now_), {1, 0}, cache.epoch());
  EXPECT_EQ(cache.Find(before)->tokens.text(), "a");
  EXPECT_EQ(cache.Find(after)->tokens.text(), "b");
}

TEST_F(AnswerCacheTest, WithoutEntriesItKeepsNothing) {
  AnswerCache cache{v1::AnswerCache()};
  EXPECT_FALSE(cache.enabled());
  cache.Put(Key("q"), AnswerOf("q", "a", absl::Now()), {}, cache.epoch());
  EXPECT_EQ(cache.Find(Key("q")), nullptr);
}

TEST_F(AnswerCacheTest, WholeKeysAreUnambiguous) {
  const AnswerKey a{.tenant = "t", .rest = "ab", .query = "c"};
  const AnswerKey b{.tenant = "t", .rest = "a", .query = "bc"};
  EXPECT_NE(a.Whole(), b.Whole());
}

TEST_F(AnswerCacheTest, VectorsOfAnotherSizeAndNotANumbersAreLikeNothing) {
  AnswerCache cache(Settings(10, 0.1), AnswerCache::kMaxBytes, TestClock());
  cache.Put(Key("q"), AnswerOf("q", "a", now_), {1, 0}, cache.epoch());
  EXPECT_EQ(cache.FindAlike(Key("p"), {1, 0, 0}).answer, nullptr);
  EXPECT_EQ(cache.FindAlike(Key("p"), {std::nanf(""), 0}).answer, nullptr);
  EXPECT_NE(cache.FindAlike(Key("p"), {1, 0}).answer, nullptr);
}

TEST_F(AnswerCacheTest, WhatWasUnderWayAtAFlushIsNotKept) {
  AnswerCache cache(Settings(10), AnswerCache::kMaxBytes, TestClock());
  const uint64_t before = cache.epoch();
  cache.Flush("another");
  cache.Put(Key("q"), AnswerOf("q", "a", now_), {}, before);
  EXPECT_EQ(cache.Find(Key("q")), nullptr);
  cache.Put(Key("q"), AnswerOf("q", "a", now_), {}, cache.epoch());
  EXPECT_NE(cache.Find(Key("q")), nullptr);
}

TEST_F(AnswerCacheTest, AnAnswerThatIsUsedForOtherWordsStays) {
  AnswerCache cache(Settings(2, 0.9), AnswerCache::kMaxBytes, TestClock());
  cache.Put(Key("a"), AnswerOf("a", "1", now_), {1, 0}, cache.epoch());
  cache.Put(Key("b"), AnswerOf("b", "2", now_), {0, 1}, cache.epoch());
  const AnswerCache::Alike alike = cache.FindAlike(Key("c"), {1, 0});
  ASSERT_NE(alike.answer, nullptr);
  cache.CountUse(Key("c"), *alike.answer);
  EXPECT_EQ(cache.Counts("").hits, 1);
  cache.Put(Key("d"), AnswerOf("d", "3", now_), {}, cache.epoch());
  EXPECT_NE(cache.Peek(Key("a")), nullptr);
  EXPECT_EQ(cache.Peek(Key("b")), nullptr);
}

TEST_F(AnswerCacheTest, OfManyTheLastOnesAreCompared) {
  constexpr size_t kMany = AnswerCache::kMaxCompared + 10;
  AnswerCache cache(Settings(kMany, 0.9), AnswerCache::kMaxBytes, TestClock());
  const auto put = [&](const std::string& query, const std::vector<float>& vector) {
    cache.Put(Key(query), AnswerOf(query, "a", now_), vector, cache.epoch());
  };
  put("first", {0, 1});
  for (size_t i = 1; i < kMany; ++i) put(std::to_string(i), {1, 0});
  EXPECT_EQ(cache.FindAlike(Key("q"), {0, 1}).answer, nullptr);
  // Each makes the oldest one go.
  put("new", {0, 1});
  put("newer", {1, 0});
  const AnswerCache::Alike alike = cache.FindAlike(Key("q"), {0, 1});
  ASSERT_NE(alike.answer, nullptr);
  EXPECT_EQ(alike.answer->query, "new");
}

TEST_F(AnswerCacheTest, HoldsWhatAModelHoldsAndFindsTheMostSimilar) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  struct Known {
    AnswerKey key;
    std::shared_ptr<const KeptAnswer> answer;
    std::vector<float> vector;
  };
  for (int round = 0; round < 10; ++round) {
    const size_t capacity = 1 + random() % 15;
    const double threshold = 0.2;
    AnswerCache cache(Settings(static_cast<int>(capacity), threshold), AnswerCache::kMaxBytes,
                      TestClock());
    std::list<Known> model;  // used last first
    for (int step = 0; step < 400; ++step) {
      now_ += absl::Milliseconds(random() % 2000);
      const AnswerKey key = Key("q" + std::to_string(random() % 12), random() % 2 == 0 ? "a" : "b",
                                random() % 3 == 0 ? "x" : "y");
      const auto good = [&](const Known& known) {
        return now_ - known.answer->given_at < absl::Minutes(1);
      };
      const auto known = std::find_if(model.begin(), model.end(), [&](const Known& candidate) {
        return candidate.key.Whole() == key.Whole();
      });
      switch (random() % 8) {
        case 0: {
          if (random() % 4 != 0) break;
          cache.Flush(key.tenant);
          model.remove_if([&](const Known& other) { return other.key.tenant == key.tenant; });
          break;
        }
        case 1:
        case 2:
        case 3: {
          const auto found = cache.Find(key);
          if (known == model.end()) {
            ASSERT_EQ(found, nullptr);
          } else if (!good(*known)) {
            ASSERT_EQ(found, nullptr);
            model.erase(known);
          } else {
            ASSERT_EQ(found, known->answer);
            model.splice(model.begin(), model, known);
          }
          break;
        }
        case 4:
        case 5: {
          const std::vector<float> vector = RandomVector(&random);
          double best = 0;
          for (const Known& other : model) {
            if (other.key.rest != key.rest || other.vector.empty() || !good(other)) continue;
            best = std::max(best, Cosine(other.vector, vector));
          }
          const AnswerCache::Alike alike = cache.FindAlike(key, vector);
          if (std::abs(best - threshold) < 1e-4) break;  // either is right
          ASSERT_EQ(alike.answer != nullptr, best > threshold);
          if (alike.answer != nullptr) {
            ASSERT_NEAR(alike.similarity, best, 1e-4);
          }
          break;
        }
        default: {
          const auto answer = AnswerOf(key.query, "text " + std::to_string(step), now_);
          std::vector<float> vector;
          if (random() % 3 != 0) vector = RandomVector(&random);
          cache.Put(key, answer, vector, cache.epoch());
          if (known != model.end()) model.erase(known);
          if (model.size() == capacity) model.pop_back();
          model.push_front({key, answer, vector});
        }
      }
      const CacheCounts counts = cache.Counts("");
      ASSERT_EQ(counts.entries, static_cast<int64_t>(model.size()));
      ASSERT_EQ(cache.Counts("a").bytes + cache.Counts("b").bytes, counts.bytes);
    }
  }
}

TEST_F(AnswerCacheTest, KeepsToItsBytes) {
  constexpr size_t kBytes = size_t{64} << 10;
  AnswerCache cache(Settings(100'000), kBytes, TestClock());
  for (int i = 0; i < 500; ++i) {
    const std::string query = std::to_string(i);
    cache.Put(Key(query), AnswerOf(query, std::string(1000, 'x'), now_), {1, 0}, cache.epoch());
    ASSERT_LE(cache.Counts("").bytes, static_cast<int64_t>(kBytes));
  }
  EXPECT_GT(cache.Counts("").entries, 10);
  EXPECT_NE(cache.Find(Key("499")), nullptr);
  cache.Put(Key("long"), AnswerOf("long", std::string(kBytes, 'x'), now_), {}, cache.epoch());
  EXPECT_EQ(cache.Find(Key("long")), nullptr);
  cache.Flush("");
  EXPECT_EQ(cache.Counts("").bytes, 0);
}

}  // namespace
}  // namespace octogate::gateway

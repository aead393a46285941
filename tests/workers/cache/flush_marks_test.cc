#include "workers/cache/flush_marks.h"

#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/workers/engine/fresh_seed.h"
#include "workers/engine/prefix_context.h"

namespace octogate::workers {
namespace {

constexpr char kSecret[] = "a secret of sixteen";

FlushMarks Marked(FlushMarks marks, const PageFlush& flush) {
  EXPECT_TRUE(AddMark(flush, kSecret, marks).ok());
  return marks;
}

std::string Context(std::string_view salt) { return PrefixContextOf(RopeRange::kShort, salt); }

std::string Epoch(const FlushMarks& marks, std::string_view salt) {
  return EpochOf(marks, Context(salt), kSecret);
}

const FlushMarks kFirst{.all = {.number = 1, .id = "first"}, .salts = {}};

TEST(FlushMarksTest, AFlushOfASaltChangesItsNamesAlone) {
  const FlushMarks one = Marked(kFirst, {.id = "x", .cache_salt = "a"});
  EXPECT_NE(Epoch(one, "a"), Epoch(kFirst, "a"));
  for (const char* other : {"", "b", "aa"}) EXPECT_EQ(Epoch(one, other), Epoch(kFirst, other));
  // Of both kinds of positions.
  EXPECT_EQ(EpochOf(one, PrefixContextOf(RopeRange::kLong, "a"), kSecret), Epoch(one, "a"));
  const FlushMarks all = Marked(one, {.id = "y", .cache_salt = std::nullopt});
  for (const char* salt : {"", "a", "b"}) {
    EXPECT_NE(Epoch(all, salt), Epoch(one, salt));
    EXPECT_NE(Epoch(all, salt), Epoch(kFirst, salt));
  }
  EXPECT_TRUE(all.salts.empty());
  // The empty salt is one, too.
  EXPECT_NE(Epoch(Marked(kFirst, {.id = "x", .cache_salt = ""}), ""), Epoch(kFirst, ""));
}

TEST(FlushMarksTest, TheSameFlushCountsOnce) {
  const PageFlush salt{.id = "x", .cache_salt = "a"};
  const PageFlush all{.id = "x", .cache_salt = std::nullopt};
  EXPECT_EQ(Marked(Marked(kFirst, salt), salt), Marked(kFirst, salt));
  EXPECT_EQ(Marked(Marked(kFirst, all), all), Marked(kFirst, all));
  EXPECT_NE(Marked(Marked(kFirst, all), {.id = "y", .cache_salt = std::nullopt}),
            Marked(kFirst, all));
}

TEST(FlushMarksTest, TellsWhatWasFlushedBetweenTwoReads) {
  const auto flushed = [](const std::optional<FlushMarks>& before, const FlushMarks& now) {
    std::string salts;
    const ContextFilter filter = FlushedBetween(before, now, kSecret);
    if (filter == nullptr) return std::string("nothing");
    for (const char* salt : {"a", "b", "c"}) {
      if (filter(Context(salt))) salts += salt;
    }
    return salts;
  };
  const FlushMarks a = Marked(kFirst, {.id = "x", .cache_salt = "a"});
  const FlushMarks ab = Marked(a, {.id = "y", .cache_salt = "b"});
  EXPECT_EQ(flushed(std::nullopt, kFirst), "abc");
  EXPECT_EQ(flushed(a, a), "nothing");
  EXPECT_EQ(flushed(kFirst, a), "a");
  EXPECT_EQ(flushed(kFirst, ab), "ab");
  EXPECT_EQ(flushed(a, ab), "b");
  EXPECT_EQ(flushed(ab, Marked(ab, {.id = "z", .cache_salt = "a"})), "a");
  EXPECT_EQ(flushed(ab, Marked(ab, {.id = "z", .cache_salt = std::nullopt})), "abc");
}

// Whoever has heard of which flushes, in whatever order they tell each other.
TEST(FlushMarksTest, MergedMarksAreTheSameForAllAndForgetNoFlush) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    std::vector<FlushMarks> engines(3, kFirst);
    for (int i = 0; i < 12; ++i) {
      FlushMarks& marks = engines[random() % engines.size()];
      if (random() % 3 == 0) marks = MergeMarks(marks, engines[random() % engines.size()]);
      PageFlush flush{.id = absl::StrCat(random() % 1000), .cache_salt = std::nullopt};
      if (random() % 3 > 0) {
        flush.cache_salt = std::string(1, static_cast<char>('a' + random() % 3));
      }
      marks = Marked(marks, flush);
    }
    FlushMarks merged = kFirst;
    for (const FlushMarks& marks : engines) merged = MergeMarks(merged, marks);
    FlushMarks backwards = kFirst;
    for (size_t i = engines.size(); i-- > 0;) backwards = MergeMarks(engines[i], backwards);
    EXPECT_EQ(merged, backwards);
    EXPECT_EQ(MergeMarks(merged, merged), merged);
    for (const FlushMarks& marks : engines) {
      EXPECT_EQ(MergeMarks(merged, marks), merged);
      EXPECT_GE(merged.all, marks.all);
      if (merged.all != marks.all) continue;
      for (const auto& [salt, mark] : marks.salts) EXPECT_GE(merged.salts.at(salt), mark);
    }
  }
}

TEST(FlushMarksTest, AreBounded) {
  FlushMarks full = kFirst;
  for (size_t i = 0; i < FlushMarks::kMaxSalts; ++i) {
    full = Marked(std::move(full), {.id = "x", .cache_salt = absl::StrCat("tenant", i)});
  }
  const absl::StatusOr<FlushMarks> read = OpenMarks(SealMarks(full, "n", kSecret), "n", kSecret);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, full);
  FlushMarks more = full;
  EXPECT_TRUE(absl::IsResourceExhausted(AddMark({.id = "y", .cache_salt = "z"}, kSecret, more)));
  EXPECT_EQ(more, full);
  // One that is there already may be flushed again, and all may be.
  EXPECT_NE(Marked(full, {.id = "y", .cache_salt = "tenant7"}), full);
  EXPECT_TRUE(Marked(full, {.id = "y", .cache_salt = std::nullopt}).salts.empty());
  // Where two know too many together, everything is flushed, and both say so.
  const FlushMarks other = Marked(kFirst, {.id = "y", .cache_salt = "z"});
  const FlushMarks merged = MergeMarks(full, other);
  EXPECT_TRUE(merged.salts.empty());
  EXPECT_GT(merged.all, full.all);
  EXPECT_EQ(merged, MergeMarks(other, full));
  EXPECT_EQ(MergeMarks(merged, other), merged);
}

TEST(FlushMarksTest, BelievesNothingButWhatWasSealedUnderThatName) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  FlushMarks marks = Marked(kFirst, {.id = "x1", .cache_salt = "a"});
  marks = Marked(std::move(marks), {.id = "x2", .cache_salt = "b"});
  for (const std::string& secret : {std::string(), std::string(kSecret)}) {
    const std::string sealed = SealMarks(marks, "name", secret);
    EXPECT_EQ(OpenMarks(sealed, "name", secret).value_or(FlushMarks()), marks);
    EXPECT_TRUE(absl::IsDataLoss(OpenMarks(sealed, "nama", secret).status()));
    EXPECT_TRUE(absl::IsDataLoss(OpenMarks(sealed, "name", secret + "x").status()));
    EXPECT_TRUE(absl::IsDataLoss(OpenMarks(sealed + "\n", "name", secret).status()));
    for (size_t i = 0; i < sealed.size(); ++i) {
      std::string wrong = sealed;
      wrong[i] = static_cast<char>(wrong[i] ^ (1 << random() % 8));
      EXPECT_TRUE(absl::IsDataLoss(OpenMarks(wrong, "name", secret).status())) << i;
      EXPECT_TRUE(absl::IsDataLoss(OpenMarks(sealed.substr(0, i), "name", secret).status())) << i;
    }
  }
  // Rightly sealed, but no marks: ids and numbers of others.
  const auto opens = [](const FlushMarks& wrong) {
    return OpenMarks(SealMarks(wrong, "name", kSecret), "name", kSecret).ok();
  };
  EXPECT_TRUE(opens(kFirst));
  EXPECT_FALSE(opens({.all = {.number = 1, .id = ""}, .salts = {}}));
  EXPECT_FALSE(opens({.all = {.number = 1, .id = "a b"}, .salts = {}}));
  EXPECT_FALSE(opens({.all = {.number = 1, .id = "a\nb"}, .salts = {}}));
  EXPECT_FALSE(opens({.all = {.number = 1, .id = std::string(65, 'a')}, .salts = {}}));
  EXPECT_FALSE(opens({.all = {.number = ~uint64_t{0}, .id = "a"}, .salts = {}}));
  EXPECT_FALSE(opens({.all = {.number = 1, .id = "a"}, .salts = {{"short", {1, "a"}}}}));
}

}  // namespace
}  // namespace octogate::workers

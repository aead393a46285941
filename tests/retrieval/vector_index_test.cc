#include "retrieval/vector_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "retrieval/dot_product.h"

namespace octogate::retrieval {
namespace {

using Vector = std::vector<float>;

// Vectors around a few centers, as texts about a few subjects have them.
class VectorIndexTest : public testing::Test {
 protected:
  VectorIndexTest() : seed_(std::random_device{}()), random_(seed_) {
    char path[] = "/tmp/vector_index_test.XXXXXX";
    folder_ = mkdtemp(path);
  }
  ~VectorIndexTest() override { std::filesystem::remove_all(folder_); }

  size_t Below(size_t bound) { return random_() % bound; }

  static Vector Unit(Vector vector) {
    double squares = 0;
    for (const float value : vector) squares += double{value} * double{value};
    for (float& value : vector) value = static_cast<float>(value / std::sqrt(squares));
    return vector;
  }

  Vector Noise(size_t dimension) {
    Vector vector(dimension);
    for (float& value : vector) value = normal_(random_);
    return vector;
  }

  Vector Clustered(size_t dimension) {
    while (centers_.size() < 40) centers_.push_back(Unit(Noise(dimension)));
    const Vector& center = centers_[Below(centers_.size())];
    Vector vector = Noise(dimension);
    const float spread = 0.8F / std::sqrt(static_cast<float>(dimension));
    for (size_t i = 0; i < dimension; ++i) vector[i] = center[i] + spread * vector[i];
    return Unit(vector);
  }

  std::unique_ptr<VectorIndex> Make(size_t dimension, size_t exact_up_to) {
    auto index =
        VectorIndex::Create({.dimension = dimension, .exact_up_to = exact_up_to, .links = 16});
    EXPECT_TRUE(index.ok()) << index.status();
    return *std::move(index);
  }

  // Adds in calls of random sizes.
  void Fill(VectorIndex* index, std::map<int64_t, Vector>* all, size_t count, int64_t first = 0) {
    const size_t dimension = index->dimension();
    for (size_t left = count; left > 0;) {
      const size_t some = 1 + Below(left);
      std::vector<int64_t> ids;
      Vector values;
      for (size_t i = 0; i < some; ++i) {
        ids.push_back(first + static_cast<int64_t>(all->size()));
        const Vector& vector = (*all)[ids.back()] = Clustered(dimension);
        values.insert(values.end(), vector.begin(), vector.end());
      }
      ASSERT_TRUE(index->Add(ids, values).ok());
      left -= some;
    }
  }

  // Over a map, sorted whole.
  template <typename Allow>
  static std::vector<int64_t> BruteForce(const std::map<int64_t, Vector>& all, const Vector& query,
                                         size_t k, Allow allow) {
    std::vector<std::pair<float, int64_t>> scored;
    for (const auto& [id, vector] : all) {
      if (!allow(id)) continue;
      scored.emplace_back(-PlainDotProduct(query.data(), vector.data(), query.size()), id);
    }
    std::sort(scored.begin(), scored.end());
    std::vector<int64_t> ids;
    for (size_t i = 0; i < std::min(k, scored.size()); ++i) ids.push_back(scored[i].second);
    return ids;
  }

  static std::vector<int64_t> Ids(const std::vector<VectorHit>& hits) {
    std::vector<int64_t> ids;
    for (const VectorHit& hit : hits) ids.push_back(hit.id);
    return ids;
  }

  static void ExpectScoresInOrder(const std::vector<VectorHit>& hits,
                                  const std::map<int64_t, Vector>& all, const Vector& query) {
    for (size_t i = 0; i < hits.size(); ++i) {
      ASSERT_EQ(hits[i].score,
                PlainDotProduct(query.data(), all.at(hits[i].id).data(), query.size()));
      if (i == 0) continue;
      ASSERT_TRUE(hits[i - 1].score > hits[i].score ||
                  (hits[i - 1].score == hits[i].score && hits[i - 1].id < hits[i].id));
    }
  }

  std::string Path(const std::string& name) const { return absl::StrCat(folder_, "/", name); }

  const unsigned seed_;
  const testing::ScopedTrace trace_{__FILE__, __LINE__, testing::Message() << "seed " << seed_};
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  std::vector<Vector> centers_;
  std::string folder_;
};

TEST_F(VectorIndexTest, EveryInstructionSetGivesTheSameBits) {
  for (size_t size = 0; size < 200; ++size) {
    const Vector a = Noise(size);
    const Vector b = Noise(size);
    const float plain = PlainDotProduct(a.data(), b.data(), size);
    ASSERT_EQ(FindDotProduct()(a.data(), b.data(), size), plain);
    double exact = 0;
    for (size_t i = 0; i < size; ++i) exact += double{a[i]} * double{b[i]};
    ASSERT_NEAR(plain, exact, 1e-5 * (1 + static_cast<double>(size)));
  }
}

TEST_F(VectorIndexTest, ExactSearchFindsWhatComparingAllFinds) {
  for (int round = 0; round < 10; ++round) {
    centers_.clear();
    const size_t dimension = 1 + Below(70) + (round == 0 ? 0 : 3);
    const auto index = Make(dimension, 100'000);
    std::map<int64_t, Vector> all;
    Fill(index.get(), &all, Below(400), -50);
    ASSERT_EQ(index->size(), all.size());
    ASSERT_TRUE(index->exact());
    for (int q = 0; q < 20; ++q) {
      const Vector query = Noise(dimension);
      const size_t k = Below(40);
      const auto hits = index->Search(query, k);
      ASSERT_TRUE(hits.ok());
      std::vector<VectorHit> expected;
      for (const auto& [id, vector] : all) {
        expected.push_back({id, PlainDotProduct(query.data(), vector.data(), dimension)});
      }
      std::stable_sort(expected.begin(), expected.end(),
                       [](const auto& a, const auto& b) { return a.score > b.score; });
      expected.resize(std::min(k, expected.size()));
      ASSERT_EQ(*hits, expected);
    }
  }
}

TEST_F(VectorIndexTest, EquallyNearOnesComeByTheirIds) {
  for (const size_t exact_up_to : {1000, 0}) {
    const auto index = Make(4, exact_up_to);
    const Vector same = {0.5F, 0.5F, 0.5F, 0.5F};
    std::vector<int64_t> ids(40);
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i) - 20;
    std::shuffle(ids.begin(), ids.end(), random_);
    for (const int64_t id : ids) ASSERT_TRUE(index->Add({{id}}, same).ok());
    std::sort(ids.begin(), ids.end());
    const auto hits = index->Search(same, 30);
    ASSERT_TRUE(hits.ok());
    ids.resize(30);
    if (index->exact()) {
      EXPECT_EQ(Ids(*hits), ids);
    } else {
      EXPECT_TRUE(std::is_sorted(hits->begin(), hits->end(),
                                 [](const auto& a, const auto& b) { return a.id < b.id; }));
    }
  }
}

TEST_F(VectorIndexTest, TheGraphFindsNearlyAllOfTheNearest) {
  const size_t dimension = 32;
  const auto index = Make(dimension, 500);
  std::map<int64_t, Vector> all;
  Fill(index.get(), &all, 6000);
  ASSERT_FALSE(index->exact());
  size_t found = 0;
  size_t wanted = 0;
  for (int q = 0; q < 200; ++q) {
    const Vector query = Clustered(dimension);
    const auto hits = index->Search(query, 10);
    ASSERT_TRUE(hits.ok());
    ASSERT_EQ(hits->size(), 10U);
    ASSERT_NO_FATAL_FAILURE(ExpectScoresInOrder(*hits, all, query));
    ASSERT_EQ(*hits, *index->Search(query, 10)) << "searches are repeatable";
    const std::vector<int64_t> ids = Ids(*hits);
    for (const int64_t id : BruteForce(all, query, 10, [](int64_t) { return true; })) {
      ++wanted;
      found += std::find(ids.begin(), ids.end(), id) != ids.end() ? 1 : 0;
    }
  }
  EXPECT_GE(static_cast<double>(found), 0.95 * static_cast<double>(wanted));
}

TEST_F(VectorIndexTest, EqualCallsBuildEqualGraphs) {
  const size_t dimension = 16;
  Vector values;
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < 2000; ++i) {
    ids.push_back(i);
    const Vector vector = Clustered(dimension);
    values.insert(values.end(), vector.begin(), vector.end());
  }
  const auto a = Make(dimension, 0);
  const auto b = Make(dimension, 0);
  ASSERT_TRUE(a->Add(ids, values).ok());
  std::thread([&] { ASSERT_TRUE(b->Add(ids, values).ok()); }).join();
  ASSERT_TRUE(a->Save(Path("a")).ok());
  ASSERT_TRUE(b->Save(Path("b")).ok());
  const auto bytes = [](const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  EXPECT_EQ(bytes(Path("a")), bytes(Path("b")));
}

// With few allowed, with most, with all and none; by ids, by ranges, by both.
TEST_F(VectorIndexTest, OnlyWhatIsSelectedIsFoundAndNothingOfItIsMissed) {
  const size_t dimension = 12;
  for (const size_t exact_up_to : {10'000, 300}) {
    centers_.clear();
    const auto index = Make(dimension, exact_up_to);
    std::map<int64_t, Vector> all;
    Fill(index.get(), &all, 1500, 100);
    size_t found = 0;
    size_t wanted = 0;
    for (int q = 0; q < 60; ++q) {
      std::vector<int64_t> ids;
      std::vector<IdRange> ranges;
      if (q % 3 != 0) {
        for (size_t n = Below(q % 2 == 0 ? 20 : 3000); n > 0; --n) {
          ids.push_back(static_cast<int64_t>(Below(2000)));
        }
      }
      if (q % 3 != 1) {
        for (size_t n = Below(5); n > 0; --n) {
          const auto begin = static_cast<int64_t>(Below(2000));
          ranges.push_back({begin, begin + static_cast<int64_t>(Below(900)) - 10});
        }
      }
      const std::set<int64_t> listed(ids.begin(), ids.end());
      const auto allow = [&](int64_t id) {
        return listed.contains(id) ||
               std::any_of(ranges.begin(), ranges.end(), [id](const IdRange& range) {
                 return range.begin <= id && id < range.end;
               });
      };
      const VectorSelector selector = {.ids = ids, .ranges = ranges};
      const Vector query = Clustered(dimension);
      const auto hits = index->Search(query, 15, {.selector = &selector});
      ASSERT_TRUE(hits.ok());
      ASSERT_NO_FATAL_FAILURE(ExpectScoresInOrder(*hits, all, query));
      for (const VectorHit& hit : *hits) ASSERT_TRUE(allow(hit.id)) << hit.id;
      const std::vector<int64_t> expected = BruteForce(all, query, 15, allow);
      ASSERT_EQ(hits->size(), expected.size());
      const auto allowed = static_cast<size_t>(
          std::count_if(all.begin(), all.end(), [&](const auto& own) { return allow(own.first); }));
      const std::vector<int64_t> got = Ids(*hits);
      size_t own = 0;
      for (const int64_t id : expected) own += std::count(got.begin(), got.end(), id);
      if (allowed <= exact_up_to) {
        ASSERT_EQ(own, expected.size());
      }
      found += own;
      wanted += expected.size();
    }
    EXPECT_GE(static_cast<double>(found), 0.95 * static_cast<double>(wanted));
  }
}

// Against a map, through additions, removals and the rebuilding that follows.
TEST_F(VectorIndexTest, WhatIsRemovedIsGoneAndItsIdFree) {
  const size_t dimension = 8;
  for (const size_t exact_up_to : {10'000, 100}) {
    centers_.clear();
    const auto index = Make(dimension, exact_up_to);
    std::map<int64_t, Vector> all;
    for (int step = 0; step < 60; ++step) {
      if (step % 3 != 2) {
        std::vector<int64_t> ids;
        Vector values;
        for (size_t n = 1 + Below(40); n > 0; --n) {
          const auto id = static_cast<int64_t>(Below(3000));
          if (all.contains(id)) continue;
          ids.push_back(id);
          const Vector& vector = all[id] = Clustered(dimension);
          values.insert(values.end(), vector.begin(), vector.end());
        }
        ASSERT_TRUE(index->Add(ids, values).ok());
      } else {
        std::vector<int64_t> ids = {-1};
        for (const auto& [id, vector] : all) {
          if (Below(step % 4 == 0 ? 8 : 2) != 0) ids.push_back(id);
        }
        ASSERT_EQ(index->Remove(ids), ids.size() - 1);
        ASSERT_EQ(index->Remove(ids), 0U);
        for (const int64_t id : ids) all.erase(id);
      }
      ASSERT_EQ(index->size(), all.size());
      const Vector query = Clustered(dimension);
      const auto hits = index->Search(query, all.size() + 5);
      ASSERT_TRUE(hits.ok());
      ASSERT_NO_FATAL_FAILURE(ExpectScoresInOrder(*hits, all, query));
      ASSERT_EQ(hits->size(), all.size());
    }
    const size_t full = index->bytes();
    std::vector<int64_t> ids;
    for (const auto& [id, vector] : all) ids.push_back(id);
    EXPECT_EQ(index->Remove(ids), all.size());
    EXPECT_TRUE(index->Search(Clustered(dimension), 3)->empty());
    ASSERT_TRUE(index->Add({{7}}, Clustered(dimension)).ok());
    EXPECT_EQ(index->Search(Clustered(dimension), 3)->size(), 1U);
    EXPECT_LT(index->bytes(), full) << "memory is given back";
  }
}

TEST_F(VectorIndexTest, AFileAnswersAsTheIndexDid) {
  for (const size_t exact_up_to : {10'000, 200, 900}) {
    for (const bool map : {false, true}) {
      SCOPED_TRACE(absl::StrCat(exact_up_to, map ? ", mapped" : ""));
      centers_.clear();
      const size_t dimension = 1 + Below(40) + 4;
      const auto index = Make(dimension, exact_up_to);
      std::map<int64_t, Vector> all;
      Fill(index.get(), &all, 700 + Below(100));
      const std::vector<int64_t> gone = {0, 5, 17, 600};
      ASSERT_EQ(index->Remove(gone), gone.size());
      ASSERT_TRUE(index->Save(Path("index")).ok());
      ASSERT_TRUE(index->Save(Path("index")).ok()) << "a file in its place is replaced";
      const auto loaded =
          VectorIndex::Load(Path("index"), {.exact_up_to = exact_up_to, .links = 16}, map);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ((*loaded)->mapped_bytes() > 0, map);
      ASSERT_EQ((*loaded)->dimension(), dimension);
      const auto same = [&] {
        ASSERT_EQ((*loaded)->size(), index->size());
        ASSERT_EQ((*loaded)->exact(), index->exact());
        for (int q = 0; q < 30; ++q) {
          const Vector query = Clustered(dimension);
          ASSERT_EQ(*(*loaded)->Search(query, 20), *index->Search(query, 20));
        }
      };
      ASSERT_NO_FATAL_FAILURE(same());
      std::vector<int64_t> ids;
      Vector values;
      for (int64_t id = 5000; id < 5300; ++id) {
        ids.push_back(id);
        const Vector vector = Clustered(dimension);
        values.insert(values.end(), vector.begin(), vector.end());
      }
      for (VectorIndex* each : {index.get(), loaded->get()}) {
        ASSERT_TRUE(each->Add(ids, values).ok());
        ASSERT_EQ(each->Remove({{3, 5100}}), 2U);
      }
      ASSERT_NO_FATAL_FAILURE(same());
    }
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1)
      << "no temporary files are left";
}

TEST_F(VectorIndexTest, AnEmptyIndexIsSavedToo) {
  for (const size_t exact_up_to : {1000, 0}) {
    ASSERT_TRUE(Make(3, exact_up_to)->Save(Path("empty")).ok());
    const auto loaded = VectorIndex::Load(Path("empty"), {.exact_up_to = exact_up_to}, true);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_TRUE((*loaded)->Search(Vector{1, 0, 0}, 5)->empty());
    ASSERT_TRUE((*loaded)->Add({{1}}, Vector{1, 0, 0}).ok());
    EXPECT_EQ((*loaded)->Search(Vector{1, 0, 0}, 5)->size(), 1U);
  }
}

// Every cut and every changed byte; with the checksum made right again, nothing but the contents
// can give a change away, and whatever is let through can be searched.
TEST_F(VectorIndexTest, DamagedAndHostileFilesAreNoDanger) {
  for (const size_t exact_up_to : {1000, 20}) {
    centers_.clear();
    const auto index = Make(5, exact_up_to);
    std::map<int64_t, Vector> all;
    Fill(index.get(), &all, 60);
    index->Remove({{4, 8}});
    ASSERT_TRUE(index->Save(Path("whole")).ok());
    std::ifstream file(Path("whole"), std::ios::binary);
    const std::string whole(std::istreambuf_iterator<char>(file), {});
    const auto load = [&](const std::string& bytes, bool map) {
      // Not in the place of the last one: file systems take their time over that.
      std::filesystem::remove(Path("other"));
      std::ofstream(Path("other"), std::ios::binary | std::ios::trunc) << bytes;
      return VectorIndex::Load(Path("other"), {.exact_up_to = exact_up_to, .links = 16}, map);
    };
    const auto expect_refused = [&](const std::string& bytes) {
      const absl::Status status = load(bytes, Below(2) == 0).status();
      ASSERT_TRUE(absl::IsDataLoss(status) || absl::IsInvalidArgument(status)) << status;
    };
    ASSERT_TRUE(load(whole, false).ok());
    for (int i = 0; i < 100; ++i) {
      ASSERT_NO_FATAL_FAILURE(expect_refused(whole.substr(0, Below(whole.size()))));
    }
    ASSERT_NO_FATAL_FAILURE(expect_refused(whole + "x"));
    for (int i = 0; i < 400; ++i) {
      std::string changed = whole;
      // The header half of the time.
      char& byte = changed[Below(i % 2 == 0 ? 64 : whole.size())];
      byte = static_cast<char>(byte ^ (1 << Below(8)));
      ASSERT_NO_FATAL_FAILURE(expect_refused(changed));
    }
    // The format's checksum, as its description has it, over all but itself.
    const auto with_checksum = [](std::string bytes) {
      uint64_t value = 0xCBF29CE484222325;
      for (size_t at = 0; at + 4 <= bytes.size(); at += 4) {
        if (at == 56 || at == 60) continue;
        uint32_t word;
        std::memcpy(&word, &bytes[at], 4);
        value = (value ^ word) * 0x9E3779B97F4A7C15;
        value ^= value >> 32;
      }
      std::memcpy(&bytes[56], &value, 8);
      return bytes;
    };
    ASSERT_EQ(with_checksum(whole), whole);
    int refused = 0;
    for (int i = 0; i < 1500; ++i) {
      std::string changed = whole;
      for (size_t n = 1 + Below(3); n > 0; --n) {
        const size_t at = Below(whole.size() / 4) * 4;
        const auto word = static_cast<int32_t>(Below(3) == 0 ? random_() : Below(80));
        std::memcpy(&changed[i % 4 == 0 ? at % 64 : at], &word, 4);
      }
      const auto loaded = load(with_checksum(changed), i % 2 == 0);
      if (!loaded.ok()) {
        ++refused;
        continue;
      }
      for (int q = 0; q < 3; ++q) {
        const auto hits = (*loaded)->Search(Clustered((*loaded)->dimension()), 10);
        ASSERT_TRUE(hits.ok()) << hits.status();
        ASSERT_LE(hits->size(), 10U);
      }
      centers_.clear();
      (void)(*loaded)->Add({{99'999}}, Unit(Noise((*loaded)->dimension())));
    }
    EXPECT_GT(refused, 100);
  }
}

TEST_F(VectorIndexTest, WhatIsNoFileIsAnError) {
  EXPECT_EQ(VectorIndex::Load(Path("none"), {}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(VectorIndex::Load(folder_, {}).ok());
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_FALSE(VectorIndex::Load(Path("pipe"), {}).ok());
  EXPECT_FALSE(Make(3, 10)->Save(Path("none/index")).ok());
  ASSERT_TRUE(Make(3, 10)->Save(Path("three")).ok());
  EXPECT_EQ(VectorIndex::Load(Path("three"), {.dimension = 4}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(VectorIndexTest, WrongCallsAreRefusedWhole) {
  EXPECT_FALSE(VectorIndex::Create({}).ok());
  EXPECT_FALSE(VectorIndex::Create({.dimension = VectorIndex::kMaxDimension + 1}).ok());
  EXPECT_FALSE(VectorIndex::Create({.dimension = 3, .links = -1}).ok());
  EXPECT_FALSE(VectorIndex::Create({.dimension = 3, .build_threads = 0}).ok());
  const auto index = Make(2, 10);
  ASSERT_TRUE(index->Add({{1}}, Vector{1, 0}).ok());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(index->Add({{2}}, Vector{1, 0, 0}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index->Add({{2, 3}}, Vector{1, 0}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index->Add({{2, 3}}, Vector{1, 0, 2, 0}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index->Add({{2, 3}}, Vector{1, 0, nan, 0}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(index->Add({{2, 1}}, Vector{1, 0, 0, 1}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(index->Add({{2, 2}}, Vector{1, 0, 0, 1}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(index->size(), 1U) << "none is added where one cannot be";
  EXPECT_FALSE(index->Search(Vector{1}, 1).ok());
  EXPECT_FALSE(index->Search(Vector{1, nan}, 1).ok());
  EXPECT_FALSE(index->Search(Vector{1, 1e30F}, 1).ok());
  EXPECT_EQ(index->Search(Vector{3, 4}, 1)->front(), (VectorHit{1, 3}));
}

TEST_F(VectorIndexTest, ManyThreadsSearchAtOnce) {
  const size_t dimension = 16;
  const auto index = Make(dimension, 100);
  std::map<int64_t, Vector> all;
  Fill(index.get(), &all, 1000);
  const Vector query = Clustered(dimension);
  const auto expected = *index->Search(query, 10);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) EXPECT_EQ(*index->Search(query, 10), expected);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace octogate::retrieval

// The nearest rows by codes, against sorting all products.
#include "retrieval/coded_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "retrieval/dot_product.h"

namespace octogate::retrieval {
namespace {

class CodedRowsTest : public testing::Test {
 protected:
  size_t Below(size_t bound) { return random_() % bound; }

  std::vector<float> Noise(size_t dimension) {
    std::vector<float> vector(dimension);
    for (float& value : vector) value = normal_(random_);
    return vector;
  }

  static void MakeUnit(float* vector, size_t dimension) {
    double squares = 0;
    for (size_t k = 0; k < dimension; ++k) squares += double{vector[k]} * double{vector[k]};
    for (size_t k = 0; k < dimension; ++k) {
      vector[k] = static_cast<float>(vector[k] / std::sqrt(squares));
    }
  }

  // Unit vectors with something in common, as those of texts have; `shared` of it.
  std::vector<float> Rows(size_t count, size_t dimension, float shared) {
    const std::vector<float> common = Noise(dimension);
    std::vector<float> rows;
    for (size_t i = 0; i < count; ++i) {
      std::vector<float> row = Noise(dimension);
      for (size_t k = 0; k < dimension; ++k) row[k] += shared * common[k];
      MakeUnit(row.data(), dimension);
      rows.insert(rows.end(), row.begin(), row.end());
    }
    return rows;
  }

  // Like one of the rows, by a cosine of about 1 / sqrt(1 + noise^2).
  std::vector<float> QueryLike(const std::vector<float>& rows, size_t row, size_t dimension,
                               float noise) {
    std::vector<float> query = Noise(dimension);
    for (size_t k = 0; k < dimension; ++k) {
      query[k] =
          rows[row * dimension + k] + noise * query[k] / std::sqrt(static_cast<float>(dimension));
    }
    MakeUnit(query.data(), dimension);
    return query;
  }

  static std::vector<RowHit> ByProduct(const std::vector<float>& rows,
                                       const std::vector<float>& query, size_t k) {
    std::vector<RowHit> hits;
    for (uint32_t row = 0; row < rows.size() / query.size(); ++row) {
      hits.push_back(
          {row, FindDotProduct()(query.data(), &rows[row * query.size()], query.size())});
    }
    std::sort(hits.begin(), hits.end(), [](const RowHit& a, const RowHit& b) {
      return a.score != b.score ? a.score > b.score : a.row < b.row;
    });
    hits.resize(std::min(k, hits.size()));
    return hits;
  }

  const unsigned seed_ = std::random_device{}();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, absl::StrCat("seed ", seed_)};
  std::mt19937 random_{seed_};
  std::normal_distribution<float> normal_;
};

TEST_F(CodedRowsTest, EveryMachineCountsTheSameBits) {
  for (int round = 0; round < 50; ++round) {
    const size_t blocks = 1 + Below(9);
    const size_t words = 1 + Below(12);
    std::vector<uint64_t> codes(blocks * 8 * words);
    std::vector<uint64_t> planes(4 * words);
    for (uint64_t& code : codes) code = (uint64_t{random_()} << 32) | random_();
    for (uint64_t& plane : planes) plane = (uint64_t{random_()} << 32) | random_();
    std::vector<uint32_t> sums(blocks * 8);
    SumSharedBits(codes.data(), blocks, words, planes.data(), sums.data());
    std::vector<uint32_t> plain(blocks * 8);
    PlainSumSharedBits(codes.data(), blocks, words, planes.data(), plain.data());
    ASSERT_EQ(sums, plain);
    // And those that a loop over bits counts.
    const size_t row = Below(blocks * 8);
    uint32_t sum = 0;
    for (size_t word = 0; word < words; ++word) {
      for (size_t bit = 0; bit < 64; ++bit) {
        if ((codes[(row / 8 * words + word) * 8 + row % 8] >> bit & 1) == 0) continue;
        for (size_t p = 0; p < 4; ++p) sum += (planes[p * words + word] >> bit & 1) << p;
      }
    }
    ASSERT_EQ(sums[row], sum);
  }
}

TEST_F(CodedRowsTest, FewRowsAreComparedExactly) {
  for (int round = 0; round < 20; ++round) {
    const size_t dimension = 1 + Below(100);
    const size_t count = Below(CodedRows::kExactUpTo / 4);
    std::vector<float> rows = Rows(count, dimension, 0.5);
    // Equal rows: the smaller one first.
    if (count > 1)
      std::copy_n(rows.begin(), dimension, rows.end() - static_cast<ptrdiff_t>(dimension));
    const CodedRows coded(dimension, rows);
    ASSERT_EQ(coded.size(), count);
    const std::vector<float> query = Noise(dimension);
    const size_t k = Below(count + 3);
    ASSERT_EQ(coded.Search(query, k, k), ByProduct(rows, query, k));
  }
}

// Where as many are compared as there are, codes do not matter; else scores are exact all the same.
TEST_F(CodedRowsTest, ManyRowsAreFoundByTheirCodesAndScoredExactly) {
  const size_t count = CodedRows::kExactUpTo + 500 + Below(3000);
  for (const size_t dimension : {64, 384}) {
    const std::vector<float> rows = Rows(count, dimension, 0.7F);
    const CodedRows coded(dimension, rows);
    int first = 0;
    size_t found = 0;
    constexpr size_t kNearest = 32;
    constexpr int kQueries = 200;
    for (int i = 0; i < kQueries; ++i) {
      const std::vector<float> query = QueryLike(rows, Below(count), dimension, 1);
      const std::vector<RowHit> expected = ByProduct(rows, query, kNearest);
      const std::vector<RowHit> actual = coded.Search(query, kNearest, 512);
      ASSERT_EQ(actual.size(), kNearest);
      first += actual.front() == expected.front() ? 1 : 0;
      for (const RowHit& hit : actual) {
        ASSERT_EQ(hit.score, FindDotProduct()(query.data(), &rows[hit.row * dimension], dimension));
        found += std::count(expected.begin(), expected.end(), hit) > 0 ? 1 : 0;
      }
      ASSERT_EQ(coded.Search(query, kNearest, count), expected);
      ASSERT_EQ(coded.Search(query, kNearest, 512), actual);
    }
    const double recall = static_cast<double>(found) / (kQueries * kNearest);
    RecordProperty(absl::StrCat("first_", dimension), first);
    RecordProperty(absl::StrCat("recall_", dimension), absl::StrCat(recall));
    EXPECT_GE(first, 0.98 * kQueries);
    EXPECT_GE(recall, 0.85);
  }
}

TEST_F(CodedRowsTest, DegenerateRowsAndQueriesAreNoError) {
  const size_t dimension = 1 + Below(130);
  // All rows are the same: no code says anything.
  std::vector<float> rows;
  const std::vector<float> one = Rows(1, dimension, 0);
  for (size_t i = 0; i < CodedRows::kExactUpTo + 10; ++i) {
    rows.insert(rows.end(), one.begin(), one.end());
  }
  const CodedRows same(dimension, rows);
  ASSERT_EQ(same.Search(one, 5, 5).size(), 5);
  ASSERT_EQ(same.Search(std::vector<float>(dimension, 0), 5, 100).size(), 5);
  // Zeros, too.
  const CodedRows zeros(dimension, std::vector<float>(rows.size(), 0));
  ASSERT_EQ(zeros.Search(one, 3, 10).size(), 3);
  EXPECT_TRUE(CodedRows(dimension, {}).Search(one, 3, 10).empty());
  EXPECT_TRUE(CodedRows().Search({}, 3, 10).empty());
  EXPECT_TRUE(same.Search(one, 0, 10).empty());
}

}  // namespace
}  // namespace octogate::retrieval

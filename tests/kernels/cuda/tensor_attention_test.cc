// Attention on tensor cores: as close to the reference as its header says, and the
// same bits for a row alone and in any company, for a prompt in any chunks, and for
// a tree's row and the plain decode of its path.
//
// Runs on the emulation everywhere; built without OCTOGATE_CUDA_EMULATED it runs
// on the GPU, and is skipped where none answers.

#include "kernels/cuda/tensor_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using cuda::InputRounding;
using testing::RandomData;
using testing::SameBits;
using Floats = std::vector<float>;

constexpr float kPoison = -12345.678f;
constexpr DType kTypes[] = {DType::kBF16, DType::kF8E4M3, DType::kI8};
constexpr int kDims[] = {64, 96, 128};

// A sequence: keys and values of its past, and of the rows of a step.
struct Sequence {
  int past = 0;
  int rows = 0;
  std::vector<AncestorMask> masks;  // of a tree
  std::vector<int32_t> pages;
  Floats keys, values, queries;  // [past + rows], [past + rows], [rows]
};

struct Case {
  KvCacheShape cache;
  AttentionShape shape;
  std::vector<Sequence> sequences;

  int kv_width() const { return cache.kv_heads * cache.head_dim; }
  int q_width() const { return shape.heads * shape.head_dim; }
};

std::vector<AncestorMask> RandomTree(RandomData& random, int rows) {
  std::vector<AncestorMask> masks(static_cast<size_t>(rows));
  for (int r = 0; r < rows; ++r) {
    const int parent = random.Int(std::max(-1, r - 6), r - 1);
    if (parent >= 0) masks[static_cast<size_t>(r)] = masks[static_cast<size_t>(parent)];
    masks[static_cast<size_t>(r)].words[r / 64] |= uint64_t{1} << (r % 64);
  }
  return masks;
}

Case RandomCase(RandomData& random, DType type, int head_dim, int sequences, int max_rows) {
  constexpr int kPageSizes[] = {1, 7, 16, 64};
  Case c;
  c.cache = {1, 0, kPageSizes[random.Int(0, 3)], random.Int(1, 2), head_dim, type};
  c.shape = {c.cache.kv_heads * random.Int(1, 6), c.cache.kv_heads, head_dim,
             1 / std::sqrt(static_cast<float>(head_dim)), random.Int(0, 1) * random.Int(1, 900)};
  for (int i = 0; i < sequences; ++i) {
    Sequence s;
    constexpr int kPasts[] = {0, 1, 63, 64, 511, 512, 513, 1024};
    s.past = random.Int(0, 1) == 0 ? kPasts[random.Int(0, 7)] : random.Int(0, 1200);
    s.rows = random.Int(1, max_rows);
    if (random.Int(0, 1) == 0) s.masks = RandomTree(random, s.rows);
    const auto slots = static_cast<size_t>(s.past + s.rows);
    s.keys = random.Floats(slots * static_cast<size_t>(c.kv_width()), 2);
    s.values = random.Floats(slots * static_cast<size_t>(c.kv_width()));
    s.queries = random.Floats(static_cast<size_t>(s.rows * c.q_width()), 2);
    const int pages = static_cast<int>(slots) / c.cache.page_size + 1;
    for (int p = 0; p < pages; ++p) s.pages.push_back(c.cache.pages++);
    c.sequences.push_back(std::move(s));
  }
  // The same pages in random order.
  std::vector<int32_t> order(static_cast<size_t>(c.cache.pages));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[static_cast<size_t>(random.Int(0, static_cast<int>(i) - 1))]);
  }
  for (Sequence& s : c.sequences) {
    for (int32_t& page : s.pages) page = order[static_cast<size_t>(page)];
  }
  return c;
}

// A case in a backend's memory.
class Loaded {
 public:
  Loaded(Backend& backend, const Case& c) : backend_(backend), case_(c) {
    cache_ = backend.CreateKvCache(c.cache);
    for (const Sequence& s : c.sequences) {
      const auto keys = Upload(s.keys);
      const auto values = Upload(s.values);
      const SequenceRows all{0, s.past + s.rows, 0, s.pages};
      backend.WriteKv(*cache_, 0, {&all, 1}, keys->data(), values->data(), c.kv_width());
      backend.Synchronize();
    }
  }

  // Attention of `queries` for the given rows.
  Floats Attend(const std::vector<SequenceRows>& rows, const Floats& queries) {
    const auto q = Upload(queries);
    const auto out = Upload(Floats(queries.size(), kPoison));
    backend_.Attention(case_.shape, *cache_, 0, rows, q->data(), case_.q_width(), out->data());
    Floats result(queries.size());
    backend_.Download(out->data(), result);
    return result;
  }
  // All rows of all sequences.
  Floats AttendAll() {
    std::vector<SequenceRows> rows;
    Floats queries;
    int first = 0;
    for (const Sequence& s : case_.sequences) {
      rows.push_back({first, s.rows, s.past, s.pages, s.masks});
      queries.insert(queries.end(), s.queries.begin(), s.queries.end());
      first += s.rows;
    }
    return Attend(rows, queries);
  }
  void Keep(const Sequence& s, const std::vector<int32_t>& path) {
    backend_.MoveKv(*cache_, s.pages, s.past, path);
  }

 private:
  std::unique_ptr<Buffer> Upload(const Floats& values) {
    auto buffer = backend_.Allocate(values.size());
    backend_.Upload(values, buffer->data());
    return buffer;
  }

  Backend& backend_;
  const Case& case_;
  std::unique_ptr<KvCache> cache_;
};

Floats Part(const Floats& all, int first, int count) {
  return {all.begin() + first, all.begin() + first + count};
}

class TensorAttentionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    backend_ = Make(InputRounding::kSplit);
#ifndef OCTOGATE_CUDA_EMULATED
    if (backend_ == nullptr) GTEST_SKIP() << problem_;
#endif
    ASSERT_NE(backend_, nullptr) << problem_;
  }
  std::unique_ptr<Backend> Make(InputRounding rounding) {
    return cuda::MakeBackend({.input_rounding = rounding}, &problem_);
  }

  std::string problem_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Backend> reference_ = MakeReferenceBackend();
  RandomData random_;
};

// The largest sum of |q k| of a head of one row, over all keys of its sequence.
double LargestScore(const Case& c, const Sequence& s, int row, int head) {
  const int dim = c.cache.head_dim;
  const float* q = s.queries.data() + row * c.q_width() + head * dim;
  double largest = 0;
  for (int j = 0; j < s.past + s.rows; ++j) {
    const float* k =
        s.keys.data() + j * c.kv_width() + head / (c.shape.heads / c.shape.kv_heads) * dim;
    double score = 0;
    for (int d = 0; d < dim; ++d) score += std::fabs(double{q[d]} * k[d]);
    largest = std::max(largest, score);
  }
  return largest * c.shape.scale;
}

TEST_F(TensorAttentionTest, IsCloseToTheReferences) {
  for (int trial = 0; trial < 9; ++trial) {
    const Case c = RandomCase(random_, kTypes[trial % 3], kDims[trial / 3], random_.Int(1, 3), 12);
    ASSERT_TRUE(cuda::TensorAttentionFits(c.shape, c.cache.dtype));
    const InputRounding rounding =
        random_.Int(0, 3) == 0 ? InputRounding::kRounded : InputRounding::kSplit;
    const auto backend = Make(rounding);
    const Floats expected = Loaded(*reference_, c).AttendAll();
    const Floats actual = Loaded(*backend, c).AttendAll();
    // Of q and of p; keys are up to 1/8 larger once they are rounded.
    const double unit = rounding == InputRounding::kSplit ? 0x1p-15 : 0x1p-8;
    size_t at = 0;
    for (const Sequence& s : c.sequences) {
      double largest_value = 0;
      for (const float value : s.values) {
        largest_value = std::max(largest_value, std::fabs(double{value}) * 1.125);
      }
      for (int r = 0; r < s.rows; ++r) {
        for (int h = 0; h < c.shape.heads; ++h) {
          const double score = unit * 1.125 * LargestScore(c, s, r, h);
          const double bound = (2 * std::expm1(score) + 2 * unit) * largest_value;
          for (int d = 0; d < c.cache.head_dim; ++d, ++at) {
            ASSERT_NEAR(actual[at], expected[at], bound)
                << Name(c.cache.dtype) << " " << c.cache.head_dim << " row " << r << " of "
                << s.rows << " behind " << s.past << " head " << h << " of " << c.shape.heads
                << " window " << c.shape.sliding_window << " value " << d << " (seed "
                << testing::Seed() << ")";
          }
        }
      }
    }
  }
}

TEST_F(TensorAttentionTest, RowsHaveTheSameBitsInAnyCompany) {
  for (int trial = 0; trial < 6; ++trial) {
    const Case c =
        RandomCase(random_, kTypes[trial % 3], kDims[random_.Int(0, 2)], random_.Int(1, 2), 40);
    Loaded loaded(*backend_, c);
    const Floats together = loaded.AttendAll();
    int first_row = 0;
    for (const Sequence& s : c.sequences) {
      const auto expect_same = [&](int row, const SequenceRows& rows) {
        const Floats expected =
            Part(together, (first_row + row) * c.q_width(), rows.row_count * c.q_width());
        const Floats queries = Part(s.queries, row * c.q_width(), rows.row_count * c.q_width());
        ASSERT_TRUE(SameBits(expected, loaded.Attend({rows}, queries)))
            << Name(c.cache.dtype) << " row " << row << " of " << s.rows << " behind " << s.past
            << " group " << c.shape.heads / c.shape.kv_heads << " window " << c.shape.sliding_window
            << " tree " << !s.masks.empty();
      };
      if (s.masks.empty()) {
        for (int row = 0; row < s.rows;) {  // in chunks
          const int count = std::min(random_.Int(1, 9), s.rows - row);
          expect_same(row, {0, count, s.past + row, s.pages});
          row += count;
        }
      } else {
        // The tree's first rows without the others.
        const int count = random_.Int(1, s.rows);
        expect_same(
            0, {0, count, s.past, s.pages, std::span(s.masks).first(static_cast<size_t>(count))});
      }
      first_row += s.rows;
    }
  }
}

TEST_F(TensorAttentionTest, ARowOfATreeIsThePlainDecodeOfItsPath) {
  for (int trial = 0; trial < 6; ++trial) {
    Case c = RandomCase(random_, kTypes[trial % 3], 64, 1, 30);
    Sequence& s = c.sequences[0];
    s.masks = RandomTree(random_, s.rows);
    Loaded loaded(*backend_, c);
    const Floats together = loaded.AttendAll();
    const int row = random_.Int(0, s.rows - 1);
    std::vector<int32_t> path;
    for (int r = 0; r <= row; ++r) {
      if ((s.masks[static_cast<size_t>(row)].words[r / 64] >> (r % 64) & 1) != 0) path.push_back(r);
    }
    loaded.Keep(s, path);
    const SequenceRows decoded{0, 1, s.past + static_cast<int>(path.size()) - 1, s.pages};
    ASSERT_TRUE(SameBits(Part(together, row * c.q_width(), c.q_width()),
                         loaded.Attend({decoded}, Part(s.queries, row * c.q_width(), c.q_width()))))
        << "row " << row << " behind " << s.past << " window " << c.shape.sliding_window;
  }
}

// Tiles cover every unit of every row once, whatever the workspace has room for.
TEST_F(TensorAttentionTest, TilesCoverWhatRowsSee) {
  for (int trial = 0; trial < 200; ++trial) {
    const Case c = RandomCase(random_, DType::kBF16, 64, random_.Int(1, 4), 128);
    std::vector<SequenceRows> sequences;
    int first = 0;
    for (const Sequence& s : c.sequences) {
      sequences.push_back({first, s.rows, s.past, s.pages, s.masks});
      first += s.rows;
    }
    cuda::StepTables tables;
    tables.Fill(sequences);
    cuda::AttentionTiles tiles;
    const size_t row_bytes = sizeof(float) * static_cast<size_t>(c.shape.heads) * 4 * 66;
    tiles.Fill(tables.rows(), c.shape, row_bytes * static_cast<size_t>(random_.Int(1, 100)));
    const int group = c.shape.heads / c.shape.kv_heads;
    std::vector<std::vector<int>> covered(tables.rows().size());
    int rows = 0;
    for (const auto& slab : tiles.slabs()) {
      EXPECT_EQ(slab.first_row, rows);
      rows += slab.rows;
      const auto add = [&](const cuda::AttentionTile& tile, int pairs) {
        EXPECT_LE(tile.rows * group, pairs);
        EXPECT_GE(tile.first_row, slab.first_row);
        EXPECT_LE(tile.first_row + tile.rows, slab.first_row + slab.rows);
        EXPECT_LE(tile.units, tiles.tile_units());
        for (int r = tile.first_row; r < tile.first_row + tile.rows; ++r) {
          for (int u = 0; u < tile.units; ++u) {
            covered[static_cast<size_t>(r)].push_back(tile.first_unit + u);
          }
        }
      };
      for (int i = 0; i < slab.narrow; ++i) {
        add(tiles.narrow()[static_cast<size_t>(slab.first_narrow + i)], cuda::kNarrowPairs);
      }
      for (int i = 0; i < slab.wide; ++i) {
        add(tiles.wide()[static_cast<size_t>(slab.first_wide + i)], cuda::kWidePairs);
      }
    }
    ASSERT_EQ(rows, static_cast<int>(tables.rows().size()));
    for (size_t r = 0; r < covered.size(); ++r) {
      const int position = tables.rows()[r].position;
      const int window = c.shape.sliding_window;
      const int first_seen = window > 0 ? std::max(0, position - window + 1) : 0;
      std::sort(covered[r].begin(), covered[r].end());
      EXPECT_EQ(std::adjacent_find(covered[r].begin(), covered[r].end()), covered[r].end());
      for (int u = first_seen / cuda::kUnitPositions; u <= position / cuda::kUnitPositions; ++u) {
        ASSERT_TRUE(std::binary_search(covered[r].begin(), covered[r].end(), u))
            << "row " << r << " unit " << u << " (seed " << testing::Seed() << ")";
      }
    }
  }
}

}  // namespace
}  // namespace octogate::kernels

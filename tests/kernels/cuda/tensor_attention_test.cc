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
#include <cstddef>
#include <functional>
#include <memory>
#include <numeric>
#include <span>
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
    constexpr int kPasts[] = {0, 1, 63, 64, 200, 448, 500, 511, 512, 513, 576, 1000, 1024};
    s.past = random.Int(0, 1) == 0 ? kPasts[random.Int(0, 12)] : random.Int(0, 1200);
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

// All rows of all sequences.
std::vector<SequenceRows> RowsOf(const Case& c) {
  std::vector<SequenceRows> rows;
  int first = 0;
  for (const Sequence& s : c.sequences) {
    rows.push_back({first, s.rows, s.past, s.pages, s.masks});
    first += s.rows;
  }
  return rows;
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
    Floats queries;
    for (const Sequence& s : case_.sequences) {
      queries.insert(queries.end(), s.queries.begin(), s.queries.end());
    }
    return Attend(RowsOf(case_), queries);
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
    if (backend_ == nullptr) GTEST_SKIP() << "NOT RUN: " << problem_;
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

// Tiles cover every position that a row sees once, a row's rest of a unit behind the
// part that it shares, whatever the workspace has room for.
TEST_F(TensorAttentionTest, TilesCoverWhatRowsSee) {
  for (int trial = 0; trial < 200; ++trial) {
    const Case c = RandomCase(random_, DType::kBF16, 64, random_.Int(1, 4), 128);
    const int window = c.shape.sliding_window;
    cuda::StepTables tables;
    tables.Fill(RowsOf(c));
    cuda::AttentionTiles tiles;
    const int group = c.shape.heads / c.shape.kv_heads;
    const size_t part_bytes = sizeof(float) * static_cast<size_t>(group) * 66;
    tiles.Fill(tables.rows(), c.shape, part_bytes * static_cast<size_t>(random_.Int(4, 400)));
    struct Piece {
      int begin, end;
      cuda::TilePart part;
    };
    std::vector<std::vector<Piece>> covered(tables.rows().size());
    ASSERT_EQ(tiles.first_parts().size(), covered.size());
    ASSERT_GE(tiles.kv_heads(), 1);
    size_t next_tile = 0;
    int next_row = 0;
    for (const auto& slab : tiles.slabs()) {
      EXPECT_EQ(slab.first_row, next_row);
      next_row += slab.rows;
      for (int list = 0; list < cuda::AttentionTiles::kLists; ++list) {
        int empty = 0;
        for (int i = 0; i < slab.tiles[list]; ++i) {
          const cuda::AttentionTile& tile = tiles.tiles()[next_tile++];
          if (tile.rows == 0) {
            ++empty;
            continue;
          }
          const bool wide =
              list == cuda::AttentionTiles::kWide || list == cuda::AttentionTiles::kWideRest;
          EXPECT_LE(tile.rows * group, wide ? cuda::kWidePairs : cuda::kNarrowPairs);
          EXPECT_EQ(
              tile.part == cuda::TilePart::kRest,
              list == cuda::AttentionTiles::kNarrowRest || list == cuda::AttentionTiles::kWideRest);
          EXPECT_GE(tile.first_row, slab.first_row);
          ASSERT_LE(tile.first_row + tile.rows, slab.first_row + slab.rows);
          ASSERT_LT(tile.begin, tile.end);
          ASSERT_LE(tile.end, cuda::kUnitPositions);
          const int start = tile.unit * cuda::kUnitPositions;
          for (int r = tile.first_row; r < tile.first_row + tile.rows; ++r) {
            covered[static_cast<size_t>(r)].push_back(
                {start + tile.begin, start + tile.end, tile.part});
          }
        }
        // What other sequences see makes no blocks that have nothing to do.
        EXPECT_LE(2 * empty, slab.tiles[list] - empty);
      }
    }
    EXPECT_EQ(next_tile, tiles.tiles().size());
    ASSERT_EQ(next_row, static_cast<int>(tables.rows().size()));
    for (size_t r = 0; r < covered.size(); ++r) {
      SCOPED_TRACE("row " + std::to_string(r) + " (seed " + std::to_string(testing::Seed()) + ")");
      const cuda::StepRow& row = tables.rows()[r];
      const int first_seen = window > 0 ? std::max(0, row.position - window + 1) : 0;
      std::sort(covered[r].begin(), covered[r].end(),
                [](const Piece& a, const Piece& b) { return a.begin < b.begin; });
      ASSERT_FALSE(covered[r].empty());
      int own = 0;  // positions that the row does not share with others of its tree
      for (size_t i = 0; i < covered[r].size(); ++i) {
        const Piece& piece = covered[r][i];
        const int unit = piece.begin / cuda::kUnitPositions;
        ASSERT_EQ((piece.end - 1) / cuda::kUnitPositions, unit);
        if (i > 0 && piece.begin > first_seen) {
          ASSERT_EQ(piece.begin, covered[r][i - 1].end);
        }
        const bool rest_follows =
            i + 1 < covered[r].size() && covered[r][i + 1].begin / cuda::kUnitPositions == unit;
        // A part that ends below what the row sees has nothing of it.
        if (piece.part == cuda::TilePart::kBeginning && unit >= first_seen / cuda::kUnitPositions) {
          ASSERT_TRUE(rest_follows);
        }
        if (rest_follows) {
          ASSERT_EQ(piece.part, cuda::TilePart::kBeginning);
          ASSERT_EQ(covered[r][i + 1].part, cuda::TilePart::kRest);
        }
        if (row.path >= 0 && piece.end > row.tree_position) own += piece.end - piece.begin;
      }
      ASSERT_LE(covered[r].front().begin, first_seen);
      ASSERT_GT(covered[r].back().end, row.position);
      if (row.path >= 0) {
        EXPECT_LT(own, cuda::kTilePositions + row.position + 1 - row.tree_position);
      }
    }
  }
}

TEST_F(TensorAttentionTest, LaunchesBlocksForWhatIsThereBesideALongSequence) {
  const AttentionShape shape{32, 8, 128, 0.1f, 0};
  std::vector<int32_t> pages(8192);
  std::vector<SequenceRows> rows;
  for (int i = 0; i < 64; ++i) rows.push_back({i, 1, i == 17 ? 131071 : 1023, pages});
  cuda::StepTables tables;
  tables.Fill(rows);
  cuda::AttentionTiles tiles;
  tiles.Fill(tables.rows(), shape, size_t{128} << 20);
  EXPECT_EQ(tiles.slabs().size(), 1u);
  const size_t seen = 256 + 63 * 2;
  EXPECT_GE(tiles.tiles().size(), seen);
  EXPECT_LE(2 * tiles.tiles().size(), 3 * seen);
  EXPECT_EQ(tiles.kv_heads(), 8);
}

// 128 heads of 128 values over more positions than the workspace holds parts of: a few
// kv heads at a time.
TEST_F(TensorAttentionTest, AnyNumberOfPositionsHasRoom) {
  const std::vector<int32_t> pages(1);
  const SequenceRows row{0, 1, (1 << 22) - 1, pages};
  cuda::StepTables tables;
  tables.Fill({&row, 1});
  cuda::AttentionTiles tiles;
  constexpr size_t kWorkspace = size_t{128} << 20;
  tiles.Fill(tables.rows(), {128, 8, 128, 0.1f, 0}, kWorkspace);
  EXPECT_LT(tiles.kv_heads(), 8);
  const auto parts = static_cast<size_t>((1 << 22) / cuda::kUnitPositions);
  EXPECT_LE(sizeof(float) * parts * static_cast<size_t>(tiles.kv_heads() * 16 * 130), kWorkspace);
}

#ifdef OCTOGATE_CUDA_EMULATED
// The same bits with room for few parts as with room for all: in slabs of rows, and kv
// head by kv head.
TEST_F(TensorAttentionTest, ASmallWorkspaceChangesNothing) {
  for (int trial = 0; trial < 6; ++trial) {
    const DType type = kTypes[trial % 3];
    const Case c = RandomCase(random_, type, kDims[random_.Int(0, 2)], random_.Int(1, 2), 20);
    cuda::StepTables tables;
    const auto stage = [&](std::span<const SequenceRows> sequences) {
      tables.Fill(sequences);
      return cuda::StepRows{tables.rows().data(), tables.pages().data(), tables.paths().data(),
                            static_cast<int>(tables.rows().size())};
    };
    cuda::KvView cache = cuda::ViewKv(c.cache, nullptr);
    std::vector<std::max_align_t> memory(
        static_cast<size_t>(cuda::RunOffset(cache, c.cache.pages, 0, 0)) /
            sizeof(std::max_align_t) +
        1);
    cache.data = memory.data();
    Floats queries;
    for (const Sequence& s : c.sequences) {
      const SequenceRows all{0, s.past + s.rows, 0, s.pages};
      cuda::LaunchWriteKv({}, cache, 0, stage({&all, 1}), s.keys.data(), s.values.data(),
                          c.kv_width());
      queries.insert(queries.end(), s.queries.begin(), s.queries.end());
    }
    cuda::TensorAttention operation{c.shape, cache};
    operation.rows = stage(RowsOf(c));
    operation.q = queries.data();
    operation.q_stride = c.q_width();
    const auto attend = [&](size_t workspace_bytes) {
      cuda::AttentionTiles tiles;
      tiles.Fill(tables.rows(), c.shape, workspace_bytes);
      std::vector<std::byte> workspace(workspace_bytes, std::byte{0xFF});
      Floats out(queries.size(), kPoison);
      operation.tiles = tiles.tiles().data();
      operation.first_parts = tiles.first_parts().data();
      operation.out = out.data();
      cuda::LaunchTensorAttention({}, operation, tiles, {workspace.data(), workspace_bytes});
      return out;
    };
    const Floats expected = attend(size_t{64} << 20);
    const auto group = static_cast<size_t>(c.shape.heads / c.shape.kv_heads);
    // A row sees three units at most.
    const size_t least = sizeof(float) * group * static_cast<size_t>(c.cache.head_dim + 2) * 3;
    for (const size_t bytes : {least, least * static_cast<size_t>(random_.Int(2, 20))}) {
      ASSERT_TRUE(SameBits(expected, attend(bytes)))
          << Name(type) << " " << bytes << " bytes (seed " << testing::Seed() << ")";
    }
  }
}
#endif

}  // namespace
}  // namespace octogate::kernels

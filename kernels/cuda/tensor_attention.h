// Attention on tensor cores, for caches in BF16 and 8 bits and heads of 64, 96 or
// 128 values.
//
// Why. For one position of the context a Llama-3-8B reads 4 KiB of keys and values
// a layer (BF16) and multiplies 16 Ki times for each row. An H100 moves 3.35 TB/s
// (an H200 4.8) and has 67 TFLOP/s on its CUDA cores, so that one row is bound by
// memory (5 times over) but 64 rows that verify a draft, or a prompt, are not: at
// 8192 positions those 64 take 0.13 ms a layer at best, against 0.01 ms for the
// bytes. Tensor cores have 990 TFLOP/s; keys and values are fetched once for the
// rows of a sequence and the heads of a group that share them. These are data-sheet
// figures and arithmetic, nothing measured (tests/gpu/RESULTS.md).
//
// The order of the operations, for one row and head, whatever other rows there
// are; it is not the CPU's (kernels/reduction_order.h), which sums in one lane what
// a matrix instruction sums in a tree of its own:
//   q is taken as the sum of two BF16 (q_high = BF16(q), q_low = BF16(q - q_high));
//   with InputRounding::kRounded q_low is left out. Keys and values are exact in
//   BF16.
//   Positions are cut into units of kUnitPositions, counted from position 0, and a
//   unit into tiles of kTilePositions. The scores of a position,
//   s = c (q_high k + q_low k) with c = scale log2(e) (kI8: times the key's scale
//   first), are sums over d by 16, high before low.
//   Over the tiles of a unit, ascending: m' = max(m, max s); a = 2^(m - m');
//   p = 2^(s - m'); l = l a + sum p; o = o a + sum p v, where p (kI8: times the
//   value's scale) is two BF16 like q, and sums run over positions by 16. A sum of
//   16 p is a tree: j with j + 1, then j with j + 8, j with j + 2 and j with j + 4;
//   those of a tile are added in ascending order.
//   Units are merged in ascending order: o = fma(o', b, o a) with a and b powers of
//   2 of the differences to the larger maximum; the result is o / l.
// Positions that a row does not see have p = 0 and change nothing: a product with
// zero leaves the sum as it is, which is part of what this asks of the matrix
// instructions beside what products with weights ask. (A value that is a NaN or an
// infinity does reach rows of its tile that do not see it.)
//
// Error, for scores of magnitude S = c sum |q k| at most: 2^-15 S in s, hence
// as much in p, relative, and 2^-15 of the values (tests/kernels/cuda/
// tensor_attention_test.cc).
//
// Work. A thread block takes rows of one sequence through one unit, and a launch has
// a block for each unit that is seen, whatever other sequences see (up to a third of
// the blocks find nothing to do, so that the launches of most steps of a sequence
// that grows are the same: step_graphs.h).
//
// Rows of a tree share blocks as far as the last multiple of kTilePositions before
// the tree. Behind it the keys of a position differ from row to row, and each row
// has blocks of its own, with the positions of its path in their order. Where that
// is within a unit, the shared block leaves each row's m, l and o in memory, and the
// row's own block, in a second launch, goes on from these very numbers: so a row of
// a tree reads less than kTilePositions positions of the past by itself, and has the
// bits that it has anywhere else.

#ifndef OCTOGATE_KERNELS_CUDA_TENSOR_ATTENTION_H_
#define OCTOGATE_KERNELS_CUDA_TENSOR_ATTENTION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/matmul_layout.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/step_rows.h"
#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

inline constexpr int kUnitPositions = 512;
inline constexpr int kTilePositions = 64;
// Pairs of a row and a head of a group that one thread block computes: of few and
// of many rows.
inline constexpr int kNarrowPairs = 16;
inline constexpr int kWidePairs = 64;

// What of a unit a tile has.
enum class TilePart : int16_t {
  kAll,        // all that its rows see of it
  kBeginning,  // what comes behind it is in tiles of its rows' own
  kRest        // of one row, behind a kBeginning
};

// Rows of one sequence that share keys and values, through one unit.
struct AttentionTile {
  int32_t first_row;  // in the table of rows
  int32_t unit;
  int16_t rows;  // 0: nothing is to be done
  TilePart part;
  // Positions, counted from the unit's first, outside of [begin, end) are seen by
  // none of them, or belong to other tiles.
  int16_t begin;
  int16_t end;
};

// Whether this attention can be had, and of what in words; otherwise that of
// attention.h is to be used.
inline constexpr char kTensorAttention[] =
    "heads of 64, 96 or 128 values, at most 64 for one of keys and values, and these "
    "in BF16 or 8 bits";
bool TensorAttentionFits(const AttentionShape& shape, DType dtype);

// The tiles of a step. Allocates nothing once it is large enough.
class AttentionTiles {
 public:
  // Tiles that are launched together, one after the other in the table.
  enum List { kNarrow, kWide, kNarrowRest, kWideRest };
  static constexpr int kLists = 4;

  // Rows whose units are computed before any others are: their parts fit into the
  // workspace. Each list begins where the one before it ends.
  struct Slab {
    int first_row = 0;
    int rows = 0;
    bool merges = false;  // has rows that see more than one unit
    int first_tile = 0;
    int tiles[kLists] = {};
  };

  // `rows` as StepTables has them. The workspace has room for the parts of one row
  // and the heads of one kv head at least: 128 MiB are enough for 16 heads of 128
  // values over 8 million positions.
  void Fill(std::span<const StepRow> rows, const AttentionShape& shape, size_t workspace_bytes);

  std::span<const AttentionTile> tiles() const { return tiles_; }
  std::span<const Slab> slabs() const { return slabs_; }
  // Where the parts of each row begin, one for each unit that it sees, counted from
  // its slab's first; rows that have none included.
  std::span<const int32_t> first_parts() const { return first_parts_; }
  // Kv heads that are computed at once.
  int kv_heads() const { return kv_heads_; }

 private:
  void CloseSlab();

  std::vector<AttentionTile> tiles_;
  std::vector<AttentionTile> lists_[kLists];  // of the slab at hand
  std::vector<Slab> slabs_;
  std::vector<int32_t> first_parts_;
  int kv_heads_ = 0;
};

// Backend::Attention; `rows`, `tiles` and `first_parts`, which are those of an
// AttentionTiles, are on the device.
struct TensorAttention {
  AttentionShape shape;
  KvView cache;
  int layer = 0;
  StepRows rows;
  const AttentionTile* tiles = nullptr;
  const int32_t* first_parts = nullptr;
  InputRounding rounding = InputRounding::kSplit;
  const float* q = nullptr;
  int q_stride = 0;
  float* out = nullptr;
};
void LaunchTensorAttention(Stream stream, const TensorAttention& operation,
                           const AttentionTiles& tiles, const Workspace& workspace);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_TENSOR_ATTENTION_H_

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
// Rows of a tree share tiles as far as the positions before the tree; from the
// unit on in which the tree begins, each row has tiles of its own, with the
// positions of its path in their order.

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

// Rows of one sequence that share keys and values, for the units [first_unit,
// first_unit + units).
struct AttentionTile {
  int32_t first_row;  // in the table of rows
  int32_t rows;
  int32_t first_unit;
  int32_t units;
  // Positions outside of [first_position, end_position) are seen by none of them.
  int32_t first_position;
  int32_t end_position;
};

// Whether this attention can be had; otherwise that of attention.h is to be used.
bool TensorAttentionFits(const AttentionShape& shape, DType dtype);

// The tiles of a step. Allocates nothing once it is large enough.
class AttentionTiles {
 public:
  // Rows whose units are computed before any others are: their parts fit into the
  // workspace.
  struct Slab {
    int first_row;
    int rows;
    int first_narrow;
    int narrow;
    int first_wide;
    int wide;
  };

  // `rows` as StepTables has them. The workspace has room for the parts of one row
  // at least: 128 MiB are enough for 128 heads of 128 values over a million
  // positions.
  void Fill(std::span<const StepRow> rows, const AttentionShape& shape, size_t workspace_bytes);

  std::span<const AttentionTile> narrow() const { return narrow_; }  // kNarrowPairs at most
  std::span<const AttentionTile> wide() const { return wide_; }
  std::span<const Slab> slabs() const { return slabs_; }
  // That one row sees at most, and that one tile has at most, both rounded up.
  int units() const { return units_; }
  int tile_units() const { return tile_units_; }

 private:
  void Add(const AttentionTile& tile, int group);

  std::vector<AttentionTile> narrow_;
  std::vector<AttentionTile> wide_;
  std::vector<Slab> slabs_;
  int units_ = 0;
  int tile_units_ = 0;
};

// Backend::Attention; `rows`, `narrow` and `wide`, which are those of `tiles`, are
// on the device.
struct TensorAttention {
  AttentionShape shape;
  KvView cache;
  int layer = 0;
  StepRows rows;
  const AttentionTile* narrow = nullptr;
  const AttentionTile* wide = nullptr;
  InputRounding rounding = InputRounding::kSplit;
  const float* q = nullptr;
  int q_stride = 0;
  float* out = nullptr;
};
void LaunchTensorAttention(Stream stream, const TensorAttention& operation,
                           const AttentionTiles& tiles, const Workspace& workspace);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_TENSOR_ATTENTION_H_

// The CPU kernels as a table of functions, one table per instruction set. Each
// is compiled in a file of its own with that set enabled, from the same
// templates (*-inl.h) over the sixteen lanes of f32x16_*.h; all follow
// kernels/reduction_order.h and so give the same bits.
//
// Such files must not emit code that the linker could share with others: they
// use plain structs and pointers, and no inline function outside their own
// namespace.

#ifndef OCTOGATE_KERNELS_CPU_KERNEL_TABLE_H_
#define OCTOGATE_KERNELS_CPU_KERNEL_TABLE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace octogate::kernels {

// Outputs (rows of a weight) that are interleaved, and columns of a block.
inline constexpr int kPanelOutputs = 16;
inline constexpr int kBlockColumns = 32;

// A product with floating-point weights. They are cut into panels of
// kPanelOutputs rows, the last filled with zeros, and the columns into pairs,
// filled with zeros up to whole blocks of kBlockColumns:
//   kF32, kF16: [panel][pair][2 columns][16 outputs];
//   kBF16: [panel][pair][16 outputs][2 columns];
//   kF8E4M3: [panel][two pairs][four times 4 outputs][pair][4 outputs][2 columns], whose bytes,
//     widened to two, are in the order of kBF16 after one unpacking of 128-bit lanes.
struct MatMulArgs {
  const uint8_t* panels;
  size_t panel_bytes;
  DType dtype;
  const float* row_scales;  // kF8E4M3: [outputs]; otherwise null
  int outputs;
  int cols;
  int blocks;  // of columns
  const float* bias;
  const void* x;  // floats, [rows, cols], or as PackedProducts::pack_inputs puts them
  int rows;
  bool accumulate;
  float* out;
  int out_stride;
};

// Products with rows of x that are put into an order of their own first.
struct PackedProducts {
  // Rows of x that are kept together, and bytes of each.
  int rows_together;
  size_t (*row_bytes)(int cols);
  // Row `row` of x into its place in `inputs`, which has room for a multiple of
  // rows_together.
  void (*pack_inputs)(const float* x, int cols, int row, void* inputs);
  // Panels [begin, end) of the weight, for all rows of x. `scratch` is private to the
  // thread.
  void (*matmul)(const MatMulArgs& args, int begin, int end, float* scratch);
};

// Blocking of products: a panel, or two, is taken for a block of rows of x, whose sums
// wait in their 16 lanes between slices of the columns.
inline constexpr int kBlockRows = 24;     // rows of x
inline constexpr int kSliceGroups = 32;   // of sixteen columns
inline constexpr size_t kMatMulScratch =  // floats for each thread
    size_t{kBlockRows} * 16 * kPanelOutputs * 2;

// Up to four queries that share a kv head, against one block of positions.
inline constexpr int kTileQueries = 4;

struct AttentionTile {
  int queries;
  const float* q[kTileQueries];
  int begin[kTileQueries];  // positions that a query sees, counted in the block
  int end[kTileQueries];    // begin < end
  int head_dim;
  float scale;
  DType dtype;
  const uint8_t* const* keys;    // by position in the block; valid from the
  const uint8_t* const* values;  // smallest begin to the largest end
  const float* key_scales;       // [kAttentionBlock], by position; null without
  const float* value_scales;
  // Results.
  float* out[kTileQueries];  // [head_dim] each
  float max[kTileQueries];
  float sum[kTileQueries];
};

struct KernelTable {
  const char* name;

  // Panels [begin, end) of the weight, for all rows of x. `scratch` is private
  // to the thread.
  void (*matmul)(const MatMulArgs& args, int begin, int end, float* scratch);

  // The same of kF32, faster for many rows.
  PackedProducts many_rows;
  // x rounded to BF16, in the orders of kernels/bf16_dot.h: weights in kBF16 in that of DotBf16,
  // and in kBF16 and kF8E4M3 in that of DotBf16Pairs.
  PackedProducts bf16;
  PackedProducts bf16_pairs;

  void (*rms_norm)(const float* x, const float* weight, int columns, float epsilon, float* out);
  // bias may be null.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int columns,
                     float epsilon, float* out);
  // The largest value, NaNs aside; minus infinity if there is none.
  float (*maximum)(const float* x, int count);
  // The sum of exp((x - max) * scale), in one set of lanes.
  float (*sum_exp)(const float* x, int count, float max, float scale);
  void (*widen)(const uint8_t* from, DType dtype, int count, float* to);
  void (*silu_mul)(const float* gate, const float* up, int count, float* out);
  void (*gelu_tanh_mul)(const float* gate, const float* up, int count, float* out);
  void (*gelu_erf_mul)(const float* gate, const float* up, int count, float* out);

  void (*attend_block)(AttentionTile* tile);
  // Merges a later block into *max, *sum, out[head_dim].
  void (*merge)(int head_dim, float block_max, float block_sum, const float* block_out, float* max,
                float* sum, float* out);
  void (*divide)(int count, float divisor, float* out);
};

const KernelTable& PlainKernels();
#if defined(__x86_64__)
const KernelTable& Avx2Kernels();
const KernelTable& Avx512Kernels();
#endif

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_KERNEL_TABLE_H_

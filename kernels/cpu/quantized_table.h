// The CPU kernels for quantised weights, one table per instruction set, each
// compiled in a file of its own from quantized-inl.h over the codes_*.h; what
// kernel_table.h says of such files holds. All follow kernels/quantized_dot.h.

#ifndef OCTOGATE_KERNELS_CPU_QUANTIZED_TABLE_H_
#define OCTOGATE_KERNELS_CPU_QUANTIZED_TABLE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/weight_format.h"

namespace octogate::kernels {

// Outputs (rows of a weight) whose codes are interleaved.
inline constexpr int kPanelOutputs = 16;
// Bytes of one group of columns of a panel.
inline constexpr size_t kInt8GroupBytes = size_t{kQuantizationGroup} * kPanelOutputs;
inline constexpr size_t kInt4GroupBytes = kInt8GroupBytes / 2;

// A product with integer codes. The weight, cut into panels of kPanelOutputs
// rows, the last filled with zeros:
//   kInt8, kInt8Group: [panel][group][8][16][4] bytes: four adjacent columns of
//       sixteen outputs, as code + 128;
//   kInt4Group: [panel][group][4][16][4] bytes: the same with code + 8 of columns
//       0 to 15 of the group in the low bits, of columns 16 to 31 in the high.
struct IntegerMatMulArgs {
  WeightFormat format;
  const uint8_t* codes;
  const float* row_scales;       // [panel][16]; kInt8
  const uint16_t* group_scales;  // [panel][group][16], F16; the other formats
  int outputs;
  int groups;  // of columns
  // Of x, quantised: [rows, groups] of kQuantizationGroup codes, of scales, and
  // of the sums of a group's codes.
  const int8_t* x;
  const float* x_scales;
  const int32_t* x_sums;
  int rows;
  const float* bias;
  bool accumulate;
  float* out;
  int out_stride;
};

// The same with weights in E4M3: row-major, each row filled with zeros up to
// `row_bytes`, a multiple of kPanelOutputs.
struct Float8MatMulArgs {
  const uint8_t* codes;
  size_t row_bytes;
  const float* row_scales;
  int cols;
  const float* x;  // [rows, cols]
  int rows;
  const float* bias;
  bool accumulate;
  float* out;
  int out_stride;
};

struct QuantizedKernelTable {
  // One row of x; fills the last group with zeros.
  void (*quantize_input)(const float* x, int cols, int8_t* codes, float* scales, int32_t* sums);
  // Panels [begin, end) of the weight, for all rows of x.
  void (*matmul_integer)(const IntegerMatMulArgs& args, int begin, int end);
  // Rows [begin, end) of the weight, for all rows of x.
  void (*matmul_float8)(const Float8MatMulArgs& args, int begin, int end);
};

const QuantizedKernelTable& PlainQuantizedKernels();
#if defined(__x86_64__)
const QuantizedKernelTable& Avx2QuantizedKernels();
const QuantizedKernelTable& Avx512QuantizedKernels();
const QuantizedKernelTable& Avx512VnniQuantizedKernels();
#endif

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_QUANTIZED_TABLE_H_

// The CPU kernels for weights with integer codes, one table per instruction set, each
// compiled in a file of its own from quantized-inl.h over the codes_*.h; what
// kernel_table.h says of such files holds. All follow kernels/quantized_dot.h.

#ifndef OCTOGATE_KERNELS_CPU_QUANTIZED_TABLE_H_
#define OCTOGATE_KERNELS_CPU_QUANTIZED_TABLE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/kernel_table.h"
#include "kernels/weight_format.h"

namespace octogate::kernels {

// Bytes of one group of columns of a panel.
inline constexpr size_t kInt8GroupBytes = size_t{kQuantizationGroup} * kPanelOutputs;
inline constexpr size_t kInt4GroupBytes = kInt8GroupBytes / 2;

// A product with integer codes. The weight, cut into panels of kPanelOutputs
// rows, the last filled with zeros:
//   kInt8, kInt8Group: [panel][group][8][16][4] bytes: four adjacent columns of
//       sixteen outputs, as code + 128;
//   kInt4Group: [panel][group][4][16][4] bytes: the same with code + 8 of columns
//       0 to 15 of the group in the low bits, of columns 16 to 31 in the high.
//
// Of x, quantised, the order is that of the table's quantize_input: [rows, groups]
// of kQuantizationGroup codes, of scales, and of the sums of a group's codes; with
// AMX [row / 16][group][row % 16].
struct QuantizedInput {
  int8_t* codes;
  float* scales;
  int32_t* sums;
};

// Rows that quantize_input may keep together.
inline constexpr int kQuantizedInputRows = 16;

struct IntegerMatMulArgs {
  WeightFormat format;
  const uint8_t* codes;
  const float* row_scales;       // [panel][16]; kInt8
  const uint16_t* group_scales;  // [panel][group][16], F16; the other formats
  int outputs;
  int groups;  // of columns
  const int8_t* x;
  const float* x_scales;
  const int32_t* x_sums;
  int rows;
  const float* bias;
  bool accumulate;
  float* out;
  int out_stride;
};

struct QuantizedKernelTable {
  // Row `row` of x into its place; fills the last group with zeros.
  void (*quantize_input)(const float* x, int cols, int row, const QuantizedInput& to);
  // Panels [begin, end) of the weight, for all rows of x.
  void (*matmul_integer)(const IntegerMatMulArgs& args, int begin, int end);
};

// Fewer rows keep the tiles of AMX too empty to be worth it.
inline constexpr int kAmxIntegerRows = 16;

const QuantizedKernelTable& PlainQuantizedKernels();
#if defined(__x86_64__)
const QuantizedKernelTable& Avx2QuantizedKernels();
const QuantizedKernelTable& Avx512QuantizedKernels();
const QuantizedKernelTable& Avx512VnniQuantizedKernels();
// For kAmxIntegerRows rows and more; `inputs` has room for whole tiles of rows.
const QuantizedKernelTable& AmxQuantizedKernels();
#endif

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_QUANTIZED_TABLE_H_

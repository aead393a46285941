// Products with weights of 16, 8 and 4 bits on tensor cores, for any number of
// rows. What they compute, and in which order, says matmul_layout.h; an output
// has the same bits however many rows stand beside its own.
//
// Up to 16 rows a product is bound by reading the weight: 128 threads multiply
// 256 outputs with one chain of columns, which makes enough blocks for any
// device that this is built for. From 17 rows on blocks have 256 threads and 32
// or 64 rows; where that makes enough blocks, each does all chains.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_H_
#define OCTOGATE_KERNELS_CUDA_MATMUL_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/matmul_layout.h"
#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

// A weight in the device's memory; plain pointers, owned by someone else.
struct PackedWeight {
  PackedShape shape;
  const uint8_t* packed = nullptr;    // shape.bytes(), aligned to 16
  const float* row_scales = nullptr;  // [shape.rows] where HasRowScales(format)
};

// How the work is cut. Results do not depend on it.
struct MatMulPlan {
  int row_tiles = 1;  // of a block, 8 rows each: 1, 2, 4 or 8
  bool fold = false;  // a block does all chains; from 4 row tiles on
};
MatMulPlan PlanMatMul(const PackedShape& shape, int rows);

// Device memory, aligned to 16 bytes, that a product writes before it reads;
// contents do not matter before or after. MatMulWorkspaceBytes is what `rows`
// need under that plan, MaxMatMulWorkspaceBytes what any number of rows up to
// `max_rows` need.
size_t MatMulWorkspaceBytes(const PackedShape& shape, int rows, InputRounding rounding,
                            const MatMulPlan& plan);
size_t MaxMatMulWorkspaceBytes(const PackedShape& shape, int max_rows, InputRounding rounding);

struct MatMulOperation {
  const float* bias = nullptr;
  const float* x = nullptr;  // [rows, shape.cols]
  int rows = 0;
  bool accumulate = false;
  float* out = nullptr;
  int out_stride = 0;
  InputRounding rounding = InputRounding::kSplit;
};

// Backend::MatMul. Two launches: the inputs' conversion, and the product.
void LaunchMatMul(Stream stream, const PackedWeight& weight, const MatMulOperation& operation,
                  const MatMulPlan& plan, void* workspace);

// out[i] = row ids[i] of the weight, dequantised: the bits of
// kernels/quantize.h's Dequantize.
void LaunchEmbedPacked(Stream stream, const PackedWeight& table, const int32_t* ids, int count,
                       float* out);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_H_

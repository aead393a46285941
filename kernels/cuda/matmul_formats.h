// The products of matmul.h, one function for each format.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_FORMATS_H_
#define OCTOGATE_KERNELS_CUDA_MATMUL_FORMATS_H_

#include "kernels/cuda/matmul_layout.h"
#include "kernels/cuda/stream.h"

namespace octogate::kernels::cuda {

struct MatMulArguments;

using LaunchFormatFunction = void(Stream stream, InputRounding rounding, int row_tiles,
                                  unsigned blocks, const MatMulArguments& arguments);
LaunchFormatFunction LaunchMatMulBf16;
LaunchFormatFunction LaunchMatMulF16;
LaunchFormatFunction LaunchMatMulInt8;
LaunchFormatFunction LaunchMatMulInt8Group;
LaunchFormatFunction LaunchMatMulInt4Group;
LaunchFormatFunction LaunchMatMulFp8;

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_FORMATS_H_

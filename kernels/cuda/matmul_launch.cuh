// The choice of a kernel for one format: each format is a translation unit of its
// own (matmul_FORMAT.cu), so that they compile side by side.

#ifndef OCTOGATE_KERNELS_CUDA_MATMUL_LAUNCH_CUH_
#define OCTOGATE_KERNELS_CUDA_MATMUL_LAUNCH_CUH_

#include "kernels/cuda/launch.h"
#include "kernels/cuda/matmul.cuh"
#include "kernels/cuda/matmul_formats.h"

namespace octogate::kernels::cuda {

template <typename Config>
void LaunchConfig(Stream stream, unsigned blocks, const MatMulArguments& arguments) {
  Launch(stream, Grid{blocks}, Config::kThreads, Config::kSharedBytes, MatMulKernel<Config>,
         arguments);
}

template <PackedFormat kFormat, InputRounding kRounding>
void LaunchRounding(Stream stream, int row_tiles, unsigned blocks,
                    const MatMulArguments& arguments) {
  switch (row_tiles) {
    case 1:
      return LaunchConfig<MatMulConfig<kFormat, kRounding, 4, 1>>(stream, blocks, arguments);
    case 2:
      return LaunchConfig<MatMulConfig<kFormat, kRounding, 4, 2>>(stream, blocks, arguments);
    case 4:
      return LaunchConfig<MatMulConfig<kFormat, kRounding, 2, 4>>(stream, blocks, arguments);
    default:
      return LaunchConfig<MatMulConfig<kFormat, kRounding, 2, 8>>(stream, blocks, arguments);
  }
}

template <PackedFormat kFormat>
void LaunchFormat(Stream stream, InputRounding rounding, int row_tiles, unsigned blocks,
                  const MatMulArguments& arguments) {
  return rounding == InputRounding::kSplit
             ? LaunchRounding<kFormat, InputRounding::kSplit>(stream, row_tiles, blocks, arguments)
             : LaunchRounding<kFormat, InputRounding::kRounded>(stream, row_tiles, blocks,
                                                                arguments);
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_MATMUL_LAUNCH_CUH_

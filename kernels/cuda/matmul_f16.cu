#include "kernels/cuda/matmul_launch.cuh"

namespace octogate::kernels::cuda {

void LaunchMatMulF16(Stream stream, InputRounding rounding, int row_tiles, unsigned blocks,
                     const MatMulArguments& arguments) {
  LaunchFormat<PackedFormat::kF16>(stream, rounding, row_tiles, blocks, arguments);
}

}  // namespace octogate::kernels::cuda

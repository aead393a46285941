#include "kernels/cuda/matmul_launch.cuh"

namespace octogate::kernels::cuda {

void LaunchMatMulInt8Group(Stream stream, InputRounding rounding, int row_tiles, unsigned blocks,
                           const MatMulArguments& arguments) {
  LaunchFormat<PackedFormat::kInt8Group>(stream, rounding, row_tiles, blocks, arguments);
}

}  // namespace octogate::kernels::cuda

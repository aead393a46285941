#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/launch.h"

namespace octogate::kernels::cuda {

void LaunchWriteKv(Stream stream, const KvView& cache, int layer, const StepRows& rows,
                   const float* keys, const float* values, int stride) {
  const Grid grid{static_cast<unsigned>(rows.count)};
  const auto write = [&](auto kernel) {
    Launch(stream, grid, kKvThreads, 0, kernel, cache, layer, rows, keys, values, stride);
  };
  switch (cache.dtype) {
    case DType::kF32:
      return write(WriteKvKernel<float>);
    case DType::kF16:
      return write(WriteKvKernel<F16>);
    case DType::kBF16:
      return write(WriteKvKernel<Bf16>);
    case DType::kF8E4M3:
      return write(WriteKvKernel<F8>);
    case DType::kI8:
      return write(WriteKvInt8Kernel);
  }
}

void LaunchMoveKv(Stream stream, const KvView& cache, const int32_t* pages, int first_position,
                  const int32_t* rows, int count) {
  const Grid grid{static_cast<unsigned>(cache.layers), static_cast<unsigned>(cache.kv_heads)};
  const auto move = [&](auto kernel) {
    Launch(stream, grid, kKvThreads, 0, kernel, cache, pages, first_position, rows, count);
  };
  // In the widest units that every key has whole.
  const int bytes = cache.head_dim * cache.element_bytes;
  if (bytes % 4 == 0) return move(MoveKvKernel<uint32_t>);
  if (bytes % 2 == 0) return move(MoveKvKernel<uint16_t>);
  move(MoveKvKernel<uint8_t>);
}

}  // namespace octogate::kernels::cuda

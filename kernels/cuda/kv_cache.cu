#include <cassert>

#include "kernels/cuda/kv_cache.cuh"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/launch.h"

namespace octogate::kernels::cuda {
namespace {

template <typename T>
void MoveAs(Stream stream, const KvView& cache, const int32_t* pages, int first_position,
            const int32_t* rows, int count) {
  const Grid grid{static_cast<unsigned>(cache.layers), static_cast<unsigned>(cache.kv_heads)};
  Launch(stream, grid, kKvThreads, 0, MoveKvKernel<T>, cache, pages, first_position, rows, count);
}

}  // namespace

void LaunchWriteKv(Stream stream, const KvView& cache, int layer, const StepRows& rows,
                   const float* keys, const float* values, int stride) {
  const Grid grid{static_cast<unsigned>(rows.count)};
  switch (cache.dtype) {
    case DType::kF32:
      return Launch(stream, grid, kKvThreads, 0, WriteKvKernel<float>, cache, layer, rows, keys,
                    values, stride);
    case DType::kF16:
      return Launch(stream, grid, kKvThreads, 0, WriteKvKernel<F16>, cache, layer, rows, keys,
                    values, stride);
    case DType::kBF16:
      return Launch(stream, grid, kKvThreads, 0, WriteKvKernel<Bf16>, cache, layer, rows, keys,
                    values, stride);
    default:
      assert(false);  // CreateKvCache makes none
  }
}

void LaunchMoveKv(Stream stream, const KvView& cache, const int32_t* pages, int first_position,
                  const int32_t* rows, int count) {
  // 16-bit values are moved as they are.
  if (cache.dtype == DType::kF32) {
    MoveAs<float>(stream, cache, pages, first_position, rows, count);
  } else {
    MoveAs<uint16_t>(stream, cache, pages, first_position, rows, count);
  }
}

}  // namespace octogate::kernels::cuda

#include <algorithm>

#include "kernels/cuda/elementwise.cuh"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/launch.h"

namespace octogate::kernels::cuda {
namespace {

Grid RowGrid(int rows, int columns) {
  return {BlocksFor(columns, kElementwiseThreads),
          static_cast<unsigned>(std::min(rows, kMaxGridRows))};
}

template <typename T>
void EmbedAs(Stream stream, const void* table, int columns, const int32_t* ids, int count,
             float* out) {
  Launch(stream, RowGrid(count, columns), kElementwiseThreads, 0, EmbedKernel<T>,
         static_cast<const T*>(table), columns, ids, count, out);
}

}  // namespace

void LaunchSiluMul(Stream stream, const float* gate_up, int rows, int columns, float* out) {
  Launch(stream, RowGrid(rows, columns), kElementwiseThreads, 0, GateMulKernel<Activation::kSilu>,
         gate_up, rows, columns, out);
}

void LaunchGeluMul(Stream stream, const float* gate_up, int rows, int columns,
                   bool tanh_approximation, float* out) {
  Launch(stream, RowGrid(rows, columns), kElementwiseThreads, 0,
         tanh_approximation ? GateMulKernel<Activation::kGeluTanh>
                            : GateMulKernel<Activation::kGeluErf>,
         gate_up, rows, columns, out);
}

void LaunchEmbed(Stream stream, const void* table, DType dtype, int columns, const int32_t* ids,
                 int count, float* out) {
  switch (dtype) {
    case DType::kF32:
      return EmbedAs<float>(stream, table, columns, ids, count, out);
    case DType::kF16:
      return EmbedAs<F16>(stream, table, columns, ids, count, out);
    case DType::kBF16:
      return EmbedAs<Bf16>(stream, table, columns, ids, count, out);
    default:
      return;  // not a type of weights
  }
}

void LaunchGatherRows(Stream stream, const float* x, const int32_t* rows, int count, int columns,
                      float* out) {
  EmbedAs<float>(stream, x, columns, rows, count, out);
}

}  // namespace octogate::kernels::cuda

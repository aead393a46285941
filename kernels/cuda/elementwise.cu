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

void LaunchGatherRows(Stream stream, const float* x, const int32_t* rows, int count, int columns,
                      float* out) {
  Launch(stream, RowGrid(count, columns), kElementwiseThreads, 0, GatherRowsKernel, x, columns,
         rows, count, out);
}

void LaunchEditLogits(Stream stream, const LogitEdit* edits, int count, int columns,
                      float* logits) {
  Launch(stream, RowGrid(1, count), kElementwiseThreads, 0, EditLogitsKernel, edits, count, columns,
         logits);
}

}  // namespace octogate::kernels::cuda

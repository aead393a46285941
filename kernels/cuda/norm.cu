#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/norm.h"

namespace octogate::kernels::cuda {
namespace {

template <bool kCentred>
void LaunchNorm(Stream stream, const float* x, const float* weight, const float* bias, int rows,
                int columns, float epsilon, float* out) {
  const int threads = std::clamp((columns + 31) / 32 * 32, 32, kNormThreads);
  const size_t staged = sizeof(float) * (kNormHeader + static_cast<size_t>(columns));
  const Grid grid{static_cast<unsigned>(rows)};
  if (staged <= kMaxSharedBytes) {
    Launch(stream, grid, threads, staged, NormKernel<kCentred, true>, x, weight, bias, columns,
           epsilon, out);
  } else {
    Launch(stream, grid, threads, sizeof(float) * kNormHeader, NormKernel<kCentred, false>, x,
           weight, bias, columns, epsilon, out);
  }
}

}  // namespace

void LaunchRmsNorm(Stream stream, const float* x, const float* weight, int rows, int columns,
                   float epsilon, float* out) {
  LaunchNorm<false>(stream, x, weight, nullptr, rows, columns, epsilon, out);
}

void LaunchLayerNorm(Stream stream, const float* x, const float* weight, const float* bias,
                     int rows, int columns, float epsilon, float* out) {
  LaunchNorm<true>(stream, x, weight, bias, rows, columns, epsilon, out);
}

}  // namespace octogate::kernels::cuda

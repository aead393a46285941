#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/norm.cuh"
#include "kernels/cuda/norm.h"

namespace octogate::kernels::cuda {
namespace {

// Each row of `stride` floats holds `parts` side by side that are normed by themselves.
struct Parts {
  int parts = 1;
  int stride = 0;
};

template <bool kCentred>
void LaunchNorm(Stream stream, const float* x, const float* weight, const float* bias, int rows,
                const Parts& parts, int columns, float epsilon, float* out) {
  const int threads = std::clamp((columns + 31) / 32 * 32, 32, kNormThreads);
  const size_t staged = sizeof(float) * (kNormHeader + static_cast<size_t>(columns));
  const Grid grid{static_cast<unsigned>(rows * parts.parts)};
  if (staged <= kMaxSharedBytes) {
    Launch(stream, grid, threads, staged, NormKernel<kCentred, true>, x, weight, bias, parts.parts,
           parts.stride, columns, epsilon, out);
  } else {
    Launch(stream, grid, threads, sizeof(float) * kNormHeader, NormKernel<kCentred, false>, x,
           weight, bias, parts.parts, parts.stride, columns, epsilon, out);
  }
}

}  // namespace

void LaunchRmsNorm(Stream stream, const float* x, const float* weight, int rows, int columns,
                   float epsilon, float* out) {
  LaunchNorm<false>(stream, x, weight, nullptr, rows, {1, columns}, columns, epsilon, out);
}

void LaunchRmsNormHeads(Stream stream, const float* weight, int rows, int heads, int head_dim,
                        int stride, float epsilon, float* x) {
  LaunchNorm<false>(stream, x, weight, nullptr, rows, {heads, stride}, head_dim, epsilon, x);
}

void LaunchLayerNorm(Stream stream, const float* x, const float* weight, const float* bias,
                     int rows, int columns, float epsilon, float* out) {
  LaunchNorm<true>(stream, x, weight, bias, rows, {1, columns}, columns, epsilon, out);
}

}  // namespace octogate::kernels::cuda

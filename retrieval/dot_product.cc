#include "retrieval/dot_product.h"

#include <cstring>

namespace octogate::retrieval {
namespace {

// Four vectors of lanes, whose sums do not wait for each other.
constexpr size_t kLanes = 8;
constexpr size_t kStep = 4 * kLanes;
using Lanes = float __attribute__((vector_size(kLanes * sizeof(float))));

// By reference: how a vector is passed depends on the instruction set.
inline __attribute__((always_inline)) void AddProducts(const float* a, const float* b, Lanes* sum) {
  Lanes x;
  Lanes y;
  std::memcpy(&x, a, sizeof(x));
  std::memcpy(&y, b, sizeof(y));
  *sum += x * y;
}

inline __attribute__((always_inline)) float Loop(const float* a, const float* b, size_t size) {
  Lanes sums[4] = {};
  size_t i = 0;
  for (; i + kStep <= size; i += kStep) {
    for (size_t v = 0; v < 4; ++v) AddProducts(a + i + v * kLanes, b + i + v * kLanes, &sums[v]);
  }
  const Lanes all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float sum = 0;
  for (; i < size; ++i) sum += a[i] * b[i];
  for (size_t lane = 0; lane < kLanes; ++lane) sum += all[lane];
  return sum;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) float DotProductAvx2(const float* a, const float* b, size_t size) {
  return Loop(a, b, size);
}
#endif

}  // namespace

float PlainDotProduct(const float* a, const float* b, size_t size) { return Loop(a, b, size); }

DotProductFunction FindDotProduct() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) return DotProductAvx2;
#endif
  return PlainDotProduct;
}

}  // namespace octogate::retrieval

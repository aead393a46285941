#include "kernels/cpu/sum_exp.h"

#include "kernels/cpu/isa.h"
#include "kernels/cpu/kernel_table.h"

namespace octogate::kernels {
namespace {

const KernelTable& BestKernels() {
#if defined(__x86_64__)
  if (IsSupported(Isa::kAvx512)) return Avx512Kernels();
  if (IsSupported(Isa::kAvx2)) return Avx2Kernels();
#endif
  return PlainKernels();
}

}  // namespace

float SumExp(std::span<const float> x, float max, float scale) {
  static const KernelTable& kernels = BestKernels();
  return kernels.sum_exp(x.data(), static_cast<int>(x.size()), max, scale);
}

}  // namespace octogate::kernels

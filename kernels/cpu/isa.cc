#include "kernels/cpu/isa.h"

namespace octogate::kernels {

// __builtin_cpu_supports asks CPUID and, for AVX and AVX-512, XGETBV: without
// the operating system's support for their registers it answers no.
bool IsSupported(Isa isa) {
  switch (isa) {
    case Isa::kAuto:
    case Isa::kPlain:
      return true;
#if defined(__x86_64__)
    case Isa::kAvx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
    case Isa::kAvx512:
      return IsSupported(Isa::kAvx2) && __builtin_cpu_supports("avx512f") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512dq");
    case Isa::kAvx512Vnni:
      return IsSupported(Isa::kAvx512) && __builtin_cpu_supports("avx512vnni");
    case Isa::kAvx512Bf16:
      return IsSupported(Isa::kAvx512) && __builtin_cpu_supports("avx512bf16");
#endif
    default:
      return false;
  }
}

Isa BestIsa() {
  if (IsSupported(Isa::kAvx512Bf16)) return Isa::kAvx512Bf16;
  if (IsSupported(Isa::kAvx512Vnni)) return Isa::kAvx512Vnni;
  if (IsSupported(Isa::kAvx512)) return Isa::kAvx512;
  return IsSupported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kPlain;
}

}  // namespace octogate::kernels

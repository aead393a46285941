#include "kernels/cpu/isa.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace octogate::kernels {
namespace {

#if defined(__x86_64__)

bool HasAmx() {
#if defined(__linux__)
  // GCC 12 does not know AMX by name in __builtin_cpu_supports: CPUID leaf 7.
  constexpr unsigned kBf16Bit = 1u << 22;
  constexpr unsigned kTileBit = 1u << 24;
  constexpr unsigned kInt8Bit = 1u << 25;
  constexpr unsigned kAll = kBf16Bit | kTileBit | kInt8Bit;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  static const bool has = [] {
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kAll) == kAll &&
           syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return has;
#else
  return false;
#endif
}

#endif

}  // namespace

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
    case Isa::kAvx512Vbmi:
      return IsSupported(Isa::kAvx512Vnni) && __builtin_cpu_supports("avx512vbmi");
    case Isa::kAvx512Bf16:
      return IsSupported(Isa::kAvx512Vbmi) && __builtin_cpu_supports("avx512bf16");
    case Isa::kAmx:
      return IsSupported(Isa::kAvx512Bf16) && HasAmx();
#endif
    default:
      return false;
  }
}

Isa BestIsa() {
  if (IsSupported(Isa::kAmx)) return Isa::kAmx;
  if (IsSupported(Isa::kAvx512Bf16)) return Isa::kAvx512Bf16;
  if (IsSupported(Isa::kAvx512Vbmi)) return Isa::kAvx512Vbmi;
  if (IsSupported(Isa::kAvx512Vnni)) return Isa::kAvx512Vnni;
  if (IsSupported(Isa::kAvx512)) return Isa::kAvx512;
  return IsSupported(Isa::kAvx2) ? Isa::kAvx2 : Isa::kPlain;
}

}  // namespace octogate::kernels

// Which instruction set the CPU kernels use.

#ifndef OCTOGATE_KERNELS_CPU_ISA_H_
#define OCTOGATE_KERNELS_CPU_ISA_H_

#include <cstdint>

namespace octogate::kernels {

enum class Isa : uint8_t {
  kAuto,        // the best that this machine runs
  kPlain,       // no SIMD of its own; any CPU
  kAvx2,        // AVX2, FMA and F16C
  kAvx512,      // AVX-512 F, BW, VL and DQ
  kAvx512Vnni,  // and AVX512_VNNI, the dot product of 8-bit quadruples
  kAvx512Vbmi,  // and AVX512_VBMI, the look-up of bytes
  kAvx512Bf16,  // and AVX512_BF16, the dot product of pairs of BF16
  kAmx,         // and the tiles of AMX with BF16 and 8-bit integers
};

constexpr const char* Name(Isa isa) {
  switch (isa) {
    case Isa::kAuto:
      return "auto";
    case Isa::kPlain:
      return "plain";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
    case Isa::kAvx512Vbmi:
      return "avx512vbmi";
    case Isa::kAvx512Bf16:
      return "avx512bf16";
    case Isa::kAmx:
      return "amx";
  }
  return "?";
}

// Whether the CPU has the instructions and the operating system keeps their
// registers. kAuto and kPlain always do. The first question about AMX asks Linux
// for this process's permission to use it (arch_prctl(2), ARCH_REQ_XCOMP_PERM).
bool IsSupported(Isa isa);

// The best supported set; never kAuto.
Isa BestIsa();

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_ISA_H_

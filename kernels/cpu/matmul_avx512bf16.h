// Products of BF16 pairs with the instruction VDPBF16PS of AVX512_BF16, which multiplies
// and adds twice as many values as those of floats; codes of FP8 are looked up beside it.

#ifndef OCTOGATE_KERNELS_CPU_MATMUL_AVX512BF16_H_
#define OCTOGATE_KERNELS_CPU_MATMUL_AVX512BF16_H_

#include "kernels/cpu/kernel_table.h"

namespace octogate::kernels {

// KernelTable::bf16_pairs for Isa::kAvx512Bf16.
PackedProducts Avx512Bf16Pairs();

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_MATMUL_AVX512BF16_H_

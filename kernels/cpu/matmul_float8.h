// The product of one row and FP8 weights with AVX512_VBMI, whose look-ups widen
// codes in two thirds of the instructions that AVX-512 alone takes.

#ifndef OCTOGATE_KERNELS_CPU_MATMUL_FLOAT8_H_
#define OCTOGATE_KERNELS_CPU_MATMUL_FLOAT8_H_

#include "kernels/cpu/kernel_table.h"

namespace octogate::kernels {

// KernelTable::matmul for Isa::kAvx512Vbmi: others than one row of kF8E4M3 are left
// to the table of kAvx512.
void MatMulAvx512Vbmi(const MatMulArgs& args, int begin, int end, float* scratch);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_MATMUL_FLOAT8_H_

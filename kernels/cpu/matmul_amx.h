// Products on the tile registers of Intel's AMX, with the bits of the kernels
// that they stand in for.

#ifndef OCTOGATE_KERNELS_CPU_MATMUL_AMX_H_
#define OCTOGATE_KERNELS_CPU_MATMUL_AMX_H_

#if defined(__x86_64__)

#include "kernels/cpu/kernel_table.h"

namespace octogate::kernels::amx {

// KernelTable::bf16. Rounded rows of x are
// kept as [row / 16][block][row % 16][32 columns] in BF16.
PackedProducts Products();

}  // namespace octogate::kernels::amx

#endif  // defined(__x86_64__)

#endif  // OCTOGATE_KERNELS_CPU_MATMUL_AMX_H_

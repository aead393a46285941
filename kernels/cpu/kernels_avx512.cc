#define OCTOGATE_ISA avx512
#define OCTOGATE_ISA_NAME "avx512"

#include "kernels/bf16_dot.h"
#include "kernels/cpu/f32x16_avx512.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/elementary.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

// After the lanes that it is made of.
#include "kernels/cpu/table-inl.h"

namespace octogate::kernels {

const KernelTable& Avx512Kernels() { return avx512::kTable; }

}  // namespace octogate::kernels

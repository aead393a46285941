#include "kernels/bf16_dot.h"
#include "kernels/cpu/f32x16_avx2.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/elementary.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

#define OCTOGATE_ISA avx2
#define OCTOGATE_ISA_NAME "avx2"
#include "kernels/cpu/table-inl.h"

namespace octogate::kernels {

const KernelTable& Avx2Kernels() { return avx2::kTable; }

}  // namespace octogate::kernels

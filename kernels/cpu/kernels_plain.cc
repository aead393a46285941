#include "kernels/bf16_dot.h"
#include "kernels/cpu/f32x16_plain.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/elementary.h"
#include "kernels/quantized_dot.h"
#include "kernels/reduction_order.h"

#define OCTOGATE_ISA plain
#define OCTOGATE_ISA_NAME "plain"
#include "kernels/cpu/table-inl.h"

namespace octogate::kernels {

const KernelTable& PlainKernels() { return plain::kTable; }

}  // namespace octogate::kernels

// Sums of exponentials of what the host's memory holds, for what is drawn from logits there.

#ifndef OCTOGATE_KERNELS_CPU_SUM_EXP_H_
#define OCTOGATE_KERNELS_CPU_SUM_EXP_H_

#include <span>

namespace octogate::kernels {

// The sum of Exp((x - max) * scale) in lanes (kernels/reduction_order.h), with the best
// instructions that the CPU has: the same bits on every one. At most 2^31 - 1 values.
float SumExp(std::span<const float> x, float max, float scale);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_SUM_EXP_H_

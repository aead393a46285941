// Makes the table of one instruction set; no include guard. The parts are
// included in this order, as each uses the one before.

// clang-format off
#include "kernels/cpu/elementwise-inl.h"
#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/matmul_bf16-inl.h"
#include "kernels/cpu/attention-inl.h"
// clang-format on

namespace octogate::kernels::OCTOGATE_ISA {

inline constexpr KernelTable kTable = {
    .name = OCTOGATE_ISA_NAME,
    .matmul = MatMul,
    .round_inputs = RoundInputs,
    .matmul_bf16 = MatMulBf16,
    .rms_norm = RmsNorm,
    .layer_norm = LayerNorm,
    .maximum = MaximumOf,
    .sum_exp = SumExp,
    .widen = WidenAny,
    .silu_mul = GateMul<Silu>,
    .gelu_tanh_mul = GateMul<GeluTanh>,
    .gelu_erf_mul = GateMul<GeluErf>,
    .attend_block = AttendBlock,
    .merge = MergeBlock,
    .divide = Divide,
};

}  // namespace octogate::kernels::OCTOGATE_ISA

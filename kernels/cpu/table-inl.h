// Makes the table of one instruction set; no include guard. The parts are
// included in this order, as each uses the one before.

// clang-format off
#include "kernels/cpu/elementwise-inl.h"
#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/matmul_bf16-inl.h"
#include "kernels/cpu/bf16_pairs_fma-inl.h"
#include "kernels/cpu/matmul_pairs-inl.h"
#include "kernels/cpu/attention-inl.h"
// clang-format on

namespace octogate::kernels::OCTOGATE_ISA {

inline constexpr KernelTable kTable = {
    .name = OCTOGATE_ISA_NAME,
    .matmul = MatMul,
    .bf16 = {.rows_together = 1,
             .row_bytes = RoundedRowBytes,
             .round_inputs = RoundInputs,
             .matmul = MatMulBf16},
    .bf16_pairs = {.rows_together = kPairBlockRows,
                   .row_bytes = RoundedPairsBytes,
                   .round_inputs = RoundPairs,
                   .matmul = MatMulPairs},
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

// Makes the table of one instruction set; no include guard. The parts are
// included in this order, as each uses the one before.

// clang-format off
#include "kernels/cpu/elementwise-inl.h"
#include "kernels/cpu/matmul-inl.h"
#include "kernels/cpu/matmul_bf16-inl.h"
#include "kernels/cpu/packed_fma-inl.h"
#include "kernels/cpu/matmul_packed-inl.h"
#include "kernels/cpu/attention-inl.h"
// clang-format on

namespace octogate::kernels::OCTOGATE_ISA {

inline constexpr KernelTable kTable = {
    .name = OCTOGATE_ISA_NAME,
    .matmul = MatMul,
    .many_rows = {.rows_together = kPackedRows,
                  .row_bytes = PackedRowBytes<DType::kF32>,
                  .pack_inputs = PackInputs<DType::kF32>,
                  .matmul = MatMulPacked<DType::kF32>},
    .bf16 = {.rows_together = 1,
             .row_bytes = RoundedRowBytes,
             .pack_inputs = RoundInputs,
             .matmul = MatMulBf16},
    .bf16_pairs = {.rows_together = kPackedRows,
                   .row_bytes = PackedRowBytes<DType::kBF16>,
                   .pack_inputs = PackInputs<DType::kBF16>,
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

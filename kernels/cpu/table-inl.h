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
    OCTOGATE_ISA_NAME, MatMul,           MatMulBf16,  RmsNorm,    WidenAny, GateMul<Silu>,
    GateMul<GeluTanh>, GateMul<GeluErf>, AttendBlock, MergeBlock, Divide,
};

}  // namespace octogate::kernels::OCTOGATE_ISA

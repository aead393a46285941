#define OCTOGATE_ISA avx2

#include <type_traits>

#include "kernels/cpu/codes_avx2.h"
#include "kernels/cpu/quantized_table.h"
#include "kernels/quantized_dot.h"

// After the codes that it is made of.
#include "kernels/cpu/quantized-inl.h"

namespace octogate::kernels {

const QuantizedKernelTable& Avx2QuantizedKernels() { return avx2::kQuantizedTable; }

}  // namespace octogate::kernels

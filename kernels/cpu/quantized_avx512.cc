#define OCTOGATE_ISA avx512

#include <type_traits>

#include "kernels/cpu/codes_avx512.h"
#include "kernels/cpu/quantized_table.h"
#include "kernels/quantized_dot.h"

// After the codes that it is made of.
#include "kernels/cpu/quantized-inl.h"

namespace octogate::kernels {

const QuantizedKernelTable& Avx512QuantizedKernels() { return avx512::kQuantizedTable; }

}  // namespace octogate::kernels

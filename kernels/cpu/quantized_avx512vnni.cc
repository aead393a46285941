#define OCTOGATE_ISA avx512vnni

#include <type_traits>

#include "kernels/cpu/codes_avx512.h"
#include "kernels/cpu/quantized_table.h"
#include "kernels/quantized_dot.h"

// After the codes that it is made of.
#include "kernels/cpu/quantized-inl.h"

namespace octogate::kernels {

const QuantizedKernelTable& Avx512VnniQuantizedKernels() { return avx512vnni::kQuantizedTable; }

}  // namespace octogate::kernels

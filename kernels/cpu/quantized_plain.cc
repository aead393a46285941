#define OCTOGATE_ISA plain

#include <type_traits>

#include "kernels/cpu/codes_plain.h"
#include "kernels/cpu/quantized_table.h"
#include "kernels/quantized_dot.h"

// After the codes that it is made of.
#include "kernels/cpu/quantized-inl.h"

namespace octogate::kernels {

const QuantizedKernelTable& PlainQuantizedKernels() { return plain::kQuantizedTable; }

}  // namespace octogate::kernels

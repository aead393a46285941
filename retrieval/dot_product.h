#ifndef OCTOGATE_RETRIEVAL_DOT_PRODUCT_H_
#define OCTOGATE_RETRIEVAL_DOT_PRODUCT_H_

#include <cstddef>

namespace octogate::retrieval {

// The dot product of two vectors of `size` floats, summed in an order that depends on the size
// alone: every instruction set gives the same bits.
using DotProductFunction = float (*)(const float* a, const float* b, size_t size);

// The fastest one of this machine.
DotProductFunction FindDotProduct();

// The one that needs no instruction set in particular.
float PlainDotProduct(const float* a, const float* b, size_t size);

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DOT_PRODUCT_H_

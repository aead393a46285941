// The backend that the others are tested against: plain scalar loops that
// follow kernels/reduction_order.h word for word. One thread, no tuning.

#ifndef OCTOGATE_KERNELS_REFERENCE_REFERENCE_BACKEND_H_
#define OCTOGATE_KERNELS_REFERENCE_REFERENCE_BACKEND_H_

#include <memory>

#include "kernels/backend.h"

namespace octogate::kernels {

// Null where memory cannot be had.
std::unique_ptr<Backend> MakeReferenceBackend();

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_REFERENCE_REFERENCE_BACKEND_H_

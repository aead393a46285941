// The backend for NVIDIA GPUs of compute capability 8.0 and newer.
//
// One stream carries all work in the order of the calls; a call returns as soon
// as its work is queued, except those that hand results to the host. Memory is
// taken when the backend, its weights, buffers and caches are made; a step takes
// none (kernels/cuda/memory.h, Staging, has the exception).
//
// Weights are kept as stored or in BF16; LoadWeight gives null for the quantised
// formats, and CreateKvCache for caches in 8 bits.
//
// Every operation keeps the order of kernels/reduction_order.h and therefore
// gives the bits of the CPU backends (with F32 activations).
//
// A device that fails while it works ends the process with a message: its
// context is lost, and only a new process can go on.

#ifndef OCTOGATE_KERNELS_CUDA_CUDA_BACKEND_H_
#define OCTOGATE_KERNELS_CUDA_CUDA_BACKEND_H_

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/backend.h"

namespace octogate::kernels::cuda {

// Null where no such device answers, it is too old, its memory cannot be had,
// or this build has no CUDA: `problem` then says which, and what would help.
std::unique_ptr<Backend> MakeBackend(int device, std::string* problem);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_CUDA_BACKEND_H_

// The backend for NVIDIA GPUs of compute capability 8.0 and newer.
//
// One stream carries all work in the order of the calls, and a second one copies
// pages beside it (page_copies.h); a call returns as soon as its work is queued,
// except those that hand results to the host. Inside a step
// (Backend::BeginStep) kernels are put off and started together, as a CUDA graph
// where the same step has come before (step_graphs.h), and the step's tables go to
// the device in one copy. Memory is
// taken when the backend, its weights, buffers and caches are made; a step takes
// none (kernels/cuda/memory.h, Staging, has the exception). But the CUDA runtime
// does, for kernels that run first and for graphs: FreeBytes leaves 256 MiB for it.
//
// Weights of 16 bits and in all quantised formats are packed for the tensor
// cores, with the values of kernels/quantize.h; F32 stays F32.
//
// Numerics. Products with packed weights have an order of their own
// (kernels/cuda/matmul_layout.h), the same for any number of rows and any chunks:
// they are as close to the exact ones as that file says, but do not have the bits
// of the CPU's, which moreover rounds inputs to 8 bits where weights are integers.
// So does attention over keys and values in BF16 and 8 bits with heads of 64, 96 or
// 128 values (kernels/cuda/tensor_attention.h).
// All else, F32 weights included, keeps the order of kernels/reduction_order.h
// and gives the bits of the CPU backends (with F32 activations).
//
// A device that fails while it works ends the process with a message: its
// context is lost, and only a new process can go on.

#ifndef OCTOGATE_KERNELS_CUDA_CUDA_BACKEND_H_
#define OCTOGATE_KERNELS_CUDA_CUDA_BACKEND_H_

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/backend.h"
#include "kernels/cuda/matmul_layout.h"
#include "kernels/cuda/step_counters.h"

namespace octogate::kernels::cuda {

struct Options {
  int device = 0;  // counted from 0, as the CUDA runtime does
  // What products with packed weights make of their inputs. All backends whose
  // results are to be the same must agree.
  InputRounding input_rounding = InputRounding::kSplit;
  // Attention in the order of the CPU backends throughout, on CUDA cores.
  bool exact_attention = false;
  // Graphs of steps that are kept (step_graphs.h); 0: kernels are started one by
  // one.
  size_t step_graphs = 64;
};

// How the steps of a backend that MakeBackend made were started.
const StepCounters& StepCountersOf(const Backend& backend);

// Null where no such device answers, it is too old, its memory cannot be had,
// or this build has no CUDA: `problem` then says which, and what would help.
std::unique_ptr<Backend> MakeBackend(const Options& options, std::string* problem);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_CUDA_BACKEND_H_

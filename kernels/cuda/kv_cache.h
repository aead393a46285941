// The paged KV cache on the device.

#ifndef OCTOGATE_KERNELS_CUDA_KV_CACHE_H_
#define OCTOGATE_KERNELS_CUDA_KV_CACHE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/step_rows.h"
#include "kernels/cuda/stream.h"
#include "kernels/dtype.h"
#include "kernels/host_device.h"

namespace octogate::kernels::cuda {

// Layout [page][layer][kv head][keys, values][slot in page][head_dim], as in the
// host's cache: a page is one block of memory.
struct KvView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int layers = 0;
  int page_size = 0;
  int kv_heads = 0;
  int head_dim = 0;
};

// Elements from the start of the cache to the key of a head in slot `in_page`
// of a page; its value lies ValueDistance further.
OCTOGATE_HOST_DEVICE inline int64_t KeyOffset(const KvView& cache, int page, int layer, int kv_head,
                                              int in_page) {
  const int64_t head =
      (static_cast<int64_t>(page) * cache.layers + layer) * cache.kv_heads + kv_head;
  return (head * 2 * cache.page_size + in_page) * cache.head_dim;
}
OCTOGATE_HOST_DEVICE inline int64_t ValueDistance(const KvView& cache) {
  return static_cast<int64_t>(cache.page_size) * cache.head_dim;
}

// Backend::WriteKv; `rows` are on the device.
void LaunchWriteKv(Stream stream, const KvView& cache, int layer, const StepRows& rows,
                   const float* keys, const float* values, int stride);

// Backend::MoveKv; `pages` and `rows` are on the device.
void LaunchMoveKv(Stream stream, const KvView& cache, const int32_t* pages, int first_position,
                  const int32_t* rows, int count);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_KV_CACHE_H_

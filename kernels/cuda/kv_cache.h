// The paged KV cache on the device.

#ifndef OCTOGATE_KERNELS_CUDA_KV_CACHE_H_
#define OCTOGATE_KERNELS_CUDA_KV_CACHE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/step_rows.h"
#include "kernels/cuda/stream.h"
#include "kernels/dtype.h"
#include "kernels/host_device.h"

namespace octogate::kernels::cuda {

// Layout [page][layer][kv head][keys, values][run], as in the host's cache: a page
// is one block of memory. A run is [slot in page][head_dim] elements and, for kI8,
// the slots' scales (F32), each of the two padded to a multiple of 16 bytes.
struct KvView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int layers = 0;
  int page_size = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int element_bytes = 4;
  int64_t scales = 0;     // bytes from the start of a run to its scales
  int64_t run_bytes = 0;  // from the keys of a head in a page to their values
  bool operator==(const KvView&) const = default;
};

// A view of `data`, which may be null; its runs hold what the shape says.
inline KvView ViewKv(const KvCacheShape& shape, void* data) {
  constexpr int64_t kAlignment = 16;
  const auto padded = [](int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  };
  KvView view{data, shape.dtype, shape.layers, shape.page_size, shape.kv_heads, shape.head_dim};
  view.element_bytes = static_cast<int>(SizeOf(shape.dtype));
  view.scales = padded(int64_t{shape.page_size} * shape.head_dim * view.element_bytes);
  view.run_bytes =
      view.scales + (shape.dtype == DType::kI8 ? padded(int64_t{4} * shape.page_size) : 0);
  return view;
}

// Bytes from the start of the cache to the keys of a head in a page.
OCTOGATE_HOST_DEVICE inline int64_t RunOffset(const KvView& cache, int page, int layer,
                                              int kv_head) {
  const int64_t head =
      (static_cast<int64_t>(page) * cache.layers + layer) * cache.kv_heads + kv_head;
  return head * 2 * cache.run_bytes;
}
// Bytes from the start of a run to the key (or value) in slot `in_page`, and to
// its scale.
OCTOGATE_HOST_DEVICE inline int64_t SlotOffset(const KvView& cache, int in_page) {
  return static_cast<int64_t>(in_page) * cache.head_dim * cache.element_bytes;
}
OCTOGATE_HOST_DEVICE inline int64_t ScaleOffset(const KvView& cache, int in_page) {
  return cache.scales + static_cast<int64_t>(in_page) * static_cast<int64_t>(sizeof(float));
}

// Backend::WriteKv; `rows` are on the device.
void LaunchWriteKv(Stream stream, const KvView& cache, int layer, const StepRows& rows,
                   const float* keys, const float* values, int stride);

// Backend::MoveKv; `pages` and `rows` are on the device.
void LaunchMoveKv(Stream stream, const KvView& cache, const int32_t* pages, int first_position,
                  const int32_t* rows, int count);

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_KV_CACHE_H_

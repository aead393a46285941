// Kernels of kv_cache.h.

#ifndef OCTOGATE_KERNELS_CUDA_KV_CACHE_CUH_
#define OCTOGATE_KERNELS_CUDA_KV_CACHE_CUH_

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/cuda/device.h"
#include "kernels/cuda/kv_cache.h"
#include "kernels/kv_quantize.h"

namespace octogate::kernels::cuda {

inline constexpr int kKvThreads = 128;

// Bytes from the start of the cache to the page's keys of kv head 0 that the row
// is kept in.
OCTOGATE_DEVICE int64_t RowRunOffset(const KvView& cache, int layer, const StepRows& rows,
                                     const StepRow& row) {
  return RunOffset(cache, rows.pages[row.first_page + row.slot / cache.page_size], layer, 0);
}

// A block writes one row.
template <typename T>
OCTOGATE_KERNEL void WriteKvKernel(KvView cache, int layer, StepRows rows, const float* keys,
                                   const float* values, int stride) {
  const StepRow row = rows.rows[BlockX()];
  uint8_t* run = static_cast<uint8_t*>(cache.data) + RowRunOffset(cache, layer, rows, row);
  const int64_t slot = SlotOffset(cache, row.slot % cache.page_size);
  const int64_t from = static_cast<int64_t>(row.row) * stride;
  for (int c = ThreadIndex(); c < cache.kv_heads * cache.head_dim; c += BlockThreads()) {
    uint8_t* head = run + c / cache.head_dim * 2 * cache.run_bytes + slot;
    reinterpret_cast<T*>(head)[c % cache.head_dim] = FromFloat<T>(keys[from + c]);
    reinterpret_cast<T*>(head + cache.run_bytes)[c % cache.head_dim] =
        FromFloat<T>(values[from + c]);
  }
}

// The same in kI8: a warp takes the key or the value of one head.
OCTOGATE_KERNEL void WriteKvInt8Kernel(KvView cache, int layer, StepRows rows, const float* keys,
                                       const float* values, int stride) {
  const StepRow row = rows.rows[BlockX()];
  uint8_t* run = static_cast<uint8_t*>(cache.data) + RowRunOffset(cache, layer, rows, row);
  const int in_page = row.slot % cache.page_size;
  for (int i = Warp(); i < 2 * cache.kv_heads; i += BlockThreads() / kWarpThreads) {
    const float* from = (i % 2 == 0 ? keys : values) + static_cast<int64_t>(row.row) * stride +
                        static_cast<int64_t>(i / 2) * cache.head_dim;
    uint8_t* to = run + i * cache.run_bytes;
    float largest = 0;
    bool infinite = false;  // or a NaN
    for (int d = Lane(); d < cache.head_dim; d += kWarpThreads) {
      const float magnitude = std::fabs(from[d]);
      infinite |= !(magnitude <= std::numeric_limits<float>::max());
      if (magnitude > largest) largest = magnitude;
    }
    for (int mask = kWarpThreads / 2; mask > 0; mask /= 2) {
      const float other = ShuffleXor(largest, mask);
      if (other > largest) largest = other;
    }
    const KvScale scale = KvScaleFor(WarpAny(infinite) ? INFINITY : largest);
    int8_t* codes = reinterpret_cast<int8_t*>(to + SlotOffset(cache, in_page));
    for (int d = Lane(); d < cache.head_dim; d += kWarpThreads) codes[d] = KvCode(from[d], scale);
    if (Lane() == 0) *reinterpret_cast<float*>(to + ScaleOffset(cache, in_page)) = scale.scale;
  }
}

// A block moves one kv head of one layer, its values behind its keys, in units
// of T. Each thread keeps to its own columns, and the rows are ascending, so that
// what is moved is read before it is written over.
template <typename T>
OCTOGATE_KERNEL void MoveKvKernel(KvView cache, const int32_t* pages, int first_position,
                                  const int32_t* rows, int count) {
  uint8_t* data = static_cast<uint8_t*>(cache.data);
  const int units = cache.head_dim * cache.element_bytes / static_cast<int>(sizeof(T));
  for (int i = 0; i < count; ++i) {
    if (rows[i] == i) continue;
    const int from_slot = first_position + rows[i];
    const int to_slot = first_position + i;
    const uint8_t* from =
        data + RunOffset(cache, pages[from_slot / cache.page_size], BlockX(), BlockY());
    uint8_t* to = data + RunOffset(cache, pages[to_slot / cache.page_size], BlockX(), BlockY());
    const int from_in_page = from_slot % cache.page_size;
    const int to_in_page = to_slot % cache.page_size;
    for (int part = 0; part < 2; ++part) {
      const T* source = reinterpret_cast<const T*>(from + SlotOffset(cache, from_in_page));
      T* target = reinterpret_cast<T*>(to + SlotOffset(cache, to_in_page));
      for (int c = ThreadIndex(); c < units; c += BlockThreads()) target[c] = source[c];
      if (cache.dtype == DType::kI8 && ThreadIndex() == 0) {
        *reinterpret_cast<float*>(to + ScaleOffset(cache, to_in_page)) =
            *reinterpret_cast<const float*>(from + ScaleOffset(cache, from_in_page));
      }
      from += cache.run_bytes;
      to += cache.run_bytes;
    }
  }
}

}  // namespace octogate::kernels::cuda

#endif  // OCTOGATE_KERNELS_CUDA_KV_CACHE_CUH_

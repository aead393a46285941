#include "kernels/host_kv_cache.h"

#include <cassert>
#include <new>
#include <utility>

#include "kernels/float16.h"
#include "kernels/float8.h"
#include "kernels/kv_quantize.h"

namespace octogate::kernels {
namespace {

// False on overflow.
bool MultiplyInto(size_t factor, size_t* product) {
  return !__builtin_mul_overflow(*product, factor, product);
}

template <typename T, typename Narrow>
void StoreNarrow(const float* from, int count, const Narrow& narrow, uint8_t* to) {
  for (int i = 0; i < count; ++i) {
    const T value = narrow(from[i]);
    std::memcpy(to + static_cast<size_t>(i) * sizeof(T), &value, sizeof(T));
  }
}

// Where a slot of a sequence lies.
struct Place {
  int page;
  int in_page;
};

Place Find(const KvCacheShape& shape, std::span<const int32_t> pages, int slot) {
  const int page = pages[static_cast<size_t>(slot / shape.page_size)];
  assert(page >= 0 && page < shape.pages);
  return {page, slot % shape.page_size};
}

}  // namespace

HostKvCache::HostKvCache(const KvCacheShape& shape, HostArray<uint8_t> data)
    : shape_(shape),
      position_bytes_(static_cast<size_t>(shape.head_dim) * SizeOf(shape.dtype)),
      run_bytes_(KvHeadBytes(shape.dtype, shape.head_dim) * static_cast<size_t>(shape.page_size)),
      data_(std::move(data)) {}

std::unique_ptr<HostKvCache> HostKvCache::Make(const KvCacheShape& shape) {
  if (shape.head_dim < 0) return nullptr;
  size_t bytes = 2 * KvHeadBytes(shape.dtype, shape.head_dim);
  for (const int factor : {shape.layers, shape.pages, shape.page_size, shape.kv_heads}) {
    if (factor < 0 || !MultiplyInto(static_cast<size_t>(factor), &bytes)) return nullptr;
  }
  HostArray<uint8_t> data = AllocateHost<uint8_t>(bytes);
  if (data == nullptr) return nullptr;
  return std::unique_ptr<HostKvCache>(new (std::nothrow) HostKvCache(shape, std::move(data)));
}

void HostKvCache::Store(const float* from, uint8_t* run, int in_page) {
  uint8_t* to = run + static_cast<size_t>(in_page) * position_bytes_;
  switch (shape_.dtype) {
    case DType::kF32:
      std::memcpy(to, from, position_bytes_);
      return;
    case DType::kF16:
      return StoreNarrow<uint16_t>(from, shape_.head_dim, FloatToFloat16, to);
    case DType::kBF16:
      return StoreNarrow<uint16_t>(from, shape_.head_dim, FloatToBFloat16, to);
    case DType::kF8E4M3:
      return StoreNarrow<uint8_t>(from, shape_.head_dim, FloatToFloat8, to);
    case DType::kI8: {
      const KvScale scale = KvScaleOf(from, shape_.head_dim);
      StoreNarrow<int8_t>(
          from, shape_.head_dim, [&](float x) { return KvCode(x, scale); }, to);
      std::memcpy(run + ScaleOffset(in_page), &scale.scale, sizeof(scale.scale));
      return;
    }
  }
}

void HostKvCache::Copy(const uint8_t* from_run, int from_in_page, uint8_t* to_run, int to_in_page) {
  std::memcpy(to_run + static_cast<size_t>(to_in_page) * position_bytes_,
              from_run + static_cast<size_t>(from_in_page) * position_bytes_, position_bytes_);
  if (!scaled()) return;
  std::memcpy(to_run + ScaleOffset(to_in_page), from_run + ScaleOffset(from_in_page),
              sizeof(float));
}

void MoveHostKv(HostKvCache& cache, std::span<const int32_t> pages, int first_position,
                std::span<const int32_t> rows) {
  const KvCacheShape& shape = cache.shape();
  for (size_t i = 0; i < rows.size(); ++i) {
    assert(rows[i] >= static_cast<int32_t>(i) && (i == 0 || rows[i] > rows[i - 1]));
    if (rows[i] == static_cast<int32_t>(i)) continue;
    const Place from = Find(shape, pages, first_position + rows[i]);
    const Place to = Find(shape, pages, first_position + static_cast<int>(i));
    for (int layer = 0; layer < shape.layers; ++layer) {
      for (int h = 0; h < shape.kv_heads; ++h) {
        cache.Copy(cache.keys(from.page, layer, h), from.in_page, cache.keys(to.page, layer, h),
                   to.in_page);
        cache.Copy(cache.values(from.page, layer, h), from.in_page, cache.values(to.page, layer, h),
                   to.in_page);
      }
    }
  }
}

void DownloadHostPage(const HostKvCache& cache, int32_t page, std::span<std::byte> to) {
  assert(page >= 0 && page < cache.shape().pages && to.size() == cache.page_bytes());
  std::memcpy(to.data(), cache.page(page).data(), to.size());
}

void UploadHostPage(std::span<const std::byte> from, HostKvCache& cache, int32_t page) {
  assert(page >= 0 && page < cache.shape().pages && from.size() == cache.page_bytes());
  std::memcpy(cache.page(page).data(), from.data(), from.size());
}

void WriteHostKv(HostKvCache& cache, int layer, const SequenceRows& sequence, const float* keys,
                 const float* values, int stride) {
  const KvCacheShape& shape = cache.shape();
  for (int i = 0; i < sequence.row_count; ++i) {
    const Place to = Find(shape, sequence.pages, sequence.first_position + i);
    const size_t row = static_cast<size_t>(sequence.first_row + i) * static_cast<size_t>(stride);
    for (int h = 0; h < shape.kv_heads; ++h) {
      const size_t from = row + static_cast<size_t>(h) * static_cast<size_t>(shape.head_dim);
      cache.Store(keys + from, cache.keys(to.page, layer, h), to.in_page);
      cache.Store(values + from, cache.values(to.page, layer, h), to.in_page);
    }
  }
}

}  // namespace octogate::kernels

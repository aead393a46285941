#include "kernels/host_memory.h"

#include <cassert>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "kernels/float16.h"
#include "kernels/quantize.h"

namespace octogate::kernels {
namespace {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;

class HostBuffer final : public Buffer {
 public:
  HostBuffer(HostArray<float> data, size_t size) : data_(std::move(data)), size_(size) {}
  float* data() override { return data_.get(); }
  size_t size() const override { return size_; }

 private:
  HostArray<float> data_;
  size_t size_;
};

// False on overflow.
bool MultiplyInto(size_t factor, size_t* product) {
  return !__builtin_mul_overflow(*product, factor, product);
}

}  // namespace

void FreeDeleter::operator()(void* memory) const { std::free(memory); }

void* AllocateHostBytes(size_t bytes) {
  const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  if (bytes > SIZE_MAX - alignment) return nullptr;
  // aligned_alloc asks for a multiple of the alignment, and not for nothing.
  const size_t rounded = bytes == 0 ? alignment : (bytes + alignment - 1) / alignment * alignment;
  return std::aligned_alloc(alignment, rounded);
}

std::unique_ptr<Buffer> MakeHostBuffer(size_t floats) {
  HostArray<float> data = AllocateHost<float>(floats);
  if (data == nullptr) return nullptr;
  return std::unique_ptr<Buffer>(new (std::nothrow) HostBuffer(std::move(data), floats));
}

HostWeight::HostWeight(const HostMatrix& matrix)
    : data_(static_cast<const uint8_t*>(matrix.data)),
      dtype_(matrix.dtype),
      row_bytes_(static_cast<size_t>(matrix.cols) * SizeOf(matrix.dtype)) {
  rows = matrix.rows;
  cols = matrix.cols;
  bytes = static_cast<size_t>(rows) * row_bytes_;
}

std::unique_ptr<HostWeight> HostWeight::MakeBf16(const HostMatrix& matrix) {
  HostMatrix rounded = matrix;
  HostArray<uint8_t> owned;
  QuantizationSums sums;
  if (matrix.dtype != DType::kBF16) {
    const auto cols = static_cast<size_t>(matrix.cols);
    owned = AllocateHost<uint8_t>(static_cast<size_t>(matrix.rows) * cols * 2);
    const HostArray<float> values = AllocateHost<float>(cols);
    const HostArray<uint8_t> codes =
        AllocateHost<uint8_t>(QuantizedRowBytes(WeightFormat::kBf16, matrix.cols));
    if (owned == nullptr || values == nullptr || codes == nullptr) return nullptr;
    for (int r = 0; r < matrix.rows; ++r) {
      WidenRow(matrix, r, values.get());
      sums.Add(QuantizeRow(WeightFormat::kBf16, values.get(), matrix.cols, codes.get(), nullptr,
                           nullptr));
      std::memcpy(owned.get() + static_cast<size_t>(r) * cols * 2, codes.get(), cols * 2);
    }
    rounded.data = owned.get();
    rounded.dtype = DType::kBF16;
  }
  std::unique_ptr<HostWeight> weight(new (std::nothrow) HostWeight(rounded));
  if (weight == nullptr) return nullptr;
  weight->owned_ = std::move(owned);
  weight->format = WeightFormat::kBf16;
  weight->error = sums.Error();
  return weight;
}

HostKvCache::HostKvCache(const KvCacheShape& shape, HostArray<uint8_t> data)
    : shape_(shape),
      position_bytes_(static_cast<size_t>(shape.head_dim) * SizeOf(shape.dtype)),
      run_bytes_(position_bytes_ * static_cast<size_t>(shape.page_size)),
      data_(std::move(data)) {}

std::unique_ptr<HostKvCache> HostKvCache::Make(const KvCacheShape& shape) {
  size_t bytes = 2 * SizeOf(shape.dtype);
  for (const int factor :
       {shape.layers, shape.pages, shape.page_size, shape.kv_heads, shape.head_dim}) {
    if (factor < 0 || !MultiplyInto(static_cast<size_t>(factor), &bytes)) return nullptr;
  }
  HostArray<uint8_t> data = AllocateHost<uint8_t>(bytes);
  if (data == nullptr) return nullptr;
  return std::unique_ptr<HostKvCache>(new (std::nothrow) HostKvCache(shape, std::move(data)));
}

void StoreAs(DType dtype, const float* from, int count, uint8_t* to) {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
      return;
    case DType::kF16:
      for (int i = 0; i < count; ++i) {
        const uint16_t narrow = FloatToFloat16(from[i]);
        std::memcpy(to + 2 * i, &narrow, 2);
      }
      return;
    case DType::kBF16:
      for (int i = 0; i < count; ++i) {
        const uint16_t narrow = FloatToBFloat16(from[i]);
        std::memcpy(to + 2 * i, &narrow, 2);
      }
      return;
  }
}

void MoveHostKv(HostKvCache& cache, std::span<const int32_t> pages, int first_position,
                std::span<const int32_t> rows) {
  const KvCacheShape& shape = cache.shape();
  const size_t bytes = cache.position_bytes();
  const auto page_of = [&](int slot) {
    const int page = pages[static_cast<size_t>(slot / shape.page_size)];
    assert(page >= 0 && page < shape.pages);
    return page;
  };
  const auto offset_of = [&](int slot) {
    return static_cast<size_t>(slot % shape.page_size) * bytes;
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    const int from = first_position + rows[i];
    const int to = first_position + static_cast<int>(i);
    assert(from >= to && (i == 0 || rows[i] > rows[i - 1]));
    if (from == to) continue;
    for (int layer = 0; layer < shape.layers; ++layer) {
      for (int h = 0; h < shape.kv_heads; ++h) {
        std::memcpy(cache.keys(page_of(to), layer, h) + offset_of(to),
                    cache.keys(page_of(from), layer, h) + offset_of(from), bytes);
        std::memcpy(cache.values(page_of(to), layer, h) + offset_of(to),
                    cache.values(page_of(from), layer, h) + offset_of(from), bytes);
      }
    }
  }
}

void WriteHostKv(HostKvCache& cache, int layer, const SequenceRows& sequence, const float* keys,
                 const float* values, int stride) {
  const KvCacheShape& shape = cache.shape();
  for (int i = 0; i < sequence.row_count; ++i) {
    const int position = sequence.first_position + i;
    const int page = sequence.pages[static_cast<size_t>(position / shape.page_size)];
    assert(page >= 0 && page < shape.pages);
    const size_t row = static_cast<size_t>(sequence.first_row + i) * static_cast<size_t>(stride);
    const size_t offset = static_cast<size_t>(position % shape.page_size) * cache.position_bytes();
    for (int h = 0; h < shape.kv_heads; ++h) {
      const size_t from = row + static_cast<size_t>(h) * static_cast<size_t>(shape.head_dim);
      StoreAs(shape.dtype, keys + from, shape.head_dim, cache.keys(page, layer, h) + offset);
      StoreAs(shape.dtype, values + from, shape.head_dim, cache.values(page, layer, h) + offset);
    }
  }
}

}  // namespace octogate::kernels

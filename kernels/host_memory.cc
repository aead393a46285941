#include "kernels/host_memory.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

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

class OwnedBlock final : public HostBlock {
 public:
  OwnedBlock(HostArray<std::byte> data, size_t size) : data_(std::move(data)), size_(size) {}
  std::span<std::byte> bytes() override { return {data_.get(), size_}; }

 private:
  HostArray<std::byte> data_;
  size_t size_;
};

}  // namespace

void FreeDeleter::operator()(void* memory) const { std::free(memory); }

void* AllocateHostBytes(size_t bytes) {
  const size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  if (bytes > SIZE_MAX - alignment) return nullptr;
  // aligned_alloc asks for a multiple of the alignment, and not for nothing.
  const size_t rounded = bytes == 0 ? alignment : (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
#if defined(__linux__)
  // Whole huge pages only, so that no more is taken than was asked for. It is a
  // wish: without huge pages everything works, but streams more slowly.
  const size_t whole = bytes / kHugePage * kHugePage;
  if (memory != nullptr && whole > 0) static_cast<void>(madvise(memory, whole, MADV_HUGEPAGE));
#endif
  return memory;
}

std::unique_ptr<Buffer> MakeHostBuffer(size_t floats) {
  HostArray<float> data = AllocateHost<float>(floats);
  if (data == nullptr) return nullptr;
  return std::unique_ptr<Buffer>(new (std::nothrow) HostBuffer(std::move(data), floats));
}

std::unique_ptr<HostBlock> MakeHostBlock(size_t bytes) {
  HostArray<std::byte> data = AllocateHost<std::byte>(bytes);
  if (data == nullptr) return nullptr;
  return std::unique_ptr<HostBlock>(new (std::nothrow) OwnedBlock(std::move(data), bytes));
}

void EditHostLogits(std::span<const LogitEdit> edits, int columns, float* logits) {
  for (const LogitEdit& edit : edits) {
    float& logit = logits[static_cast<size_t>(edit.row) * static_cast<size_t>(columns) +
                          static_cast<size_t>(edit.id)];
    logit = Edited(logit, edit);
  }
}

HostWeight::HostWeight(const HostMatrix& matrix)
    : data_(static_cast<const uint8_t*>(matrix.data)),
      dtype_(matrix.dtype),
      row_bytes_(static_cast<size_t>(matrix.cols) * SizeOf(matrix.dtype)) {
  rows = matrix.rows;
  cols = matrix.cols;
  bytes = static_cast<size_t>(rows) * row_bytes_;
}

std::unique_ptr<HostWeight> HostWeight::Copy(const HostMatrix& matrix) {
  std::unique_ptr<HostWeight> weight(new (std::nothrow) HostWeight(matrix));
  if (weight == nullptr) return nullptr;
  weight->owned_ = AllocateHost<uint8_t>(weight->bytes);
  if (weight->owned_ == nullptr) return nullptr;
  if (weight->bytes > 0) std::memcpy(weight->owned_.get(), matrix.data, weight->bytes);
  weight->data_ = weight->owned_.get();
  return weight;
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

}  // namespace octogate::kernels

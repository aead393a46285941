// Buffers and weights of the backends whose memory is the host's.

#ifndef OCTOGATE_KERNELS_HOST_MEMORY_H_
#define OCTOGATE_KERNELS_HOST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/backend.h"

namespace octogate::kernels {

// Owned memory, aligned to a cache line (to a huge page where it is that large)
// and uninitialised. Null where memory cannot be had.
struct FreeDeleter {
  void operator()(void* memory) const;
};
template <typename T>
using HostArray = std::unique_ptr<T[], FreeDeleter>;

void* AllocateHostBytes(size_t bytes);

template <typename T>
HostArray<T> AllocateHost(size_t count) {
  if (count > SIZE_MAX / sizeof(T)) return nullptr;
  return HostArray<T>(static_cast<T*>(AllocateHostBytes(count * sizeof(T))));
}

// Null where memory cannot be had.
std::unique_ptr<Buffer> MakeHostBuffer(size_t floats);

// Null where memory cannot be had.
std::unique_ptr<HostBlock> MakeHostBlock(size_t bytes);

// Backend::EditLogits.
void EditHostLogits(std::span<const LogitEdit> edits, int columns, float* logits);

// A dense matrix of floating-point numbers: the checkpoint's bytes in place, or
// numbers of its own.
class HostWeight final : public Weight {
 public:
  explicit HostWeight(const HostMatrix& matrix);
  // Of its own, as they are. Null where memory cannot be had.
  static std::unique_ptr<HostWeight> Copy(const HostMatrix& matrix);
  // Rounded to BF16; the bytes in place where they are that already. Null where
  // memory cannot be had.
  static std::unique_ptr<HostWeight> MakeBf16(const HostMatrix& matrix);

  DType dtype() const { return dtype_; }
  const uint8_t* data() const { return data_; }
  const uint8_t* row(int r) const { return data_ + static_cast<size_t>(r) * row_bytes_; }

 private:
  HostArray<uint8_t> owned_;  // null where in place
  const uint8_t* data_;
  DType dtype_;
  size_t row_bytes_;
};

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_HOST_MEMORY_H_

// Buffers, weights and the KV cache of the backends whose memory is the host's.

#ifndef OCTOGATE_KERNELS_HOST_MEMORY_H_
#define OCTOGATE_KERNELS_HOST_MEMORY_H_

#include <bit>
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

// A dense matrix of floating-point numbers: the checkpoint's bytes in place
// (kStored), or numbers of its own (kBf16).
class HostWeight final : public Weight {
 public:
  explicit HostWeight(const HostMatrix& matrix);
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

// Layout [page][layer][kv head][keys, values][position][head_dim]: a page is one
// block of memory, and a head's keys in it are adjacent.
class HostKvCache final : public KvCache {
 public:
  // Null where memory cannot be had or the shape overflows.
  static std::unique_ptr<HostKvCache> Make(const KvCacheShape& shape);

  const KvCacheShape& shape() const override { return shape_; }

  // The page's first key or value of a head; the following positions of the
  // page stand head_dim elements apart.
  uint8_t* keys(int page, int layer, int kv_head) const {
    const size_t head = (static_cast<size_t>(page) * static_cast<size_t>(shape_.layers) +
                         static_cast<size_t>(layer)) *
                            static_cast<size_t>(shape_.kv_heads) +
                        static_cast<size_t>(kv_head);
    return data_.get() + head * 2 * run_bytes_;
  }
  uint8_t* values(int page, int layer, int kv_head) const {
    return keys(page, layer, kv_head) + run_bytes_;
  }
  size_t position_bytes() const { return position_bytes_; }

 private:
  HostKvCache(const KvCacheShape& shape, HostArray<uint8_t> data);

  KvCacheShape shape_;
  size_t position_bytes_;  // one key of one head
  size_t run_bytes_;       // the keys of one head in one page
  HostArray<uint8_t> data_;
};

// Narrows `count` floats to the cache's type.
void StoreAs(DType dtype, const float* from, int count, uint8_t* to);

// The n-th ancestor of a row stands n positions after the first row: calls
// f(n, row) for all of them in ascending order.
template <typename F>
void ForAncestors(const AncestorMask& mask, const F& f) {
  int n = 0;
  for (int w = 0; w < 2; ++w) {
    for (uint64_t left = mask.words[w]; left != 0; left &= left - 1) {
      f(n++, 64 * w + std::countr_zero(left));
    }
  }
}

// What Backend::MoveKv does.
void MoveHostKv(HostKvCache& cache, std::span<const int32_t> pages, int first_position,
                std::span<const int32_t> rows);

// Writes the rows of Backend::WriteKv.
void WriteHostKv(HostKvCache& cache, int layer, const SequenceRows& sequence, const float* keys,
                 const float* values, int stride);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_HOST_MEMORY_H_

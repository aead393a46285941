// The KV cache of the backends whose memory is the host's.

#ifndef OCTOGATE_KERNELS_HOST_KV_CACHE_H_
#define OCTOGATE_KERNELS_HOST_KV_CACHE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "kernels/backend.h"
#include "kernels/host_memory.h"

namespace octogate::kernels {

// Layout [page][layer][kv head][keys, values][run], where a run is
// [position][head_dim] elements and, for kI8, the positions' scales (F32, at any
// alignment): a page is one block of memory, and a head's keys in it are
// adjacent.
class HostKvCache final : public KvCache {
 public:
  // Null where memory cannot be had or the shape overflows.
  static std::unique_ptr<HostKvCache> Make(const KvCacheShape& shape);

  const KvCacheShape& shape() const override { return shape_; }
  size_t page_bytes() const override {
    return static_cast<size_t>(shape_.layers) * static_cast<size_t>(shape_.kv_heads) * 2 *
           run_bytes_;
  }
  std::span<uint8_t> page(int32_t index) const {
    return {data_.get() + static_cast<size_t>(index) * page_bytes(), page_bytes()};
  }

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

  // Whether keys and values have scales.
  bool scaled() const { return shape_.dtype == DType::kI8; }
  // The first byte of the scales of the run that starts at `run`. Only where scaled().
  const uint8_t* scales(const uint8_t* run) const { return run + ScaleOffset(0); }
  // The scale of a position (counted in the page) of the run that starts at
  // `run`: keys() or values(). Only where scaled().
  float Scale(const uint8_t* run, int in_page) const {
    float scale;
    std::memcpy(&scale, run + ScaleOffset(in_page), sizeof(scale));
    return scale;
  }

  // Narrows head_dim floats to a position of a run.
  void Store(const float* from, uint8_t* run, int in_page);
  // From one position of a run to one of another.
  void Copy(const uint8_t* from_run, int from_in_page, uint8_t* to_run, int to_in_page);

 private:
  HostKvCache(const KvCacheShape& shape, HostArray<uint8_t> data);

  // From the start of a run.
  size_t ScaleOffset(int in_page) const {
    return position_bytes_ * static_cast<size_t>(shape_.page_size) +
           static_cast<size_t>(in_page) * sizeof(float);
  }

  KvCacheShape shape_;
  size_t position_bytes_;  // one key of one head
  size_t run_bytes_;       // the keys of one head in one page, and their scales
  HostArray<uint8_t> data_;
};

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

// What Backend::DownloadPage and UploadPage do.
void DownloadHostPage(const HostKvCache& cache, int32_t page, std::span<std::byte> to);
void UploadHostPage(std::span<const std::byte> from, HostKvCache& cache, int32_t page);

// Writes the rows of Backend::WriteKv.
void WriteHostKv(HostKvCache& cache, int layer, const SequenceRows& sequence, const float* keys,
                 const float* values, int stride);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_HOST_KV_CACHE_H_

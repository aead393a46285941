// Weights with integer codes in the form that the CPU kernels read as one stream.

#ifndef OCTOGATE_KERNELS_CPU_PACKED_WEIGHT_H_
#define OCTOGATE_KERNELS_CPU_PACKED_WEIGHT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/host_memory.h"
#include "kernels/weight_format.h"

namespace octogate::kernels {

class PackedWeight final : public Weight {
 public:
  // Quantises, on the threads of the pool. Null where memory cannot be had or the
  // matrix is too wide. The result does not depend on the threads.
  static std::unique_ptr<PackedWeight> Make(const HostMatrix& matrix, WeightFormat format,
                                            ThreadPool& pool);

  // Layouts in kernels/cpu/quantized_table.h.
  const uint8_t* codes() const { return codes_.get(); }
  const float* row_scales() const { return row_scales_.get(); }
  const uint16_t* group_scales() const { return group_scales_.get(); }

  int panels() const { return panels_; }
  int groups() const { return groups_; }  // of columns
  size_t panel_bytes() const { return panel_bytes_; }

  void Dequantize(int row, float* out) const;

 private:
  PackedWeight() = default;

  // Spreads a row of kernels/quantize.h's codes over its panel.
  void PackRow(int row, const uint8_t* codes, float row_scale, const uint16_t* group_scales);

  int panels_ = 0;
  int groups_ = 0;
  size_t panel_bytes_ = 0;
  HostArray<uint8_t> codes_;
  HostArray<float> row_scales_;       // kInt8
  HostArray<uint16_t> group_scales_;  // kInt8Group, kInt4Group
};

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_PACKED_WEIGHT_H_

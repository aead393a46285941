// Floating-point weights in the form that the CPU kernels read as one stream.

#ifndef OCTOGATE_KERNELS_CPU_PANEL_WEIGHT_H_
#define OCTOGATE_KERNELS_CPU_PANEL_WEIGHT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/host_memory.h"
#include "kernels/weight_format.h"

namespace octogate::kernels {

class PanelWeight final : public Weight {
 public:
  // kStored, kBf16 or kFp8; rounds on the threads of the pool. Null where memory
  // cannot be had, or where a matrix that is to be quantised is too wide. The
  // result does not depend on the threads.
  static std::unique_ptr<PanelWeight> Make(const HostMatrix& matrix, WeightFormat format,
                                           ThreadPool& pool);

  // Layouts in kernels/cpu/kernel_table.h.
  DType dtype() const { return dtype_; }
  const uint8_t* data() const { return data_.get(); }
  const float* row_scales() const { return row_scales_.get(); }  // null without
  int panels() const { return panels_; }
  int blocks() const { return blocks_; }  // of columns
  size_t panel_bytes() const { return panel_bytes_; }

  // A row, widened.
  void Dequantize(int row, float* out) const;

 private:
  PanelWeight() = default;

  // Puts a row, in elements of dtype_, into its place.
  void PackRow(int row, const uint8_t* from);

  DType dtype_ = DType::kF32;
  int panels_ = 0;
  int blocks_ = 0;
  size_t panel_bytes_ = 0;
  HostArray<uint8_t> data_;
  HostArray<float> row_scales_;
};

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_CPU_PANEL_WEIGHT_H_

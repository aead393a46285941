// A weight where it lies in a mapped checkpoint file.
#ifndef OCTOGATE_WORKERS_MODEL_WEIGHT_VIEW_H_
#define OCTOGATE_WORKERS_MODEL_WEIGHT_VIEW_H_

#include <cstddef>
#include <cstdint>

#include "workers/model/dtype.h"

namespace octogate::workers {

// A row-major matrix [rows, cols]; a projection is stored as
// [out_features, in_features], a vector (norm weight, bias) as one row.
// F32, F16 or BF16; not necessarily aligned. `data` is null where the
// architecture has no such weight.
struct WeightView {
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;

  explicit operator bool() const { return data != nullptr; }
  size_t size_bytes() const { return static_cast<size_t>(rows * cols) * DTypeSize(dtype); }
  size_t row_bytes() const { return static_cast<size_t>(cols) * DTypeSize(dtype); }
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_WEIGHT_VIEW_H_

// Weights of a checkpoint to codes and scales (kernels/weight_format.h), on the
// host and with one definition for all backends. Symmetric: a weight is its
// scale times its code, and zero stays zero.
//
//   format      scale (m: the largest magnitude of the row or group)
//   kInt8       m / 127
//   kInt8Group  m / 127, rounded to F16
//   kInt4Group  v / -8 with v the first value of magnitude m, rounded to F16; may
//               be negative, so that the largest value has the code -8
//   kFp8        m / 448
//
// code = w / scale, rounded to nearest with ties to even and then bounded to the
// format's range. Where m is below 2^-100, or its scale rounds to zero, the
// scale and the codes are zero; a scale is at most the largest finite F16 where
// it is one. A NaN gets the code 0; an infinity the largest code of its sign,
// and neither counts in m. kBf16 has no scale and rounds what it finds.

#ifndef OCTOGATE_KERNELS_QUANTIZE_H_
#define OCTOGATE_KERNELS_QUANTIZE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "kernels/backend.h"
#include "kernels/host_memory.h"
#include "kernels/weight_format.h"

namespace octogate::kernels {

// A quantised matrix in a form that every backend can repack.
struct QuantizedMatrix {
  WeightFormat format = WeightFormat::kStored;
  int rows = 0;
  int cols = 0;

  // Row-major; a row starts at a multiple of row_bytes and is filled with zeros
  // up to whole groups of columns.
  //   kBf16: uint16_t; kInt8, kInt8Group: int8_t; kFp8: uint8_t;
  //   kInt4Group: a byte for columns 2 i (low bits) and 2 i + 1, as code + 8
  //   (the fill is code 0, hence 0x88).
  size_t row_bytes = 0;
  HostArray<uint8_t> codes;

  HostArray<float> row_scales;       // [rows]; kInt8, kFp8
  HostArray<uint16_t> group_scales;  // [rows, QuantizationGroups(cols)] in F16

  QuantizationError error;  // over the finite weights
};

// Calls f(part) for each part in [0, parts), on whatever threads, and returns when
// all calls have.
using PartRunner = std::function<void(int parts, const std::function<void(int part)>& f)>;

// Empty where memory cannot be had. `format` is not kStored and matrix.cols is at
// most kMaxQuantizedColumns (checked by assert). `run` may be empty: one part after
// the other. It makes no difference to the result, error included.
std::optional<QuantizedMatrix> Quantize(const HostMatrix& matrix, WeightFormat format,
                                        const PartRunner& run = {});

// The values of a row: scale * code in float; out has room for `cols` floats.
void Dequantize(const QuantizedMatrix& matrix, int row, float* out);

// The integer code of a weight. Only for formats with integer codes.
int CodeAt(const QuantizedMatrix& matrix, int row, int col);

// Bytes that the codes of a row take in QuantizedMatrix.
size_t QuantizedRowBytes(WeightFormat format, int cols);

// Bytes that a backend may take for a weight of this shape, padding included.
size_t LoadedWeightBytes(DType stored, int rows, int cols, WeightFormat format);

// A row of a dense matrix, widened to float.
void WidenRow(const HostMatrix& matrix, int row, float* out);

// The sums behind QuantizationError. Parts of a matrix may be summed apart; the
// parts are to be added in one order, so that the figures are reproducible.
struct QuantizationSums {
  double squared_error = 0;
  double squared_weight = 0;
  double max_absolute = 0;

  void Add(const QuantizationSums& other);
  QuantizationError Error() const;
};

// Quantises one row: `values` [cols] are its weights widened. Writes
// QuantizedRowBytes of codes and, as the format has them, the row's scale or its
// groups' scales. Allocates nothing.
QuantizationSums QuantizeRow(WeightFormat format, const float* values, int cols, uint8_t* codes,
                             float* row_scale, uint16_t* group_scales);

}  // namespace octogate::kernels

#endif  // OCTOGATE_KERNELS_QUANTIZE_H_

#include "workers/engine/weight_loader.h"

#include <cassert>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace octogate::workers {

std::string Describe(const WeightReport& report) {
  std::string text = absl::StrCat("weights as ", kernels::Name(report.format));
  if (report.worst_error > 0) {
    absl::StrAppendFormat(&text, ": relative error %.5f in the mean, %.5f at worst, in %s",
                          report.mean_error, report.worst_error, report.worst_matrix);
  }
  return text;
}

kernels::DType ToKernelDType(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return kernels::DType::kF16;
    case DType::kBF16:
      return kernels::DType::kBF16;
    default:  // the checkpoint has refused what is not a floating-point type of these three
      assert(dtype == DType::kF32);
      return kernels::DType::kF32;
  }
}

void WeightLoader::Load(const WeightView& view, int64_t rows,
                        std::optional<kernels::WeightFormat> as, WeightPtr& weight) {
  if (!status_.ok()) return;
  const kernels::HostMatrix matrix{.data = view.data,
                                   .dtype = ToKernelDType(view.dtype),
                                   .rows = static_cast<int>(rows),
                                   .cols = static_cast<int>(view.cols)};
  weight = as ? backend_.LoadWeight(matrix, *as) : backend_.LoadTable(matrix);
  if (weight) return;
  status_ = absl::ResourceExhaustedError(
      absl::StrCat("the backend ", backend_.Describe(), " cannot hold a weight matrix of ", rows,
                   " x ", view.cols, " of ", std::string(DTypeName(view.dtype)), " in the format ",
                   kernels::Name(as.value_or(kernels::WeightFormat::kStored))));
}

void WeightLoader::Matrix(std::string_view name, const WeightView& view, WeightPtr& weight,
                          int64_t rows) {
  Load(view, rows == 0 ? view.rows : rows, report_.format, weight);
  if (!status_.ok()) return;
  ++matrices_;
  report_.bytes += weight->bytes;
  report_.mean_error += (weight->error.relative_rms - report_.mean_error) / matrices_;
  if (weight->error.relative_rms > report_.worst_error) {
    report_.worst_error = weight->error.relative_rms;
    report_.worst_matrix = std::string(name);
  }
}

void WeightLoader::Table(const WeightView& view, WeightPtr& weight, bool multiplied) {
  Load(view, view.rows, multiplied ? std::optional(kernels::WeightFormat::kStored) : std::nullopt,
       weight);
}

void WeightLoader::Vector(const WeightView& view, BufferPtr& buffer) {
  if (!view || !status_.ok()) return;
  buffer = backend_.Allocate(static_cast<size_t>(view.cols));
  if (!buffer) {
    status_ = absl::ResourceExhaustedError(
        absl::StrCat("the backend ", backend_.Describe(), " cannot hold a vector of ", view.cols));
    return;
  }
  // Looking up the only row of a table widens it to float in the backend's memory.
  WeightPtr table;
  Load(view, 1, std::nullopt, table);
  if (!status_.ok()) return;
  const int32_t row = 0;
  backend_.Embed(*table, {&row, 1}, buffer->data());
  backend_.Synchronize();
}

}  // namespace octogate::workers

#include "workers/engine/weight_loader.h"

#include <algorithm>
#include <cassert>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/host_memory.h"

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

void WeightLoader::Load(const WeightView& view, std::optional<kernels::WeightFormat> as,
                        WeightPtr& weight) {
  if (!status_.ok()) return;
  const kernels::HostMatrix matrix{.data = view.data,
                                   .dtype = ToKernelDType(view.dtype),
                                   .rows = static_cast<int>(view.rows),
                                   .cols = static_cast<int>(view.cols)};
  weight = as ? backend_.LoadWeight(matrix, *as) : backend_.LoadTable(matrix);
  if (weight) return;
  status_ = absl::ResourceExhaustedError(
      absl::StrCat("the backend ", backend_.Describe(), " cannot hold a weight matrix of ",
                   view.rows, " x ", view.cols, " of ", std::string(DTypeName(view.dtype)),
                   " in the format ", kernels::Name(as.value_or(kernels::WeightFormat::kStored))));
}

void WeightLoader::Matrix(std::string_view name, const WeightView& view, WeightPtr& weight) {
  Load(view, report_.format, weight);
  if (!status_.ok()) return;
  ++matrices_;
  report_.bytes += weight->bytes;
  report_.mean_error += (weight->error.relative_rms - report_.mean_error) / matrices_;
  if (weight->error.relative_rms > report_.worst_error) {
    report_.worst_error = weight->error.relative_rms;
    report_.worst_matrix = std::string(name);
  }
}

void WeightLoader::JoinedMatrix(std::string_view name, std::span<const WeightView> views,
                                WeightPtr& weight) {
  if (!status_.ok()) return;
  WeightView joined = views[0];
  bool adjacent = true;
  for (const WeightView& view : views.subspan(1)) {
    assert(view.dtype == joined.dtype && view.cols == joined.cols);
    adjacent = adjacent && view.data == joined.data + joined.size_bytes();
    joined.rows += view.rows;
  }
  if (adjacent) return Matrix(name, joined, weight);
  const auto copy = kernels::AllocateHost<std::byte>(joined.size_bytes());
  if (copy == nullptr) {
    status_ = absl::ResourceExhaustedError(absl::StrCat("there is no memory for ",
                                                        joined.size_bytes(), " bytes of ",
                                                        std::string(name), " to be put together"));
    return;
  }
  std::byte* to = copy.get();
  for (const WeightView& view : views) to = std::copy_n(view.data, view.size_bytes(), to);
  joined.data = copy.get();
  Matrix(name, joined, weight);
}

void WeightLoader::Table(const WeightView& view, WeightPtr& weight, bool multiplied) {
  Load(view, multiplied ? std::optional(kernels::WeightFormat::kStored) : std::nullopt, weight);
}

void WeightLoader::JoinedVector(std::span<const WeightView> views, BufferPtr& buffer) {
  if (!views[0] || !status_.ok()) return;
  int64_t values = 0;
  for (const WeightView& view : views) values += view.cols;
  buffer = backend_.Allocate(static_cast<size_t>(values));
  if (!buffer) {
    status_ = absl::ResourceExhaustedError(
        absl::StrCat("the backend ", backend_.Describe(), " cannot hold a vector of ", values));
    return;
  }
  float* to = buffer->data();
  for (const WeightView& view : views) {
    // Looking up the only row of a table widens it to float in the backend's memory.
    WeightPtr table;
    Load(view, std::nullopt, table);
    if (!status_.ok()) return;
    const int32_t row = 0;
    backend_.Embed(*table, {&row, 1}, to);
    backend_.Synchronize();
    to += view.cols;
  }
}

}  // namespace octogate::workers

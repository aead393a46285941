#include "workers/model/tensor_resolver.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "workers/model/json_file.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxProblemsShown = 5;

bool IsWeightType(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (const int64_t size : shape) absl::StrAppend(&text, text.size() > 1 ? ", " : "", size);
  return text + "]";
}

}  // namespace

WeightView TensorResolver::Matrix(const std::string& name, int64_t rows, int64_t cols) {
  const int64_t shape[] = {rows, cols};
  return Take(name, shape, rows, cols);
}

WeightView TensorResolver::Vector(const std::string& name, int64_t size) {
  const int64_t shape[] = {size};
  return Take(name, shape, 1, size);
}

absl::Status TensorResolver::Finish(const std::string& directory,
                                    bool (*may_be_left)(std::string_view name)) {
  for (const TensorView& tensor : tensors_.tensors()) {
    if (!used_.contains(tensor.name) && !may_be_left(tensor.name)) {
      AddProblem(absl::StrCat("unexpected tensor ", QuotedForError(tensor.name), " ",
                              ShapeText(tensor.shape)));
    }
  }
  if (num_problems_ == 0) return absl::OkStatus();
  std::string message =
      absl::StrCat(directory, ": the weights do not match config.json: ", problems_);
  if (num_problems_ > kMaxProblemsShown) {
    absl::StrAppend(&message, "; and ", num_problems_ - kMaxProblemsShown, " more");
  }
  return absl::InvalidArgumentError(message);
}

WeightView TensorResolver::Take(const std::string& name, std::span<const int64_t> shape,
                                int64_t rows, int64_t cols) {
  const TensorView* tensor = tensors_.Find(name);
  if (tensor == nullptr) {
    AddProblem(absl::StrCat("missing tensor \"", name, "\" ", ShapeText(shape)));
    return {};
  }
  used_.insert(tensor->name);
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end())) {
    AddProblem(absl::StrCat("tensor \"", name, "\" has shape ", ShapeText(tensor->shape),
                            ", expected ", ShapeText(shape)));
    return {};
  }
  if (!IsWeightType(tensor->dtype)) {
    AddProblem(absl::StrCat("tensor \"", name, "\" has dtype ",
                            std::string(DTypeName(tensor->dtype)),
                            ", supported are F32, F16, BF16"));
    return {};
  }
  return {tensor->dtype, rows, cols, tensor->data.data()};
}

void TensorResolver::AddProblem(const std::string& problem) {
  if (num_problems_++ < kMaxProblemsShown) {
    absl::StrAppend(&problems_, problems_.empty() ? "" : "; ", problem);
  }
}

}  // namespace octogate::workers

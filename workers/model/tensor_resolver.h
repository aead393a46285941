// Matching the tensors of a checkpoint with what its architecture wants.
#ifndef OCTOGATE_WORKERS_MODEL_TENSOR_RESOLVER_H_
#define OCTOGATE_WORKERS_MODEL_TENSOR_RESOLVER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "workers/model/safetensors.h"
#include "workers/model/weight_view.h"

namespace octogate::workers {

// Hands out tensors by name, and keeps account of what did not fit and of what
// nobody asked for. A tensor that does not fit is an empty view; Finish says why.
class TensorResolver {
 public:
  // `tensors` must outlive the resolver.
  explicit TensorResolver(const SafetensorsCheckpoint& tensors) : tensors_(tensors) {}

  bool Has(std::string_view name) const { return tensors_.Find(name) != nullptr; }
  WeightView Matrix(const std::string& name, int64_t rows, int64_t cols);
  WeightView Vector(const std::string& name, int64_t size);
  // Takes note that `name`, which outlives the resolver, may be there.
  void Ignore(std::string_view name) { used_.insert(name); }

  // INVALID_ARGUMENT with all that did not fit, tensors that were not asked for
  // included unless may_be_left(name).
  absl::Status Finish(const std::string& directory, bool (*may_be_left)(std::string_view name));

 private:
  WeightView Take(const std::string& name, std::span<const int64_t> shape, int64_t rows,
                  int64_t cols);
  void AddProblem(const std::string& problem);

  const SafetensorsCheckpoint& tensors_;
  absl::flat_hash_set<std::string_view> used_;
  std::string problems_;
  size_t num_problems_ = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TENSOR_RESOLVER_H_

#ifndef OCTOGATE_ROUTER_EXAMPLE_EMBEDDINGS_H_
#define OCTOGATE_ROUTER_EXAMPLE_EMBEDDINGS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "router/embedding_model.h"

namespace octogate::router {

// The vectors of a graph's examples by one model. Immutable and thread-safe once made.
//
// Vectors of texts that an earlier version of the graph had too are taken from there, so that a new
// node costs its own examples only.
class ExampleEmbeddings {
 public:
  // Embeds those of `texts` that are not among `known`, vectors by the same model; equal ones once.
  // Blocks until `deadline` at most. Errors of the model are passed on; INTERNAL where its vectors
  // differ in length, INVALID_ARGUMENT where all have more than kMaxValues values.
  static absl::StatusOr<std::shared_ptr<const ExampleEmbeddings>> Make(
      const std::vector<std::string_view>& texts, EmbeddingModel& model, absl::Time deadline,
      const std::vector<std::shared_ptr<const ExampleEmbeddings>>& known);

  // 1 GiB.
  static constexpr size_t kMaxValues = size_t{1} << 28;

  // The vector of one of the texts; null for another.
  const float* Find(std::string_view text) const;
  // Values of a vector.
  size_t dimension() const { return dimension_; }

 private:
  ExampleEmbeddings() = default;

  size_t dimension_ = 0;
  std::vector<float> values_;  // one vector behind the other
  absl::flat_hash_map<std::string, size_t> places_;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_EXAMPLE_EMBEDDINGS_H_

// The graph that leads to the nearest vectors: FAISS's, over rows that it does not hold itself.
#ifndef OCTOGATE_RETRIEVAL_VECTOR_GRAPH_H_
#define OCTOGATE_RETRIEVAL_VECTOR_GRAPH_H_

#include <faiss/IndexHNSW.h>
#include <faiss/impl/DistanceComputer.h>

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "retrieval/vector_file.h"
#include "retrieval/vector_rows.h"

namespace octogate::retrieval {

// Distances as FAISS's graph takes them: less is nearer.
class RowDistances : public faiss::DistanceComputer {
 public:
  explicit RowDistances(const VectorRows* rows) : rows_(rows) {}
  void set_query(const float* query) override { query_ = query; }
  float operator()(idx_t row) override { return -rows_->Product(query_, static_cast<size_t>(row)); }
  float symmetric_dis(idx_t a, idx_t b) override {
    return -rows_->Product((*rows_)[static_cast<size_t>(a)], static_cast<size_t>(b));
  }

 private:
  const VectorRows* rows_;
  const float* query_ = nullptr;
};

// The rows as the storage of FAISS's index, which builds the graph. It holds nothing itself.
class RowStorage : public faiss::Index {
 public:
  explicit RowStorage(const VectorRows* rows)
      : faiss::Index(static_cast<idx_t>(rows->dimension)), rows_(rows) {}
  void add(idx_t n, const float*) override { ntotal += n; }
  void search(idx_t, const float*, idx_t, float*, idx_t*,
              const faiss::SearchParameters*) const override {}
  void reset() override { ntotal = 0; }
  faiss::DistanceComputer* get_distance_computer() const override {
    return new RowDistances(rows_);
  }

 private:
  const VectorRows* rows_;
};

struct VectorLinks {
  VectorLinks(const VectorRows* rows, int links) : storage(rows), index(&storage, links) {}
  RowStorage storage;
  faiss::IndexHNSW index;
};

// Adds the rows from `first` to `end`, one behind the other and none of them in a file. Throws what
// FAISS does.
void AddLinks(const VectorRows& rows, size_t first, size_t end, int build_breadth, int threads,
              VectorLinks* links);

// The graph of a file over these rows, which it has as many of; INVALID_ARGUMENT with the reason
// where it cannot be walked. Takes levels and links out of `graph`. `rows` outlives what is made.
absl::StatusOr<std::unique_ptr<VectorLinks>> MakeLinks(const VectorRows* rows, VectorGraph* graph);

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_VECTOR_GRAPH_H_

#ifndef OCTOGATE_RETRIEVAL_VECTOR_INDEX_H_
#define OCTOGATE_RETRIEVAL_VECTOR_INDEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace octogate::retrieval {

struct VectorIndexOptions {
  // Values of a vector, in [1, VectorIndex::kMaxDimension].
  size_t dimension = 0;
  // Up to this many vectors each one is compared with the query; beyond, a graph leads to the
  // nearest (HNSW: Malkov and Yashunin 2016, arXiv:1603.09320; FAISS's). Once there is a graph it
  // stays. 0: a graph from the first vector on.
  size_t exact_up_to = 100'000;
  // Of the graph: links of a vector to others, in [4, 128], and how many candidates are weighed
  // when they are chosen, in [1, 1000].
  int links = 32;
  int build_breadth = 80;
  // Threads that build the graph. With one, equal calls build equal graphs.
  int build_threads = 1;
};

struct VectorHit {
  int64_t id = 0;
  float score = 0;  // The dot product with the query.

  friend bool operator==(const VectorHit&, const VectorHit&) = default;
};

// [begin, end)
struct IdRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// What a search may find: vectors whose id is among `ids` or in one of `ranges`. In any order, with
// repetitions and ids that the index lacks. The spans are the caller's.
struct VectorSelector {
  std::span<const int64_t> ids;
  std::span<const IdRange> ranges;
};

struct VectorSearch {
  // Null: everything may be found.
  const VectorSelector* selector = nullptr;
  // Candidates that a search of the graph keeps: more find more of the nearest and take longer.
  size_t breadth = 128;
};

// The nearest of a set of vectors of float32 and unit length, by their dot product, the cosine.
//
// A search compares every vector that it may find where these are at most `exact_up_to`: its result
// is exact, and equal to the last bit on every machine. Of more, the graph finds most: recall@10 of
// 0.95 and above at the default breadth is what the tests ask for, on clustered data. Scores are
// exact in any case, and the same calls give the same hits.
//
// Const functions are thread-safe, others need the index for themselves. Each runs in the calling
// thread alone, `build_threads` excepted. Never throws.
class VectorIndex {
 public:
  static constexpr size_t kMaxDimension = 8192;
  static constexpr size_t kMaxVectors = size_t{1} << 28;

  // INVALID_ARGUMENT where an option is out of its range.
  static absl::StatusOr<std::unique_ptr<VectorIndex>> Create(const VectorIndexOptions& options);
  ~VectorIndex();

  // Adds ids.size() vectors, one behind the other in `vectors`: all, or none where it fails.
  // INVALID_ARGUMENT for sizes that do not match or a vector whose length is not 1 (to 1e-3),
  // ALREADY_EXISTS for an id that is there already or given twice, RESOURCE_EXHAUSTED beyond
  // kMaxVectors or where memory ends. Adding many at once is cheaper than one at a time; adding may
  // rebuild what has shrunk to less than half by Remove.
  absl::Status Add(std::span<const int64_t> ids, std::span<const float> vectors);

  // Removes the vectors of these ids and returns how many were there. They are not found again, and
  // their ids may be added anew. Their memory is given back by a later Add.
  size_t Remove(std::span<const int64_t> ids);

  // The `k` nearest that may be found, or all where they are fewer: the nearest first, of equally
  // near ones the smaller id first. `query` has dimension() values and a
  // length below 1e15, else INVALID_ARGUMENT.
  absl::StatusOr<std::vector<VectorHit>> Search(std::span<const float> query, size_t k,
                                                const VectorSearch& search = {}) const;

  // The vector of this id, or nothing where it cannot be found. Valid until the next call that is
  // not const.
  std::span<const float> Vector(int64_t id) const;

  // Writes the index to a file, in the place of one that is there: a reader sees the old one or the
  // new one, whole. Errors of the file system as their codes.
  absl::Status Save(const std::string& path) const;

  // Reads what Save has written. Vectors are read into memory or, with `map`, left in the file and
  // shared with other processes that map it; a mapped file must not be changed in place, which Save
  // does not do. A file that is not whole, has another format or contradicts itself is DATA_LOSS or
  // INVALID_ARGUMENT with path and reason; other errors of the file system are passed on. The index
  // answers as the one that was saved, after further calls, too. Of `options`, dimension must be
  // that of the file, or 0 for whatever it has.
  static absl::StatusOr<std::unique_ptr<VectorIndex>> Load(const std::string& path,
                                                           const VectorIndexOptions& options,
                                                           bool map = false);

  size_t dimension() const;
  // Vectors that can be found.
  size_t size() const;
  // Whether a search of all vectors is exact.
  bool exact() const;
  // In memory; and in the file that is mapped.
  size_t bytes() const;
  size_t mapped_bytes() const;

 private:
  struct State;
  explicit VectorIndex(std::unique_ptr<State> state);

  const std::unique_ptr<State> state_;
};

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_VECTOR_INDEX_H_

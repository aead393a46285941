// What a VectorIndex is made of; for the files that implement it only.
#ifndef OCTOGATE_RETRIEVAL_VECTOR_INDEX_STATE_H_
#define OCTOGATE_RETRIEVAL_VECTOR_INDEX_STATE_H_

#include <faiss/impl/AuxIndexStructures.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "retrieval/vector_graph.h"
#include "retrieval/vector_index.h"
#include "retrieval/vector_rows.h"

namespace octogate::retrieval {

// Of a vector's length.
inline constexpr double kUnitTolerance = 1e-3;

struct VectorIndex::State {
  VectorIndexOptions options;
  VectorRows rows;
  std::vector<int64_t> ids;                       // Of each row.
  std::vector<bool> removed;                      // Each row.
  bool ascending = true;                          // Whether ids rise from row to row.
  absl::flat_hash_map<int64_t, uint32_t> places;  // Of each id that is not removed.
  std::unique_ptr<VectorLinks> graph;

  mutable absl::Mutex mutex;
  mutable std::vector<std::unique_ptr<faiss::VisitedTable>> tables ABSL_GUARDED_BY(mutex);

  size_t size() const { return places.size(); }

  // Takes the vectors over; none of it can fail but by an exception, after which the rows that
  // were there are as before, without a graph.
  void Append(std::span<const int64_t> new_ids, std::span<const float> vectors);
  // The graph is built in one go, of rows that are one behind the other.
  void ReadIn();
  // Adds the rows from `first` on, none of which is in a file, to the graph.
  void Link(size_t first);
  // Puts what is left into new rows.
  void Rebuild();

  // Finding what is near (vector_search.cc).
  // The rows that may be found, rising; nothing where these are all.
  std::optional<std::vector<uint32_t>> Allowed(const VectorSelector* selector) const;
  std::vector<VectorHit> SearchAll(const float* query, size_t k) const;
  std::vector<VectorHit> SearchThese(const float* query, size_t k,
                                     const std::vector<uint32_t>& allowed) const;
  // Walks the graph; may find fewer than there are.
  std::vector<VectorHit> SearchGraph(const float* query, size_t k, size_t breadth,
                                     const std::optional<std::vector<uint32_t>>& allowed) const;
  std::unique_ptr<faiss::VisitedTable> TakeTable() const;
  void ReturnTable(std::unique_ptr<faiss::VisitedTable> table) const;
  std::vector<VectorHit> Search(const float* query, size_t k, const VectorSearch& search) const;
};

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_VECTOR_INDEX_STATE_H_

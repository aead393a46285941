#include "retrieval/vector_graph.h"

#include <omp.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace octogate::retrieval {
namespace {

constexpr int64_t kLevelSeed = 12345;

// OpenMP's number of threads, of the calling thread and for as long as this lives.
class ThreadLimit {
 public:
  explicit ThreadLimit(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;
  ~ThreadLimit() { omp_set_num_threads(before_); }

 private:
  const int before_;
};

// Why a graph from a file cannot be walked; empty where it can.
std::string GraphProblem(const VectorGraph& graph, const faiss::HNSW& empty) {
  const size_t rows = graph.levels.size();
  std::vector<size_t> offsets = {0};
  int32_t highest = 0;
  for (const int32_t level : graph.levels) {
    if (level < 1 || static_cast<size_t>(level) >= empty.cum_nneighbor_per_level.size()) {
      return "its graph has levels out of range";
    }
    highest = std::max(highest, level);
    offsets.push_back(offsets.back() + static_cast<size_t>(empty.cum_nneighbor_per_level[level]));
  }
  if (offsets.back() != graph.neighbors.size()) return "its graph has too few or too many links";
  if (rows == 0) return graph.entry == -1 ? "" : "its graph begins nowhere";
  if (graph.entry < 0 || static_cast<size_t>(graph.entry) >= rows ||
      graph.levels[static_cast<size_t>(graph.entry)] != highest) {
    return "its graph begins nowhere";
  }
  for (size_t row = 0; row < rows; ++row) {
    for (int32_t level = 0; level < graph.levels[row]; ++level) {
      bool ended = false;  // FAISS takes the place before a link for one, too.
      for (int i = empty.cum_nneighbor_per_level[level];
           i < empty.cum_nneighbor_per_level[level + 1]; ++i) {
        const int32_t neighbor = graph.neighbors[offsets[row] + static_cast<size_t>(i)];
        if (neighbor == -1) {
          ended = true;
          continue;
        }
        if (ended || neighbor < 0 || static_cast<size_t>(neighbor) >= rows ||
            graph.levels[static_cast<size_t>(neighbor)] <= level) {
          return "its graph has links to where nothing is";
        }
      }
    }
  }
  return "";
}

}  // namespace

void AddLinks(const VectorRows& rows, size_t first, size_t end, int build_breadth, int threads,
              VectorLinks* links) {
  faiss::HNSW& hnsw = links->index.hnsw;
  hnsw.efConstruction = build_breadth;
  // By the row, so that it makes no difference whether the rows before it came from a file.
  hnsw.rng = faiss::RandomGenerator(kLevelSeed + static_cast<int64_t>(first));
  const ThreadLimit limit(threads);
  links->index.add(static_cast<faiss::Index::idx_t>(end - first), rows[first]);
}

absl::StatusOr<std::unique_ptr<VectorLinks>> MakeLinks(const VectorRows* rows, VectorGraph* graph) {
  auto links = std::make_unique<VectorLinks>(rows, graph->links);
  faiss::HNSW& hnsw = links->index.hnsw;
  if (const std::string problem = GraphProblem(*graph, hnsw); !problem.empty()) {
    return absl::InvalidArgumentError(problem);
  }
  hnsw.offsets.assign(1, 0);
  hnsw.max_level = -1;
  for (const int32_t level : graph->levels) {
    hnsw.offsets.push_back(hnsw.offsets.back() +
                           static_cast<size_t>(hnsw.cum_nneighbor_per_level[level]));
    hnsw.max_level = std::max(hnsw.max_level, level - 1);
  }
  hnsw.entry_point = graph->entry;
  links->index.ntotal = links->storage.ntotal =
      static_cast<faiss::Index::idx_t>(graph->levels.size());
  hnsw.levels = std::move(graph->levels);
  hnsw.neighbors = std::move(graph->neighbors);
  return links;
}

}  // namespace octogate::retrieval

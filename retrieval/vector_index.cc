#include "retrieval/vector_index.h"

#include <faiss/IndexHNSW.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <new>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/status.h"
#include "common/strings.h"
#include "retrieval/dot_product.h"
#include "retrieval/vector_file.h"

namespace octogate::retrieval {
namespace {

constexpr double kUnitTolerance = 1e-3;
// Products with unit vectors stay far from what a float can hold.
constexpr double kMaxQuerySquares = 1e30;
constexpr int kMaxLinks = 128;
constexpr int kMinLinks = 4;
constexpr int kMaxBuildBreadth = 1000;
constexpr size_t kMaxBreadth = 1 << 16;
constexpr size_t kMaxIdleTables = 16;
constexpr int64_t kLevelSeed = 12345;

// The vectors, those of a file first.
struct Rows {
  size_t dimension = 0;
  std::unique_ptr<FileVectors> file;
  size_t file_rows = 0;
  std::vector<float> own;
  DotProductFunction dot = FindDotProduct();

  const float* operator[](size_t row) const {
    return row < file_rows ? file->data() + row * dimension
                           : own.data() + (row - file_rows) * dimension;
  }
  float Product(const float* query, size_t row) const {
    return dot(query, (*this)[row], dimension);
  }
};

// Distances as FAISS's graph takes them: less is nearer.
class RowDistances : public faiss::DistanceComputer {
 public:
  explicit RowDistances(const Rows* rows) : rows_(rows) {}
  void set_query(const float* query) override { query_ = query; }
  float operator()(idx_t row) override { return -rows_->Product(query_, static_cast<size_t>(row)); }
  float symmetric_dis(idx_t a, idx_t b) override {
    return -rows_->Product((*rows_)[static_cast<size_t>(a)], static_cast<size_t>(b));
  }

 private:
  const Rows* rows_;
  const float* query_ = nullptr;
};

// The rows as the storage of FAISS's index, which builds the graph. It holds nothing itself.
class RowStorage : public faiss::Index {
 public:
  explicit RowStorage(const Rows* rows)
      : faiss::Index(static_cast<idx_t>(rows->dimension)), rows_(rows) {}
  void add(idx_t n, const float*) override { ntotal += n; }
  void search(idx_t, const float*, idx_t, float*, idx_t*,
              const faiss::SearchParameters*) const override {}
  void reset() override { ntotal = 0; }
  faiss::DistanceComputer* get_distance_computer() const override {
    return new RowDistances(rows_);
  }

 private:
  const Rows* rows_;
};

struct Graph {
  Graph(const Rows* rows, int links) : storage(rows), index(&storage, links) {}
  RowStorage storage;
  faiss::IndexHNSW index;
};

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

bool Nearer(const VectorHit& a, const VectorHit& b) {
  return a.score != b.score ? a.score > b.score : a.id < b.id;
}

// The k nearest of those offered, in whatever order.
class Nearest {
 public:
  explicit Nearest(size_t k) : k_(k) {}
  void Offer(VectorHit hit) {
    if (hits_.size() == k_) {
      if (k_ == 0 || !Nearer(hit, hits_.front())) return;
      std::pop_heap(hits_.begin(), hits_.end(), Nearer);
      hits_.pop_back();
    }
    hits_.push_back(hit);
    std::push_heap(hits_.begin(), hits_.end(), Nearer);
  }
  size_t size() const { return hits_.size(); }
  std::vector<VectorHit> Take() && {
    std::sort_heap(hits_.begin(), hits_.end(), Nearer);
    return std::move(hits_);
  }

 private:
  const size_t k_;
  std::vector<VectorHit> hits_;  // A heap with the farthest in front.
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

struct VectorIndex::State {
  VectorIndexOptions options;
  Rows rows;
  std::vector<int64_t> ids;                       // Of each row.
  std::vector<bool> removed;                      // Each row.
  bool ascending = true;                          // Whether ids rise from row to row.
  absl::flat_hash_map<int64_t, uint32_t> places;  // Of each id that is not removed.
  std::unique_ptr<Graph> graph;

  mutable absl::Mutex mutex;
  mutable std::vector<std::unique_ptr<faiss::VisitedTable>> tables ABSL_GUARDED_BY(mutex);

  size_t size() const { return places.size(); }

  // Takes the vectors over; none of it can fail but by an exception, after which the rows that
  // were there are as before, without a graph.
  void Append(std::span<const int64_t> new_ids, std::span<const float> vectors) {
    const size_t before = ids.size();
    // Reserved geometrically: many small calls must not copy everything each time.
    const auto grow = [](auto* values, size_t more) {
      if (values->capacity() - values->size() < more) {
        values->reserve(std::max(values->size() + more, values->size() + values->size() / 2));
      }
    };
    grow(&rows.own, vectors.size());
    grow(&ids, new_ids.size());
    grow(&removed, new_ids.size());
    places.reserve(places.size() + new_ids.size());
    rows.own.insert(rows.own.end(), vectors.begin(), vectors.end());
    for (const int64_t id : new_ids) {
      ascending = ascending && (ids.empty() || ids.back() < id);
      places.emplace(id, static_cast<uint32_t>(ids.size()));
      ids.push_back(id);
      removed.push_back(false);
    }
    try {
      if (graph != nullptr) {
        Link(before);
      } else if (ids.size() > options.exact_up_to) {
        ReadIn();
        graph = std::make_unique<Graph>(&rows, options.links);
        Link(0);
      }
    } catch (...) {
      graph.reset();
      for (const int64_t id : new_ids) places.erase(id);
      ids.resize(before);
      removed.resize(before);
      rows.own.resize((before - rows.file_rows) * rows.dimension);
      throw;
    }
  }

  // The graph is built in one go, of rows that are one behind the other.
  void ReadIn() {
    if (rows.file_rows == 0) return;
    rows.own.insert(rows.own.begin(), rows.file->data(),
                    rows.file->data() + rows.file_rows * rows.dimension);
    rows.file_rows = 0;
    rows.file.reset();
  }

  // Adds the rows from `first` on, none of which is in a file, to the graph.
  void Link(size_t first) {
    faiss::HNSW& hnsw = graph->index.hnsw;
    hnsw.efConstruction = options.build_breadth;
    // By the row, so that it makes no difference whether the rows before it came from a file.
    hnsw.rng = faiss::RandomGenerator(kLevelSeed + static_cast<int64_t>(first));
    const ThreadLimit limit(options.build_threads);
    graph->index.add(static_cast<faiss::Index::idx_t>(ids.size() - first), rows[first]);
    absl::MutexLock lock(&mutex);
    tables.clear();  // They have the size of the graph.
  }

  // Puts what is left into new rows.
  void Rebuild() {
    State next;
    next.options = options;
    next.rows.dimension = rows.dimension;
    // A graph stays one, however small.
    if (graph != nullptr) next.options.exact_up_to = 0;
    std::vector<int64_t> left;
    std::vector<float> vectors;
    left.reserve(size());
    vectors.reserve(size() * rows.dimension);
    for (size_t row = 0; row < ids.size(); ++row) {
      if (removed[row]) continue;
      left.push_back(ids[row]);
      vectors.insert(vectors.end(), rows[row], rows[row] + rows.dimension);
    }
    if (!left.empty()) next.Append(left, vectors);
    const bool was_graph = graph != nullptr;
    graph.reset();
    rows.file.reset();
    rows.file_rows = 0;
    rows.own = std::move(next.rows.own);
    ids = std::move(next.ids);
    removed = std::move(next.removed);
    ascending = next.ascending;
    places = std::move(next.places);
    if (!was_graph) return;
    // The graph reads the rows where they are now.
    graph = std::make_unique<Graph>(&rows, options.links);
    if (next.graph == nullptr) return;
    graph->index.hnsw = std::move(next.graph->index.hnsw);
    graph->index.ntotal = next.graph->index.ntotal;
    graph->storage.ntotal = next.graph->storage.ntotal;
    absl::MutexLock lock(&mutex);
    tables.clear();
  }

  // The rows that may be found, rising; nothing where these are all.
  std::optional<std::vector<uint32_t>> Allowed(const VectorSelector* selector) const {
    if (selector == nullptr) return std::nullopt;
    std::vector<uint32_t> allowed;
    for (const int64_t id : selector->ids) {
      const auto place = places.find(id);
      if (place != places.end()) allowed.push_back(place->second);
    }
    for (const IdRange& range : selector->ranges) {
      size_t begin = 0;
      size_t end = ids.size();
      if (ascending) {
        begin = static_cast<size_t>(std::lower_bound(ids.begin(), ids.end(), range.begin) -
                                    ids.begin());
        end =
            static_cast<size_t>(std::lower_bound(ids.begin(), ids.end(), range.end) - ids.begin());
      }
      for (size_t row = begin; row < end; ++row) {
        if (removed[row] || ids[row] < range.begin || ids[row] >= range.end) continue;
        allowed.push_back(static_cast<uint32_t>(row));
      }
      // Overlapping ranges must not add up without bound.
      if (allowed.size() > 2 * ids.size()) Unify(&allowed);
    }
    Unify(&allowed);
    return allowed;
  }

  static void Unify(std::vector<uint32_t>* rows) {
    if (!std::is_sorted(rows->begin(), rows->end())) std::sort(rows->begin(), rows->end());
    rows->erase(std::unique(rows->begin(), rows->end()), rows->end());
  }

  std::vector<VectorHit> SearchAll(const float* query, size_t k) const {
    Nearest nearest(std::min(k, size()));
    for (size_t row = 0; row < ids.size(); ++row) {
      if (!removed[row]) nearest.Offer({ids[row], rows.Product(query, row)});
    }
    return std::move(nearest).Take();
  }

  std::vector<VectorHit> SearchThese(const float* query, size_t k,
                                     const std::vector<uint32_t>& allowed) const {
    Nearest nearest(std::min(k, allowed.size()));
    for (const uint32_t row : allowed) nearest.Offer({ids[row], rows.Product(query, row)});
    return std::move(nearest).Take();
  }

  // Walks the graph; may find fewer than there are.
  std::vector<VectorHit> SearchGraph(const float* query, size_t k, size_t breadth,
                                     const std::optional<std::vector<uint32_t>>& allowed) const {
    const size_t found = std::min(std::max(breadth, k), ids.size());
    std::vector<faiss::Index::idx_t> hits(found, -1);
    std::vector<float> distances(found);
    faiss::SearchParametersHNSW parameters;
    parameters.efSearch = static_cast<int>(found);
    RowDistances row_distances(&rows);
    row_distances.set_query(query);
    std::unique_ptr<faiss::VisitedTable> table = TakeTable();
    graph->index.hnsw.search(row_distances, static_cast<int>(found), hits.data(), distances.data(),
                             *table, &parameters);
    table->advance();
    ReturnTable(std::move(table));
    Nearest nearest(std::min(k, size()));
    for (const faiss::Index::idx_t hit : hits) {
      if (hit < 0) continue;
      const auto row = static_cast<uint32_t>(hit);
      if (removed[row]) continue;
      if (allowed.has_value() && !std::binary_search(allowed->begin(), allowed->end(), row)) {
        continue;
      }
      nearest.Offer({ids[row], rows.Product(query, row)});
    }
    return std::move(nearest).Take();
  }

  std::unique_ptr<faiss::VisitedTable> TakeTable() const {
    {
      absl::MutexLock lock(&mutex);
      if (!tables.empty()) {
        std::unique_ptr<faiss::VisitedTable> table = std::move(tables.back());
        tables.pop_back();
        return table;
      }
    }
    return std::make_unique<faiss::VisitedTable>(static_cast<int>(ids.size()));
  }

  void ReturnTable(std::unique_ptr<faiss::VisitedTable> table) const {
    absl::MutexLock lock(&mutex);
    if (tables.size() < kMaxIdleTables) tables.push_back(std::move(table));
  }

  std::vector<VectorHit> Search(const float* query, size_t k, const VectorSearch& search) const {
    const std::optional<std::vector<uint32_t>> allowed = Allowed(search.selector);
    const size_t candidates = allowed.has_value() ? allowed->size() : size();
    k = std::min(k, candidates);
    if (graph != nullptr && candidates > options.exact_up_to) {
      // As many more are looked at as may not be found.
      const size_t breadth = std::max(std::min(search.breadth, kMaxBreadth), k);
      const double share = static_cast<double>(candidates) / static_cast<double>(ids.size());
      const auto wide = static_cast<size_t>(static_cast<double>(breadth) / share);
      if (wide <= candidates / 2) {
        std::vector<VectorHit> hits = SearchGraph(query, k, wide, allowed);
        if (hits.size() >= k) return hits;
      }
    }
    return allowed.has_value() ? SearchThese(query, k, *allowed) : SearchAll(query, k);
  }
};

VectorIndex::VectorIndex(std::unique_ptr<State> state) : state_(std::move(state)) {}
VectorIndex::~VectorIndex() = default;

absl::StatusOr<std::unique_ptr<VectorIndex>> VectorIndex::Create(
    const VectorIndexOptions& options) {
  const auto check = [](const char* name, size_t value, size_t low, size_t high) {
    if (value >= low && value <= high) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("a vector index has ", name, " from ", low, " to ", high, ", not ", value));
  };
  OCTOGATE_RETURN_IF_ERROR(check("a dimension", options.dimension, 1, kMaxDimension));
  OCTOGATE_RETURN_IF_ERROR(
      check("links", static_cast<size_t>(options.links), kMinLinks, kMaxLinks));
  OCTOGATE_RETURN_IF_ERROR(
      check("a build breadth", static_cast<size_t>(options.build_breadth), 1, kMaxBuildBreadth));
  OCTOGATE_RETURN_IF_ERROR(
      check("build threads", static_cast<size_t>(options.build_threads), 1, 256));
  auto state = std::make_unique<State>();
  state->options = options;
  state->rows.dimension = options.dimension;
  return std::unique_ptr<VectorIndex>(new VectorIndex(std::move(state)));
}

absl::Status VectorIndex::Add(std::span<const int64_t> ids, std::span<const float> vectors) {
  State& state = *state_;
  const size_t dimension = state.rows.dimension;
  if (vectors.size() % dimension != 0 || vectors.size() / dimension != ids.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat(vectors.size(), " values are not ", ids.size(), " vectors of ", dimension));
  }
  if (ids.size() > kMaxVectors - std::min(kMaxVectors, state.ids.size())) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a vector index has at most ", kMaxVectors, " vectors"));
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    double squares = 0;
    for (const float value : vectors.subspan(i * dimension, dimension)) {
      squares += double{value} * double{value};
    }
    if (!(std::abs(std::sqrt(squares) - 1) <= kUnitTolerance)) {
      return absl::InvalidArgumentError(absl::StrCat("the vector of ", ids[i], " has the length ",
                                                     std::sqrt(squares), ", not 1"));
    }
  }
  if (ids.empty()) return absl::OkStatus();
  try {
    absl::flat_hash_set<int64_t> seen;
    for (const int64_t id : ids) {
      if (state.places.contains(id) || !seen.insert(id).second) {
        return absl::AlreadyExistsError(absl::StrCat("there is a vector ", id, " already"));
      }
    }
    if (state.size() < state.ids.size() / 2) state.Rebuild();
    state.Append(ids, vectors);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("there is no memory for more vectors");
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("vectors were not added: ", error.what()));
  }
  return absl::OkStatus();
}

size_t VectorIndex::Remove(std::span<const int64_t> ids) {
  size_t count = 0;
  for (const int64_t id : ids) {
    const auto place = state_->places.find(id);
    if (place == state_->places.end()) continue;
    state_->removed[place->second] = true;
    state_->places.erase(place);
    ++count;
  }
  return count;
}

std::span<const float> VectorIndex::Vector(int64_t id) const {
  const auto place = state_->places.find(id);
  if (place == state_->places.end()) return {};
  return {state_->rows[place->second], state_->rows.dimension};
}

absl::StatusOr<std::vector<VectorHit>> VectorIndex::Search(std::span<const float> query, size_t k,
                                                           const VectorSearch& search) const {
  if (query.size() != dimension()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a query of ", query.size(), " values for vectors of ", dimension()));
  }
  double squares = 0;
  for (const float value : query) squares += double{value} * double{value};
  if (!(squares <= kMaxQuerySquares)) {
    return absl::InvalidArgumentError("the query is not a vector of finite length below 1e15");
  }
  try {
    return state_->Search(query.data(), k, search);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("there is no memory for a search");
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("vectors were not searched: ", error.what()));
  }
}

absl::Status VectorIndex::Save(const std::string& path) const {
  const State& state = *state_;
  try {
    std::vector<uint32_t> removed;
    for (size_t row = 0; row < state.removed.size(); ++row) {
      if (state.removed[row]) removed.push_back(static_cast<uint32_t>(row));
    }
    VectorFileParts parts = {.dimension = state.rows.dimension, .ids = state.ids};
    parts.removed = removed;
    if (state.rows.file_rows > 0) {
      parts.vectors[0] = {state.rows.file->data(), state.rows.file_rows * state.rows.dimension};
    }
    parts.vectors[1] = state.rows.own;
    if (state.graph != nullptr) {
      const faiss::HNSW& hnsw = state.graph->index.hnsw;
      parts.links = state.options.links;
      parts.entry = hnsw.entry_point;
      parts.levels = hnsw.levels;
      parts.neighbors = hnsw.neighbors;
    }
    return WriteVectorFile(path, parts);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("there is no memory to save a vector index");
  }
}

absl::StatusOr<std::unique_ptr<VectorIndex>> VectorIndex::Load(const std::string& path,
                                                               const VectorIndexOptions& options,
                                                               bool map) {
  try {
    OCTOGATE_ASSIGN_OR_RETURN(VectorFile file,
                              ReadVectorFile(path, map, kMaxDimension, kMaxVectors));
    const auto invalid = [&path](std::string_view why) {
      return absl::InvalidArgumentError(absl::StrCat(
          "cannot use '", path, "' as a vector index: ", ToAbsl(why), "; build it anew"));
    };
    if (options.dimension != 0 && options.dimension != file.dimension) {
      return invalid(
          absl::StrCat("its vectors have ", file.dimension, " values, not ", options.dimension));
    }
    VectorIndexOptions with_dimension = options;
    with_dimension.dimension = file.dimension;
    if (file.graph.links != 0) with_dimension.links = file.graph.links;
    OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<VectorIndex> index, Create(with_dimension));
    State& state = *index->state_;
    const size_t rows = file.ids.size();
    state.rows.file = std::move(file.vectors);
    state.rows.file_rows = rows;
    state.removed.assign(rows, false);
    for (const uint32_t row : file.removed) state.removed[row] = true;
    state.places.reserve(rows);
    for (size_t row = 0; row < rows; ++row) {
      state.ascending = state.ascending && (row == 0 || file.ids[row - 1] < file.ids[row]);
      if (state.removed[row]) continue;
      if (!state.places.emplace(file.ids[row], static_cast<uint32_t>(row)).second) {
        return invalid(absl::StrCat("it has two vectors ", file.ids[row]));
      }
      const float square = state.rows.Product(state.rows[row], row);
      if (!(std::abs(square - 1) <= 3 * kUnitTolerance)) {
        return invalid(absl::StrCat("the vector of ", file.ids[row], " has not the length 1"));
      }
    }
    state.ids = std::move(file.ids);
    if (file.graph.links == 0) return index;
    auto graph = std::make_unique<Graph>(&state.rows, with_dimension.links);
    faiss::HNSW& hnsw = graph->index.hnsw;
    if (const std::string problem = GraphProblem(file.graph, hnsw); !problem.empty()) {
      return invalid(problem);
    }
    hnsw.offsets.assign(1, 0);
    hnsw.max_level = -1;
    for (const int32_t level : file.graph.levels) {
      hnsw.offsets.push_back(hnsw.offsets.back() +
                             static_cast<size_t>(hnsw.cum_nneighbor_per_level[level]));
      hnsw.max_level = std::max(hnsw.max_level, level - 1);
    }
    hnsw.entry_point = file.graph.entry;
    hnsw.levels = std::move(file.graph.levels);
    hnsw.neighbors = std::move(file.graph.neighbors);
    graph->index.ntotal = graph->storage.ntotal = static_cast<faiss::Index::idx_t>(rows);
    state.graph = std::move(graph);
    return index;
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("there is no memory for the vector index '", path, "'"));
  } catch (const std::exception& error) {
    return absl::InternalError(
        absl::StrCat("the vector index '", path, "' was not read: ", error.what()));
  }
}

size_t VectorIndex::dimension() const { return state_->rows.dimension; }
size_t VectorIndex::size() const { return state_->size(); }
bool VectorIndex::exact() const {
  return state_->graph == nullptr || state_->size() <= state_->options.exact_up_to;
}

size_t VectorIndex::bytes() const {
  const State& state = *state_;
  size_t bytes = sizeof(State) + state.rows.own.capacity() * sizeof(float) +
                 state.ids.capacity() * sizeof(int64_t) + state.removed.capacity() / 8 +
                 state.places.capacity() * (sizeof(std::pair<int64_t, uint32_t>) + 1);
  if (state.rows.file != nullptr && !state.rows.file->mapped()) bytes += state.rows.file->bytes();
  if (state.graph != nullptr) {
    const faiss::HNSW& hnsw = state.graph->index.hnsw;
    bytes += hnsw.levels.capacity() * sizeof(int) + hnsw.offsets.capacity() * sizeof(size_t) +
             hnsw.neighbors.capacity() * sizeof(int32_t);
  }
  return bytes;
}

size_t VectorIndex::mapped_bytes() const {
  const FileVectors* file = state_->rows.file.get();
  return file != nullptr && file->mapped() ? file->bytes() : 0;
}

}  // namespace octogate::retrieval

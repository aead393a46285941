#include "retrieval/vector_index.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <memory>
#include <new>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "retrieval/vector_index_state.h"

namespace octogate::retrieval {
namespace {

// Products with unit vectors stay far from what a float can hold.
constexpr double kMaxQuerySquares = 1e30;
constexpr int kMaxLinks = 128;
constexpr int kMinLinks = 4;
constexpr int kMaxBuildBreadth = 1000;

}  // namespace

void VectorIndex::State::Append(std::span<const int64_t> new_ids, std::span<const float> vectors) {
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
      graph = std::make_unique<VectorLinks>(&rows, options.links);
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

void VectorIndex::State::ReadIn() {
  if (rows.file_rows == 0) return;
  rows.own.insert(rows.own.begin(), rows.file->data(),
                  rows.file->data() + rows.file_rows * rows.dimension);
  rows.file_rows = 0;
  rows.file.reset();
}

void VectorIndex::State::Link(size_t first) {
  AddLinks(rows, first, ids.size(), options.build_breadth, options.build_threads, graph.get());
  absl::MutexLock lock(&mutex);
  tables.clear();  // They have the size of the graph.
}

void VectorIndex::State::Rebuild() {
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
  graph = std::make_unique<VectorLinks>(&rows, options.links);
  if (next.graph == nullptr) return;
  graph->index.hnsw = std::move(next.graph->index.hnsw);
  graph->index.ntotal = next.graph->index.ntotal;
  graph->storage.ntotal = next.graph->storage.ntotal;
  absl::MutexLock lock(&mutex);
  tables.clear();
}

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

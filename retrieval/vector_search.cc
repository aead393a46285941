// How a VectorIndex finds what is near.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "retrieval/vector_index_state.h"

namespace octogate::retrieval {
namespace {

constexpr size_t kMaxBreadth = 1 << 16;
constexpr size_t kMaxIdleTables = 16;

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

void Unify(std::vector<uint32_t>* rows) {
  if (!std::is_sorted(rows->begin(), rows->end())) std::sort(rows->begin(), rows->end());
  rows->erase(std::unique(rows->begin(), rows->end()), rows->end());
}

}  // namespace

std::optional<std::vector<uint32_t>> VectorIndex::State::Allowed(
    const VectorSelector* selector) const {
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
      begin =
          static_cast<size_t>(std::lower_bound(ids.begin(), ids.end(), range.begin) - ids.begin());
      end = static_cast<size_t>(std::lower_bound(ids.begin(), ids.end(), range.end) - ids.begin());
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

std::vector<VectorHit> VectorIndex::State::SearchAll(const float* query, size_t k) const {
  Nearest nearest(std::min(k, size()));
  for (size_t row = 0; row < ids.size(); ++row) {
    if (!removed[row]) nearest.Offer({ids[row], rows.Product(query, row)});
  }
  return std::move(nearest).Take();
}

std::vector<VectorHit> VectorIndex::State::SearchThese(const float* query, size_t k,
                                                       const std::vector<uint32_t>& allowed) const {
  Nearest nearest(std::min(k, allowed.size()));
  for (const uint32_t row : allowed) nearest.Offer({ids[row], rows.Product(query, row)});
  return std::move(nearest).Take();
}

std::vector<VectorHit> VectorIndex::State::SearchGraph(
    const float* query, size_t k, size_t breadth,
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

std::unique_ptr<faiss::VisitedTable> VectorIndex::State::TakeTable() const {
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

void VectorIndex::State::ReturnTable(std::unique_ptr<faiss::VisitedTable> table) const {
  absl::MutexLock lock(&mutex);
  if (tables.size() < kMaxIdleTables) tables.push_back(std::move(table));
}

std::vector<VectorHit> VectorIndex::State::Search(const float* query, size_t k,
                                                  const VectorSearch& search) const {
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

}  // namespace octogate::retrieval

#include "retrieval/schema/key_closure.h"

#include <algorithm>
#include <numeric>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"

namespace octogate::schema {
namespace {

// Entries looked at from one terminal; hubs of huge catalogs would lead everywhere.
constexpr size_t kMaxVisited = 20'000;

class Graph {
 public:
  Graph(const LinkIndex& index, const std::function<bool(ColumnId)>& usable)
      : index_(index), usable_(usable) {}

  bool Usable(uint32_t edge) const {
    const KeyEdge& key = index_.catalog().edges()[edge];
    return key.from.entry != key.to.entry && index_.catalog().IsUsable(key, usable_);
  }

  // The neighbours with the least weight of an edge to each, ascending.
  std::vector<std::pair<uint32_t, uint32_t>> Neighbours(uint32_t entry) const {
    std::vector<std::pair<uint32_t, uint32_t>> neighbours;
    for (const uint32_t edge : index_.EdgesAt(entry)) {
      if (!Usable(edge)) continue;
      const KeyEdge& key = index_.catalog().edges()[edge];
      const uint32_t other = key.from.entry == entry ? key.to.entry : key.from.entry;
      neighbours.emplace_back(other, key.kind == KeyKind::kDeclared ? 1 : 2);
    }
    std::sort(neighbours.begin(), neighbours.end());
    neighbours.erase(std::unique(neighbours.begin(), neighbours.end(),
                                 [](const auto& a, const auto& b) { return a.first == b.first; }),
                     neighbours.end());
    return neighbours;
  }

  // Weights of shortest paths of at most kMaxPathWeight from `from`, until all `targets` are
  // settled. Entries of one weight are taken in ascending order.
  absl::flat_hash_map<uint32_t, uint32_t> Distances(uint32_t from,
                                                    absl::flat_hash_set<uint32_t> targets) const {
    absl::flat_hash_map<uint32_t, uint32_t> distances{{from, 0}};
    std::vector<std::vector<uint32_t>> at_weight(kMaxPathWeight + 1);
    at_weight[0].push_back(from);
    size_t visited = 0;
    targets.erase(from);
    for (uint32_t weight = 0; weight <= kMaxPathWeight && !targets.empty(); ++weight) {
      std::sort(at_weight[weight].begin(), at_weight[weight].end());
      for (const uint32_t entry : at_weight[weight]) {
        if (distances[entry] != weight) continue;
        targets.erase(entry);
        if (weight == kMaxPathWeight || ++visited > kMaxVisited) continue;
        for (const auto& [other, cost] : Neighbours(entry)) {
          const uint32_t total = weight + cost;
          if (total > kMaxPathWeight) continue;
          const auto [known, is_new] = distances.emplace(other, total);
          if (!is_new && known->second <= total) continue;
          known->second = total;
          at_weight[total].push_back(other);
        }
      }
    }
    return distances;
  }

  // Given the distances from `to`, the first of the shortest paths that starts at `from`.
  std::vector<uint32_t> Path(uint32_t from, uint32_t to,
                             const absl::flat_hash_map<uint32_t, uint32_t>& distances) const {
    const auto start = distances.find(from);
    if (start == distances.end()) return {};
    std::vector<uint32_t> path = {from};
    uint32_t left = start->second;
    while (path.back() != to) {
      bool found = false;
      for (const auto& [other, cost] : Neighbours(path.back())) {
        const auto known = distances.find(other);
        if (known == distances.end() || known->second + cost != left) continue;
        left = known->second;
        path.push_back(other);
        found = true;
        break;
      }
      if (!found) return {};
    }
    return path;
  }

 private:
  const LinkIndex& index_;
  const std::function<bool(ColumnId)>& usable_;
};

}  // namespace

std::vector<uint32_t> ShortestPath(const LinkIndex& index, uint32_t from, uint32_t to,
                                   const std::function<bool(ColumnId)>& usable) {
  const Graph graph(index, usable);
  return graph.Path(from, to, graph.Distances(to, {from}));
}

KeyClosure CloseKeys(const LinkIndex& index, const std::vector<uint32_t>& terminals,
                     const std::function<bool(ColumnId)>& usable) {
  const Graph graph(index, usable);
  const size_t count = std::min(terminals.size(), kMaxTerminals);
  const std::vector<uint32_t> ends(terminals.begin(),
                                   terminals.begin() + static_cast<std::ptrdiff_t>(count));
  const absl::flat_hash_set<uint32_t> targets(ends.begin(), ends.end());
  std::vector<absl::flat_hash_map<uint32_t, uint32_t>> distances;
  std::vector<std::tuple<uint32_t, uint32_t, uint32_t, size_t, size_t>> pairs;
  for (size_t i = 0; i < count; ++i) {
    distances.push_back(graph.Distances(ends[i], targets));
    for (size_t j = 0; j < i; ++j) {
      const auto found = distances[i].find(ends[j]);
      if (found == distances[i].end()) continue;
      pairs.emplace_back(found->second, std::min(ends[i], ends[j]), std::max(ends[i], ends[j]), i,
                         j);
    }
  }
  std::sort(pairs.begin(), pairs.end());
  std::vector<size_t> component(count);
  std::iota(component.begin(), component.end(), size_t{0});
  const auto root = [&](size_t i) {
    while (component[i] != i) i = component[i];
    return i;
  };
  absl::flat_hash_set<uint32_t> entries(terminals.begin(), terminals.end());
  absl::flat_hash_set<std::pair<uint32_t, uint32_t>> steps;
  for (const auto& [weight, low, high, i, j] : pairs) {
    const size_t a = root(i);
    const size_t b = root(j);
    if (a == b) continue;
    // From the lower to the higher, whichever of them is `i`.
    const size_t far = ends[i] == high ? i : j;
    const std::vector<uint32_t> path = graph.Path(low, high, distances[far]);
    if (path.empty()) continue;
    component[std::max(a, b)] = std::min(a, b);
    for (size_t k = 0; k < path.size(); ++k) {
      entries.insert(path[k]);
      if (k > 0) steps.emplace(std::min(path[k - 1], path[k]), std::max(path[k - 1], path[k]));
    }
  }
  KeyClosure closure;
  closure.entries.assign(entries.begin(), entries.end());
  std::sort(closure.entries.begin(), closure.entries.end());
  for (size_t i = 1; i < count; ++i) {
    if (root(i) != root(0)) closure.disconnected.push_back(ends[i]);
  }
  std::sort(closure.disconnected.begin(), closure.disconnected.end());
  absl::flat_hash_set<uint32_t> edges;
  for (const uint32_t entry : closure.entries) {
    for (const uint32_t edge : index.EdgesAt(entry)) {
      const KeyEdge& key = index.catalog().edges()[edge];
      const uint32_t low = std::min(key.from.entry, key.to.entry);
      const uint32_t high = std::max(key.from.entry, key.to.entry);
      const bool on_path = steps.contains(std::pair(low, high));
      const bool between =
          key.kind == KeyKind::kDeclared && entries.contains(low) && entries.contains(high);
      if ((on_path || between) && graph.Usable(edge)) edges.insert(edge);
    }
  }
  closure.edges.assign(edges.begin(), edges.end());
  std::sort(closure.edges.begin(), closure.edges.end());
  return closure;
}

}  // namespace octogate::schema

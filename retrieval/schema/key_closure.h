// The joins that connect chosen tables.
//
// Tables are nodes, keys between them edges of weight 1 where declared and 2 where inferred. The
// chosen ones (terminals) are connected by a minimum spanning tree of their shortest paths, which
// weighs at most twice the least possible (Kou, Markowsky and Berman 1981). Everything is decided
// by weight and then by the numbers of entries, so equal input gives equal joins.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_KEY_CLOSURE_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_KEY_CLOSURE_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "retrieval/schema/link_index.h"

namespace octogate::schema {

// Longer paths connect nothing; terminals beyond stay unconnected unless a path meets them.
inline constexpr uint32_t kMaxPathWeight = 6;
inline constexpr size_t kMaxTerminals = 12;

struct KeyClosure {
  std::vector<uint32_t> entries;  // terminals and what lies between them, ascending
  // Positions in Catalog::edges, ascending: all that connect two entries which a path connects, and
  // all declared ones between any two entries above.
  std::vector<uint32_t> edges;
  std::vector<uint32_t> disconnected;  // terminals that no path connects with the first, ascending
};

// `terminals`: entries, the most important first, none twice; those past kMaxTerminals are taken
// as they are. An edge counts if `usable` says so for all columns of its key (what is visible).
KeyClosure CloseKeys(const LinkIndex& index, const std::vector<uint32_t>& terminals,
                     const std::function<bool(ColumnId)>& usable);

// A shortest path from `from` to `to`, both included; of several the first in lexicographical
// order. Empty where there is none of at most kMaxPathWeight.
std::vector<uint32_t> ShortestPath(const LinkIndex& index, uint32_t from, uint32_t to,
                                   const std::function<bool(ColumnId)>& usable);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_KEY_CLOSURE_H_

// Which of the ranked columns are kept, and what they need beside them.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_SELECTION_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_SELECTION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "retrieval/schema/column_ranking.h"

namespace octogate::schema {

// What a link keeps unless its request says otherwise: as many columns at most, and of catalogs
// whose columns have likelihoods those at least so likely.
struct Cut {
  size_t columns = 0;
  float least_likelihood = 0;
};
inline constexpr Cut kMinimalCut = {.columns = 16, .least_likelihood = 0.2F};
inline constexpr Cut kConservativeCut = {.columns = 48, .least_likelihood = 0.08F};
// Of catalogs without likelihoods.
inline constexpr size_t kMinimalColumns = 12;
inline constexpr size_t kConservativeColumns = 24;

struct SelectedColumn {
  ColumnId id;
  LinkReason reason = LinkReason::kLexical;
  int ranked = -1;  // in Ranking::columns
};

struct ColumnSelection {
  std::vector<SelectedColumn> columns;  // the most important first
  std::vector<uint32_t> edges;          // positions in Catalog::edges
  std::vector<uint32_t> disconnected;   // entries
};

// As many of the best columns as leave room for the primary keys of their tables and for both ends
// of every join (key_closure.h), so that no more than `limit` are kept (but one and its keys always
// are). Stops earlier where scores have become small beside the best or, where the ranking has
// likelihoods, at those below `least_likelihood`: the adaptive cut. The keys of `tables`, entries
// none of which stands there twice, and the joins between them are kept whatever scores.
ColumnSelection SelectColumns(const LinkIndex& index, const Ranking& ranking, size_t limit,
                              float least_likelihood, const std::function<bool(ColumnId)>& visible,
                              const std::vector<uint32_t>& tables = {});

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_SELECTION_H_

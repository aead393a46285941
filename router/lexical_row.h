#ifndef OCTOGATE_ROUTER_LEXICAL_ROW_H_
#define OCTOGATE_ROUTER_LEXICAL_ROW_H_

#include <memory>

namespace octogate::router {

struct QuantizedColumn;
struct SparseRow;

// What a class of a lexical head has learned afterwards (lexical_learner.h), as the head reads it:
// one of few classes a column, one of many a sparse row. Neither where nothing has been fitted yet.
struct LexicalRow {
  std::shared_ptr<const QuantizedColumn> column;
  std::shared_ptr<const SparseRow> sparse;
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LEXICAL_ROW_H_

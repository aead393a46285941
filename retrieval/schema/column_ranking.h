// One score per column out of everything that speaks for it.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_RANKING_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_RANKING_H_

#include <cstddef>
#include <vector>

#include "retrieval/schema/lexical_search.h"
#include "retrieval/schema/linker.h"
#include "retrieval/schema/word_senses.h"

namespace octogate::schema {

struct RankedColumn {
  ColumnId id;
  float score = 0;
  ScoreParts parts;
  float likelihood = 0;  // column_likelihood.h; 0 where it is not worked out
  int match = -1;        // in LexicalMatches::columns
};

struct Ranking {
  std::vector<RankedColumn> columns;  // best first, ties by id; by likelihood where there is one
  size_t num_left_out = 0;            // matched, but too weak to be ranked
};

// Each part is divided by its largest before it is weighted, so that parts are comparable. Tables
// score by their own words and by their columns (the best and the mean of the best three).
Ranking RankColumns(const LinkIndex& index, const Visibility& visible,
                    const LexicalMatches& matches, const std::vector<DenseColumns::Hit>& dense,
                    const QuestionCues& cues, const LinkWeights& weights);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_RANKING_H_

// How well the columns and tables of an index match the words of a question.
//
// Words are scored by BM25 (Robertson and Zaragoza 2009, k1 and b below, occurrences weighted by
// field); spelling by the trigrams of names; values and whole names by their word sequences. All
// statistics are of what is visible, so that what is not leaves no trace in a score.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_LEXICAL_SEARCH_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_LEXICAL_SEARCH_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "retrieval/schema/link_index.h"
#include "retrieval/schema/value_match.h"

namespace octogate::schema {

inline constexpr float kBm25K1 = 1.2F;
inline constexpr float kBm25B = 0.5F;
inline constexpr size_t kMaxQueryTerms = 64;

struct QueryTerm {
  std::string stem;
  std::string word;  // as in the question, in lower case; the first with this stem
};

struct Query {
  bool with_evidence = false;    // then tables are not looked for under other words
  std::vector<QueryTerm> terms;  // without stop words, each once, at most kMaxQueryTerms
  std::vector<ValueCandidate> candidates;
};
// Of the question and what is known beside it (BIRD's "evidence"), which may be empty.
Query MakeQuery(std::string_view question, std::string_view evidence = {});

// Robertson's and Sparck Jones's weight of a term that `with` of `all` documents have; positive.
float InverseDocumentFrequency(uint64_t with, uint64_t all);

struct ValueHit {
  uint32_t candidate = 0;  // of Query::candidates
  uint32_t value = 0;      // of Column::values
};

struct ColumnMatch {
  ColumnId id;
  float bm25 = 0;
  float character = 0;
  float value = 0;
  float name = 0;      // the whole name stands in the question
  uint64_t terms = 0;  // bits of Query::terms
  uint64_t words = 0;  // of them those that are in it as they are, not in another form
  std::vector<ValueHit> hits;
};

struct TableMatch {
  uint32_t entry = 0;
  float bm25 = 0;
  // Bits of Query::terms. Other words for a term count as the term: told apart, and then weighed by
  // half or not at all, no more columns were found (KaggleDBQA, Spider's training split), and fewer
  // where few are kept.
  uint64_t terms = 0;
};

struct LexicalMatches {
  std::vector<ColumnMatch> columns;  // in no order; those without any match are left out
  std::vector<TableMatch> tables;    // by entry
  std::vector<float> term_weights;   // of each of Query::terms: the rarer, the more
};

LexicalMatches Search(const LinkIndex& index, const Visibility& visible, const Query& query);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_LEXICAL_SEARCH_H_

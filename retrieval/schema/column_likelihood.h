// How likely each column is to be read, for catalogs of at most kLargestFitted tables: a logistic
// model over the scores of column_ranking.h and over what they cannot say. Its features are
//  - of the words: whether the column is the best one for some word of the question, and how much
//    of the question it and its table have together;
//  - of the table: its place among the tables, and whether a key joins it to the first;
//  - of the column, whatever the question: key or not, its place, the last word of its name;
//  - of both: a time where one is asked for, a name where the question has one.
// The weights are fitted by tests/bench/fit_linking.py, which says to what; to questions alone, so
// a link with evidence, which names what is needed, does without.
//
// A likelihood is comparable between questions, a score is not: where one column is clear others
// are unlikely, and where nothing is clear many are likely. So cutting at a likelihood keeps few or
// many columns as the question needs.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_LIKELIHOOD_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_LIKELIHOOD_H_

#include <array>
#include <cstddef>
#include <vector>

#include "retrieval/schema/column_ranking.h"
#include "retrieval/schema/lexical_search.h"
#include "retrieval/schema/word_senses.h"

namespace octogate::schema {

// The model has seen catalogs of 1 to 26 tables; among many more, other things tell tables apart
// (column_ranking.h).
inline constexpr size_t kLargestFitted = 40;
inline constexpr size_t kMostColumnsFitted = 2000;

// In the order of the weights.
enum LikelihoodFeature : size_t {
  kScoreFeature,    // RankedColumn::score
  kValueFeature,    // of it, what a stored value in the question brings
  kBestForWord,     // share of the question's word of which it is the best column, over its place
  kSharesWords,     // the same, of all words together
  kCovered,         // share of the question that it and its table have
  kJoinsFirst,      // 1 where a key joins its table to the best one
  kTablePlace,      // 1 / place of its table, by score
  kTime,            // 1 for a time
  kAskedTime,       // 1 for a time where the question asks for one
  kPriorFeature,    // log odds of being read where its table is
  kPlace,           // 1 / its place by score without its table's
  kTerms,           // how many words the question has, in tens, up to two
  kNameOfEntity,    // 1 for a name where the question has one
  kNameOfFullName,  // ... of two words
  kNearness,        // 1 / its place by vectors, in threes
  kNumFeatures
};
using FeatureVector = std::array<float, kNumFeatures>;

// Adds the visible columns that `ranking` lacks. Features of its columns, in their order.
std::vector<FeatureVector> LikelihoodFeatures(const LinkIndex& index, const Visibility& visible,
                                              const LexicalMatches& matches,
                                              const std::vector<DenseColumns::Hit>& dense,
                                              const QuestionCues& cues, Ranking* ranking);

// Adds the visible columns that `ranking` lacks, sets likelihoods and sorts by them, ties by id.
// Does nothing for a ranking that is empty and for larger catalogs, counted in what is visible.
// `dense`: what RankColumns was given.
void AddLikelihoods(const LinkIndex& index, const Visibility& visible,
                    const LexicalMatches& matches, const std::vector<DenseColumns::Hit>& dense,
                    const QuestionCues& cues, Ranking* ranking);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_COLUMN_LIKELIHOOD_H_

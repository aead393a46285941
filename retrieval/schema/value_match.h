// Values of the database that stand in a question.
//
// A value is found where its words, whatever their case, punctuation and inflection, stand in the
// question one after the other. What is returned is the literal as it is stored, for a WHERE
// clause needs that one.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_VALUE_MATCH_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_VALUE_MATCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octogate::schema {

inline constexpr size_t kMaxValueWords = 8;

// The hash under which a value is kept; 0 for one that is not looked for: no words, more than
// kMaxValueWords, a number of one or two digits, a single letter, a stop word.
uint64_t ValueHash(std::string_view value);

// A run of words of the question that may be a value.
struct ValueCandidate {
  std::string text;  // as in the question
  uint64_t hash = 0;
  uint32_t words = 0;
  uint32_t first_word = 0;
  bool quoted_or_capital = false;  // stands in quotes, or begins with a capital within a sentence
};
std::vector<ValueCandidate> ValueCandidates(std::string_view question, size_t max_words = 200);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_VALUE_MATCH_H_

// Words that are spelt alike: character trigrams, abbreviations.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_TRIGRAMS_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_TRIGRAMS_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace octogate::schema {

// The distinct trigrams of bytes of "^word$", ascending; of three bytes in 24 bits.
std::vector<uint32_t> Trigrams(std::string_view word);

// How alike two words are that share `common` of their `a` and `b` trigrams: Dice's coefficient.
float TrigramSimilarity(uint32_t common, uint32_t a, uint32_t b);

// Whether `abbreviation` (2 to 5 letters) drops letters of `word`, of at least two letters more,
// but not the first: "dept", "qty", "num".
bool Abbreviates(std::string_view abbreviation, std::string_view word);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_TRIGRAMS_H_

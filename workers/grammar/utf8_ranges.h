// Characters as bytes of UTF-8.
#ifndef OCTOGATE_WORKERS_GRAMMAR_UTF8_RANGES_H_
#define OCTOGATE_WORKERS_GRAMMAR_UTF8_RANGES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace octogate::workers {

// The character at `*at` of valid UTF-8 text; moves `*at` behind it.
char32_t TakeCodePoint(std::string_view text, size_t* at);

void AppendCharacter(char32_t c, std::string* text);

// Sorts inclusive ranges of code points and joins those that touch; or makes them what they leave
// of all code points.
void NormalizeRanges(std::vector<std::pair<char32_t, char32_t>>& ranges, bool complement);

// Texts of `length` bytes, the i-th of which is from low[i] to high[i].
struct ByteSequence {
  int length = 0;
  uint8_t low[4] = {};
  uint8_t high[4] = {};
};

// Disjoint sequences that together are the characters from `first` to `last`, surrogates left out.
void AppendByteSequences(char32_t first, char32_t last, std::vector<ByteSequence>* sequences);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_UTF8_RANGES_H_

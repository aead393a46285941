#include "retrieval/schema/value_match.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "common/utf8.h"
#include "retrieval/schema/schema.h"
#include "retrieval/schema/stable_hash.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {
namespace {

bool IsNumber(std::string_view word) {
  return !word.empty() && std::all_of(word.begin(), word.end(),
                                      [](unsigned char c) { return absl::ascii_isdigit(c); });
}

uint64_t HashOf(const std::string* first, size_t count) {
  if (count == 1 &&
      (IsStopWord(*first) || first->size() == 1 || (IsNumber(*first) && first->size() < 3))) {
    return 0;
  }
  StableHash hash;
  for (size_t i = 0; i < count; ++i) hash.Add(first[i]);
  return std::max<uint64_t>(hash.value(), 1);
}

// A part of the question between spaces.
struct Chunk {
  size_t begin = 0, end = 0;
};

}  // namespace

uint64_t ValueHash(std::string_view value) {
  std::vector<std::string> words = SplitWords(value);
  if (words.empty() || words.size() > kMaxValueWords) return 0;
  const bool hashable = words.size() > 1 || HashOf(words.data(), 1) != 0;
  if (!hashable) return 0;
  for (std::string& word : words) word = Stem(word);
  return HashOf(words.data(), words.size());
}

std::vector<ValueCandidate> ValueCandidates(std::string_view question, size_t max_words) {
  // Words and the chunks they stand in: a candidate is whole chunks, or words of one chunk.
  std::vector<std::string> stems;
  std::vector<bool> emphasized;
  std::vector<Chunk> places;
  bool sentence_start = true;
  size_t at = 0;
  while (at < question.size() && stems.size() < max_words) {
    if (absl::ascii_isspace(static_cast<unsigned char>(question[at]))) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < question.size() &&
           !absl::ascii_isspace(static_cast<unsigned char>(question[end]))) {
      ++end;
    }
    const std::string_view chunk = question.substr(at, end - at);
    const bool capital =
        absl::ascii_isupper(static_cast<unsigned char>(chunk[0])) && !sentence_start;
    const bool quoted = chunk.find_first_of("'\"`") == 0;
    for (const std::string& word : SplitWords(chunk)) {
      if (stems.size() == max_words) break;
      stems.push_back(Stem(word));
      emphasized.push_back(capital || quoted);
      places.push_back({at, end});
    }
    sentence_start = chunk.back() == '.' || chunk.back() == '?';
    at = end;
  }
  std::vector<ValueCandidate> candidates;
  for (size_t first = 0; first < stems.size(); ++first) {
    const size_t longest = std::min(kMaxValueWords, stems.size() - first);
    for (size_t count = 1; count <= longest; ++count) {
      const uint64_t hash = HashOf(&stems[first], count);
      if (hash == 0) continue;
      const size_t begin = places[first].begin;
      const size_t end = places[first + count - 1].end;
      // A chunk may be as long as the question; a stored value is not.
      std::string_view text = TruncateUtf8(question.substr(begin, end - begin), kMaxValueBytes);
      while (!text.empty() && absl::ascii_ispunct(static_cast<unsigned char>(text.front()))) {
        text.remove_prefix(1);
      }
      while (!text.empty() && absl::ascii_ispunct(static_cast<unsigned char>(text.back()))) {
        text.remove_suffix(1);
      }
      candidates.push_back({.text = std::string(text),
                            .hash = hash,
                            .words = static_cast<uint32_t>(count),
                            .first_word = static_cast<uint32_t>(first),
                            .quoted_or_capital = emphasized[first]});
    }
  }
  return candidates;
}

}  // namespace octogate::schema

#include "retrieval/schema/trigrams.h"

#include <algorithm>
#include <string>

namespace octogate::schema {

std::vector<uint32_t> Trigrams(std::string_view word) {
  std::string padded = "^";
  padded.append(word).push_back('$');
  std::vector<uint32_t> trigrams;
  for (size_t i = 0; i + 3 <= padded.size(); ++i) {
    const auto byte = [&](size_t k) { return uint32_t{static_cast<uint8_t>(padded[i + k])}; };
    trigrams.push_back(byte(0) << 16 | byte(1) << 8 | byte(2));
  }
  std::sort(trigrams.begin(), trigrams.end());
  trigrams.erase(std::unique(trigrams.begin(), trigrams.end()), trigrams.end());
  return trigrams;
}

float TrigramSimilarity(uint32_t common, uint32_t a, uint32_t b) {
  return a + b == 0 ? 0 : 2.0F * static_cast<float>(common) / static_cast<float>(a + b);
}

bool Abbreviates(std::string_view abbreviation, std::string_view word) {
  if (abbreviation.size() < 2 || abbreviation.size() > 5 || word.size() < abbreviation.size() + 2 ||
      abbreviation[0] != word[0]) {
    return false;
  }
  size_t at = 0;
  for (const char c : abbreviation) {
    if (c < 'a' || c > 'z') return false;
    at = word.find(c, at);
    if (at == std::string_view::npos) return false;
    ++at;
  }
  // Letters that only happen to come in this order are not enough: past what the two begin with
  // alike, only consonants are.
  size_t alike = 1;
  while (alike < abbreviation.size() && abbreviation[alike] == word[alike]) ++alike;
  return abbreviation.substr(alike).find_first_of("aeiou") == std::string_view::npos;
}

}  // namespace octogate::schema

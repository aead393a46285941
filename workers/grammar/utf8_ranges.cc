#include "workers/grammar/utf8_ranges.h"

#include <algorithm>

namespace octogate::workers {
namespace {

constexpr char32_t kLast = 0x10FFFF;

// Both have the same number of bytes in UTF-8.
void AppendOfOneLength(char32_t first, char32_t last, std::vector<ByteSequence>* sequences) {
  std::string low;
  std::string high;
  AppendCharacter(first, &low);
  // Where the ranges of all bytes but some of the last are whole, one sequence holds everything;
  // otherwise the range is cut where it is.
  for (size_t i = 1; i < low.size(); ++i) {
    const char32_t mask = (char32_t{1} << 6 * i) - 1;  // of the last i bytes
    if ((first | mask) >= last) break;
    if ((first & mask) != 0) {
      AppendOfOneLength(first, first | mask, sequences);
      AppendOfOneLength((first | mask) + 1, last, sequences);
      return;
    }
    if ((last & mask) != mask) {
      AppendOfOneLength(first, (last & ~mask) - 1, sequences);
      AppendOfOneLength(last & ~mask, last, sequences);
      return;
    }
  }
  AppendCharacter(last, &high);
  ByteSequence sequence{.length = static_cast<int>(low.size())};
  for (size_t i = 0; i < low.size(); ++i) {
    sequence.low[i] = static_cast<uint8_t>(low[i]);
    sequence.high[i] = static_cast<uint8_t>(high[i]);
  }
  sequences->push_back(sequence);
}

}  // namespace

char32_t TakeCodePoint(std::string_view text, size_t* at) {
  const auto byte = [&] { return static_cast<uint8_t>(text[(*at)++]); };
  const uint8_t lead = byte();
  if (lead < 0x80) return lead;
  const int more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
  char32_t c = lead & (0x3Fu >> more);
  for (int i = 0; i < more && *at < text.size(); ++i) c = c << 6 | (byte() & 0x3Fu);
  return c;
}

void AppendCharacter(char32_t c, std::string* text) {
  const auto add = [&](uint32_t byte) { text->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    add(c);
  } else if (c < 0x800) {
    add(0xC0 | c >> 6);
    add(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    add(0xE0 | c >> 12);
    add(0x80 | (c >> 6 & 0x3F));
    add(0x80 | (c & 0x3F));
  } else {
    add(0xF0 | c >> 18);
    add(0x80 | (c >> 12 & 0x3F));
    add(0x80 | (c >> 6 & 0x3F));
    add(0x80 | (c & 0x3F));
  }
}

void NormalizeRanges(std::vector<std::pair<char32_t, char32_t>>& ranges, bool complement) {
  std::sort(ranges.begin(), ranges.end());
  std::vector<std::pair<char32_t, char32_t>> joined;
  for (const auto& range : ranges) {
    if (!joined.empty() && range.first <= joined.back().second + 1) {
      joined.back().second = std::max(joined.back().second, range.second);
    } else {
      joined.push_back(range);
    }
  }
  if (complement) {
    std::vector<std::pair<char32_t, char32_t>> rest;
    char32_t next = 0;
    for (const auto& range : joined) {
      if (range.first > next) rest.emplace_back(next, range.first - 1);
      next = range.second + 1;
    }
    if (next <= kLast) rest.emplace_back(next, kLast);
    joined = std::move(rest);
  }
  // Surrogates are no characters.
  ranges.clear();
  for (const auto& [first, last] : joined) {
    if (first < 0xD800) ranges.emplace_back(first, std::min<char32_t>(last, 0xD7FF));
    if (last > 0xDFFF) ranges.emplace_back(std::max<char32_t>(first, 0xE000), last);
  }
}

void AppendByteSequences(char32_t first, char32_t last, std::vector<ByteSequence>* sequences) {
  constexpr std::pair<char32_t, char32_t> kPieces[] = {
      {0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, kLast}};
  for (const auto& [begin, end] : kPieces) {
    const char32_t from = std::max(first, begin);
    const char32_t to = std::min(last, end);
    if (from <= to) AppendOfOneLength(from, to, sequences);
  }
}

}  // namespace octogate::workers

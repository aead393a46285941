#include "retrieval/drafts/suffix_array.h"

#include <divsufsort.h>

#include <algorithm>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "retrieval/drafts/draft_store_format.h"

namespace octogate::retrieval {
namespace {

static_assert(sizeof(saidx_t) == sizeof(uint32_t));

}  // namespace

absl::StatusOr<std::vector<uint32_t>> BuildSuffixArray(std::span<const uint32_t> words) {
  // Ranks of tokens that occur; a separator comes after all of them.
  uint32_t end = 0;
  for (uint32_t word : words) end = std::max(end, word == kSeparator ? 0 : word + 1);
  std::vector<uint32_t> ranks(end);
  for (uint32_t word : words) {
    if (word != kSeparator) ranks[word] = 1;
  }
  uint32_t largest = 0;
  for (uint32_t& rank : ranks) {
    const bool occurs = rank != 0;
    rank = largest;
    largest += occurs ? 1 : 0;
  }
  size_t width = 1;
  while (uint64_t{largest} >> (8 * width) != 0) ++width;
  if (words.size() > static_cast<size_t>(std::numeric_limits<saidx_t>::max()) / width) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot sort ", words.size(), " tokens at once; make smaller segments"));
  }
  std::vector<sauchar_t> bytes(words.size() * width);
  for (size_t i = 0; i < words.size(); ++i) {
    const uint32_t rank = words[i] == kSeparator ? largest : ranks[words[i]];
    for (size_t b = 0; b < width; ++b) {
      bytes[i * width + b] = static_cast<sauchar_t>(rank >> (8 * (width - 1 - b)));
    }
  }
  std::vector<saidx_t> order(bytes.size());
  if (divsufsort(bytes.data(), order.data(), static_cast<saidx_t>(bytes.size())) != 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory to sort ", words.size(), " tokens; make smaller segments"));
  }
  bytes = {};
  std::vector<uint32_t> suffixes;
  suffixes.reserve(words.size());
  for (saidx_t place : order) {
    const size_t at = static_cast<size_t>(place);
    if (at % width != 0 || words[at / width] == kSeparator) continue;
    suffixes.push_back(static_cast<uint32_t>(at / width));
  }
  return suffixes;
}

}  // namespace octogate::retrieval

#ifndef OCTOGATE_RETRIEVAL_DRAFTS_SUFFIX_ARRAY_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_SUFFIX_ARRAY_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace octogate::retrieval {

// Where the suffixes of `words` begin that do not begin with kSeparator, in ascending order of
// their words, read as unsigned. The last word is a kSeparator; others are below
// kMaxDraftVocabSize. At most kMaxSegmentTokens words, or fewer where there are many different ones
// (RESOURCE_EXHAUSTED).
//
// libdivsufsort sorts the suffixes of bytes. So words are written as big-endian numbers of one,
// two, three or four bytes, their ranks among the words that occur, and the suffixes between words
// are dropped. Takes five bytes of memory for each byte of these, and sorts 2^31 - 1 of them at
// most.
absl::StatusOr<std::vector<uint32_t>> BuildSuffixArray(std::span<const uint32_t> words);

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_SUFFIX_ARRAY_H_

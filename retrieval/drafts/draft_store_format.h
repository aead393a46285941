// The file of a draft store: segments, one behind the other, each whole in itself. Little-endian.
//
//   header      64 bytes, SegmentHeader
//   tokens      `tokens` words of 32 bits: documents, kSeparator after each
//   suffixes    `tokens` - `documents` words of 32 bits: where the suffixes begin that begin with a
//               token, in ascending order of their words, read as unsigned
//
// All segments of a file have the same tokenizer and vocabulary.
#ifndef OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_FORMAT_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_FORMAT_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "common/hash128.h"

namespace octogate::retrieval {

static_assert(std::endian::native == std::endian::little);

inline constexpr char kDraftStoreMagic[8] = {'O', 'G', 'D', 'R', 'A', 'F', 'T', 'S'};
inline constexpr uint32_t kDraftStoreVersion = 1;
inline constexpr uint32_t kSeparator = 0xFFFFFFFF;  // larger than every token
inline constexpr uint64_t kMaxSegmentTokens = uint64_t{1} << 29;
inline constexpr size_t kMaxSegments = 1024;
inline constexpr uint32_t kMaxDraftVocabSize = 1 << 24;

struct SegmentHeader {
  char magic[8];
  uint32_t version;
  uint32_t vocab_size;
  uint64_t tokenizer_high;
  uint64_t tokenizer_low;
  uint64_t tokens;  // separators included
  uint64_t documents;
  uint64_t payload_checksum;  // SegmentChecksum of what follows the header
  uint64_t header_checksum;   // HeaderChecksum of what stands before it

  uint64_t suffixes() const { return tokens - documents; }
  uint64_t payload_bytes() const { return (tokens + suffixes()) * sizeof(uint32_t); }
};
static_assert(sizeof(SegmentHeader) == 64);

template <typename Header>
uint64_t HeaderChecksum(const Header& header) {
  const auto bytes = std::as_bytes(std::span(&header, 1));
  return HashBytes(bytes.first(offsetof(Header, header_checksum)), 0).high;
}

inline uint64_t SegmentChecksum(std::span<const std::byte> tokens,
                                std::span<const std::byte> suffixes) {
  const Hash128 parts[2] = {HashBytes(tokens, 0), HashBytes(suffixes, 0)};
  return HashBytes(std::as_bytes(std::span(parts)), 0).high;
}

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_FORMAT_H_

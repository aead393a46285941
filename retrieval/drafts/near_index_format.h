// The file of near matches, STORE.near beside the store. Little-endian.
//
//   header      88 bytes, NearIndexHeader
//   levels      `contexts` words of 32 bits: of the graph, 1 for its lowest level alone
//   neighbors   `neighbors` words of 32 bits: context by context and level by level, -1 for none
//
// Contexts are numbered by their places in the store. Neither these nor their vectors are in the
// file: both follow from the store and the header.
#ifndef OCTOGATE_RETRIEVAL_DRAFTS_NEAR_INDEX_FORMAT_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_NEAR_INDEX_FORMAT_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/hash128.h"
#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/draft_store_format.h"

namespace octogate::retrieval {

static_assert(std::endian::native == std::endian::little);

inline constexpr char kNearIndexMagic[8] = {'O', 'G', 'N', 'E', 'A', 'R', 'B', 'Y'};
inline constexpr uint32_t kNearIndexVersion = 1;
inline constexpr uint64_t kMaxNearContexts = uint64_t{1} << 24;
inline constexpr int32_t kMinNearLinks = 4;
inline constexpr int32_t kMaxNearLinks = 64;

struct NearIndexHeader {
  char magic[8];
  uint32_t version;
  uint32_t stride;      // of so many places one is a context
  uint64_t store_high;  // StoreFingerprint
  uint64_t store_low;
  uint64_t seed;  // of ContextEmbedding, as the next two
  int32_t window;
  float decay;
  int32_t links;  // of a context on each level; on the lowest twice as many
  int32_t entry;  // the context where searches begin
  uint64_t contexts;
  uint64_t neighbors;
  uint64_t payload_checksum;  // NearIndexChecksum of what follows the header
  uint64_t header_checksum;   // HeaderChecksum of what stands before it

  uint64_t payload_bytes() const { return (contexts + neighbors) * sizeof(int32_t); }
};
static_assert(sizeof(NearIndexHeader) == 88);

// Of its segments' headers, which have the checksums of what follows them.
inline Hash128 StoreFingerprint(const DraftStore& store) {
  std::vector<std::byte> headers;
  for (const DraftSegment& segment : store.segments()) {
    const auto header = segment.file_bytes().first(sizeof(SegmentHeader));
    headers.insert(headers.end(), header.begin(), header.end());
  }
  return HashBytes(headers, 0);
}

inline uint64_t NearIndexChecksum(std::span<const std::byte> payload) {
  return HashBytes(payload, 0).high;
}

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_NEAR_INDEX_FORMAT_H_

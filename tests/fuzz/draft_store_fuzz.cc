// A draft store either is refused or gives well-formed continuations. Its checksums are made right
// first: whoever writes such a file knows them.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "retrieval/drafts/draft_lookup.h"
#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/draft_store_format.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace octogate::retrieval;  // NOLINT(google-build-using-namespace)
  std::vector<uint8_t> bytes(data, data + size);
  if (size >= sizeof(SegmentHeader)) {
    SegmentHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    std::memcpy(header.magic, kDraftStoreMagic, sizeof(header.magic));
    header.version = kDraftStoreVersion;
    header.header_checksum = HeaderChecksum(header);
    std::memcpy(bytes.data(), &header, sizeof(header));
  }
  const auto store =
      DraftStore::FromBytes(std::as_bytes(std::span(bytes)), "fuzz", {.verify = false});
  if (!store.ok()) return 0;
  const DraftLookupOptions options = {.max_span = 4, .min_span = 1, .max_hits = 20};
  DraftContinuations found;
  for (int32_t first = 0; first < 4; ++first) {
    const std::vector<int32_t> sequence = {first, first / 2, first % 2};
    LookUpContinuations(**store, sequence, options, found);
    if (static_cast<int>(found.nodes.size()) > options.max_nodes) std::abort();
    for (size_t i = 0; i < found.nodes.size(); ++i) {
      const DraftContinuations::Node& node = found.nodes[i];
      if (node.token < 0 || node.token >= (*store)->vocab_size()) std::abort();
      if (node.parent >= static_cast<int32_t>(i) || node.depth > options.max_depth) std::abort();
      for (size_t j = 0; j < i; ++j) {
        if (found.nodes[j].parent == node.parent && found.nodes[j].token == node.token) {
          std::abort();
        }
      }
    }
  }
  return 0;
}

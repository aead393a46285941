// A file of near matches either is refused or finds places of its store. Its checksums are made
// right first: whoever writes such a file knows them.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/near_index.h"
#include "retrieval/drafts/near_index_format.h"

namespace {

using namespace octogate::retrieval;  // NOLINT(google-build-using-namespace)

// One document, in no order of suffixes, which near matches do not look at.
std::vector<uint32_t> StoreWords() {
  constexpr uint32_t kTokens = 21;
  SegmentHeader header = {
      .version = kDraftStoreVersion, .vocab_size = 8, .tokens = kTokens + 1, .documents = 1};
  std::memcpy(header.magic, kDraftStoreMagic, sizeof(header.magic));
  header.header_checksum = HeaderChecksum(header);
  std::vector<uint32_t> words(sizeof(header) / sizeof(uint32_t));
  std::memcpy(words.data(), &header, sizeof(header));
  for (uint32_t i = 0; i < kTokens; ++i) words.push_back(i * i % 8);
  words.push_back(kSeparator);
  for (uint32_t i = 0; i < kTokens; ++i) words.push_back(i);
  return words;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<uint32_t>& words = *new std::vector<uint32_t>(StoreWords());
  const auto store =
      DraftStore::FromBytes(std::as_bytes(std::span(words)), "store", {.verify = false});
  if (!store.ok()) std::abort();
  std::vector<uint8_t> bytes(data, data + size);
  if (size >= sizeof(NearIndexHeader)) {
    NearIndexHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    std::memcpy(header.magic, kNearIndexMagic, sizeof(header.magic));
    header.version = kNearIndexVersion;
    const octogate::Hash128 fingerprint = StoreFingerprint(**store);
    header.store_high = fingerprint.high;
    header.store_low = fingerprint.low;
    header.payload_checksum =
        NearIndexChecksum(std::as_bytes(std::span(bytes)).subspan(sizeof(header)));
    header.header_checksum = HeaderChecksum(header);
    std::memcpy(bytes.data(), &header, sizeof(header));
  }
  const auto near = NearIndex::FromBytes(std::as_bytes(std::span(bytes)), "fuzz", **store);
  if (!near.ok()) return 0;
  std::vector<DraftPlace> places;
  for (int32_t first = 0; first < 4; ++first) {
    const std::vector<int32_t> sequence = {first, first / 2, 3 * first % 8};
    (*near)->Find(sequence, 1 + 12 * first, places);
    if (places.size() > static_cast<size_t>(1 + 12 * first)) std::abort();
    for (const DraftPlace& place : places) {
      if (place.segment != 0 || place.word < 1 || place.word > 20) std::abort();
    }
  }
  return 0;
}

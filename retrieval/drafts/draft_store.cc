#include "retrieval/drafts/draft_store.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/strings.h"
#include "retrieval/drafts/draft_store_format.h"
#include "retrieval/files.h"

namespace octogate::retrieval {
namespace {

// The header at the beginning of `bytes`, whose payload is within them.
absl::StatusOr<SegmentHeader> ReadHeader(std::span<const std::byte> bytes,
                                         const DraftStore::Options& options) {
  SegmentHeader header;
  if (bytes.size() < sizeof(header)) return absl::DataLossError("its header is cut off");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, kDraftStoreMagic, sizeof(header.magic)) != 0) {
    return absl::InvalidArgumentError(
        "it is no draft store; build one with 'octoctl drafts build'");
  }
  if (header.version != kDraftStoreVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("it has format version ", header.version, ", this program reads version ",
                     kDraftStoreVersion, "; build it again with 'octoctl drafts build'"));
  }
  if (header.header_checksum != HeaderChecksum(header)) {
    return absl::DataLossError("its header is damaged");
  }
  if (header.vocab_size == 0 || header.vocab_size > kMaxDraftVocabSize || header.tokens == 0 ||
      header.tokens > kMaxSegmentTokens || header.documents == 0 ||
      header.documents > header.tokens) {
    return absl::InvalidArgumentError("its header has counts that cannot be");
  }
  const std::span<const std::byte> payload = bytes.subspan(sizeof(header));
  if (payload.size() < header.payload_bytes()) {
    return absl::DataLossError(
        absl::StrCat("it ends after ", payload.size(), " of ", header.payload_bytes(), " bytes"));
  }
  const size_t words = header.tokens * sizeof(uint32_t);
  const size_t suffixes = header.suffixes() * sizeof(uint32_t);
  if (options.verify &&
      header.payload_checksum !=
          SegmentChecksum(payload.first(words), payload.subspan(words, suffixes))) {
    return absl::DataLossError("its checksum is wrong");
  }
  return header;
}

}  // namespace

std::span<const std::byte> DraftSegment::file_bytes() const {
  return {words_ - sizeof(SegmentHeader),
          sizeof(SegmentHeader) + (tokens_ + suffixes_) * sizeof(uint32_t)};
}

absl::StatusOr<std::unique_ptr<const DraftStore>> DraftStore::FromBytes(
    std::span<const std::byte> bytes, std::string_view source_name, const Options& options) {
  std::unique_ptr<DraftStore> store(new DraftStore());
  store->bytes_ = bytes.size();
  do {
    const size_t at = store->bytes_ - bytes.size();
    const auto refuse = [&](const absl::Status& status) {
      return Annotate(status, absl::StrCat(Quoted(source_name, 300), ", segment at byte ", at));
    };
    absl::StatusOr<SegmentHeader> header = ReadHeader(bytes, options);
    if (!header.ok()) return refuse(header.status());
    const Hash128 tokenizer = {header->tokenizer_high, header->tokenizer_low};
    const int vocab_size = static_cast<int>(header->vocab_size);
    if (store->segments_.empty()) {
      store->tokenizer_ = tokenizer;
      store->vocab_size_ = vocab_size;
    } else if (store->tokenizer_ != tokenizer || store->vocab_size_ != vocab_size) {
      return refuse(absl::InvalidArgumentError("it has another tokenizer than those before"));
    }
    if (store->segments_.size() == kMaxSegments) {
      return refuse(absl::InvalidArgumentError(
          absl::StrCat("there are more than ", kMaxSegments, " segments")));
    }
    DraftSegment segment;
    segment.tokens_ = header->tokens;
    segment.documents_ = header->documents;
    segment.suffixes_ = header->suffixes();
    segment.words_ = bytes.data() + sizeof(SegmentHeader);
    segment.order_ = segment.words_ + header->tokens * sizeof(uint32_t);
    store->segments_.push_back(segment);
    bytes = bytes.subspan(segment.file_bytes().size());
  } while (!bytes.empty());
  return store;
}

absl::StatusOr<std::unique_ptr<const DraftStore>> DraftStore::Open(const std::string& path,
                                                                   const Options& options) {
  OCTOGATE_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  if (file.bytes().empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(path, 300), " is empty; build a draft store with 'octoctl drafts build'"));
  }
  OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<const DraftStore> store,
                            FromBytes(file.bytes(), path, options));
  file.ExpectRandomReads();  // by lookups
  const_cast<DraftStore&>(*store).file_ = std::move(file);
  return store;
}

}  // namespace octogate::retrieval

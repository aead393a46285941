// Token sequences of a corpus with a suffix array, so that what followed any sequence in it is
// found by binary search: the store from which drafts are retrieved (He et al. 2023, "REST",
// arXiv:2311.08252).
//
// A store is a file (draft_store_format.h) of one or more segments; draft_store_writer.h makes it.
// It serves one tokenizer. The file is mapped, not read: replicas on a machine share its pages.
//
// Nothing in a file is trusted. Sizes are checked when it is opened, places of tokens and tokens
// themselves when they are used; a file that lies gives useless drafts and nothing worse.
#ifndef OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/hash128.h"
#include "retrieval/files.h"

namespace octogate::retrieval {

class DraftSegment {
 public:
  uint64_t tokens() const { return tokens_; }  // separators of documents included
  uint64_t documents() const { return documents_; }
  uint64_t suffixes() const { return suffixes_; }
  std::span<const std::byte> file_bytes() const;  // header included

  // Of words below tokens(): a token, or kSeparator.
  uint32_t Word(uint64_t place) const { return Load(words_ + place * sizeof(uint32_t)); }
  // Of suffixes below suffixes(): where it begins. May be beyond tokens().
  uint64_t Suffix(uint64_t rank) const { return Load(order_ + rank * sizeof(uint32_t)); }

 private:
  friend class DraftStore;

  static uint32_t Load(const std::byte* from) {
    uint32_t word;
    std::memcpy(&word, from, sizeof(word));
    return word;
  }

  uint64_t tokens_ = 0;
  uint64_t documents_ = 0;
  uint64_t suffixes_ = 0;
  const std::byte* words_ = nullptr;
  const std::byte* order_ = nullptr;
};

// Thread safety: const once opened; any number of threads may read.
class DraftStore {
 public:
  struct Options {
    // Compare checksums, which reads the whole file once.
    bool verify = true;
  };

  // Maps a file, of which MappedFile says how it may be replaced. NOT_FOUND where there is none,
  // INVALID_ARGUMENT for one that is no draft store of this version, DATA_LOSS for one that is
  // damaged.
  static absl::StatusOr<std::unique_ptr<const DraftStore>> Open(const std::string& path,
                                                                const Options& options);
  static absl::StatusOr<std::unique_ptr<const DraftStore>> Open(const std::string& path) {
    return Open(path, Options());
  }
  // The same from memory, which must outlive the store; `source_name` stands for the file in error
  // messages.
  static absl::StatusOr<std::unique_ptr<const DraftStore>> FromBytes(
      std::span<const std::byte> bytes, std::string_view source_name, const Options& options);

  DraftStore(const DraftStore&) = delete;
  DraftStore& operator=(const DraftStore&) = delete;

  // Of the tokenizer whose ids these are.
  const Hash128& tokenizer() const { return tokenizer_; }
  // Tokens are below it.
  int vocab_size() const { return vocab_size_; }
  // At least one; the first is the oldest.
  std::span<const DraftSegment> segments() const { return segments_; }
  uint64_t bytes() const { return bytes_; }  // of the file

 private:
  DraftStore() = default;

  Hash128 tokenizer_;
  int vocab_size_ = 0;
  std::vector<DraftSegment> segments_;
  uint64_t bytes_ = 0;
  MappedFile file_;  // empty where the store is in memory
};

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_H_

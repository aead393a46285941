// Makes draft stores, adds to them and compacts them.
//
// A store in use may be written: the new file is made beside it, as PATH.partial, and takes its
// place by renaming once it is whole and on disk. Whoever has the old one open keeps it. One
// process at a time writes a store.
#ifndef OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_WRITER_H_
#define OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_WRITER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/hash128.h"
#include "retrieval/drafts/draft_store.h"

namespace octogate::retrieval {

struct DraftStoreWriterOptions {
  Hash128 tokenizer;
  int vocab_size = 0;
  // A segment is sorted in memory: up to 24 bytes a token, separators included.
  uint64_t segment_tokens = uint64_t{1} << 26;
};

class DraftStoreWriter {
 public:
  // A new store, in place of the one that may be there. UNAVAILABLE while another process writes
  // it.
  static absl::StatusOr<std::unique_ptr<DraftStoreWriter>> Create(
      const std::string& path, const DraftStoreWriterOptions& options);
  // The store at `path` and, in segments of their own, the documents to come. FAILED_PRECONDITION
  // where it is of another tokenizer.
  static absl::StatusOr<std::unique_ptr<DraftStoreWriter>> Append(
      const std::string& path, const DraftStoreWriterOptions& options);

  // Leaves the store as it was unless Finish has returned OK.
  ~DraftStoreWriter();
  DraftStoreWriter(const DraftStoreWriter&) = delete;
  DraftStoreWriter& operator=(const DraftStoreWriter&) = delete;

  // One document: no draft goes beyond its end. An empty one is left out, one that is longer than a
  // segment is cut. INVALID_ARGUMENT for a token outside the vocabulary.
  absl::Status Add(std::span<const int32_t> tokens);
  // INVALID_ARGUMENT for a store without any document. Nothing may be called afterwards.
  absl::Status Finish();

  uint64_t documents() const { return documents_; }  // added so far
  uint64_t tokens() const { return tokens_; }        // of these

 private:
  DraftStoreWriter(std::string path, const DraftStoreWriterOptions& options)
      : path_(std::move(path)), options_(options) {}

  absl::Status Begin();
  absl::Status Write(std::span<const std::byte> bytes);
  absl::Status WriteSegment();

  const std::string path_;
  const DraftStoreWriterOptions options_;
  int file_ = -1;
  uint64_t segments_ = 0;  // in the new file
  uint64_t documents_ = 0;
  uint64_t tokens_ = 0;
  std::vector<uint32_t> words_;  // of the segment to come
  uint64_t segment_documents_ = 0;
};

// Merges the segments of the store at `path` into as few as hold options.segment_tokens; the
// tokenizer and vocabulary are the store's own. It finds what it found before.
absl::Status CompactDraftStore(const std::string& path, DraftStoreWriterOptions options);

}  // namespace octogate::retrieval

#endif  // OCTOGATE_RETRIEVAL_DRAFTS_DRAFT_STORE_WRITER_H_

#include "retrieval/drafts/draft_store_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/strings.h"
#include "retrieval/drafts/draft_store_format.h"
#include "retrieval/drafts/suffix_array.h"
#include "retrieval/files.h"

namespace octogate::retrieval {
namespace {

constexpr mode_t kMode = 0644;  // less the umask

std::string PartialPath(const std::string& path) { return path + ".partial"; }

absl::Status CheckOptions(const DraftStoreWriterOptions& options) {
  if (options.vocab_size < 1 || options.vocab_size > static_cast<int>(kMaxDraftVocabSize)) {
    return absl::InvalidArgumentError(absl::StrCat("a draft store's vocabulary has 1 to ",
                                                   kMaxDraftVocabSize, " tokens, not ",
                                                   options.vocab_size));
  }
  if (options.segment_tokens < 2 || options.segment_tokens > kMaxSegmentTokens) {
    return absl::InvalidArgumentError(absl::StrCat("a segment has 2 to ", kMaxSegmentTokens,
                                                   " tokens, not ", options.segment_tokens));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DraftStoreWriter>> DraftStoreWriter::Create(
    const std::string& path, const DraftStoreWriterOptions& options) {
  OCTOGATE_RETURN_IF_ERROR(CheckOptions(options));
  std::unique_ptr<DraftStoreWriter> writer(new DraftStoreWriter(path, options));
  OCTOGATE_RETURN_IF_ERROR(writer->Begin());
  return writer;
}

absl::StatusOr<std::unique_ptr<DraftStoreWriter>> DraftStoreWriter::Append(
    const std::string& path, const DraftStoreWriterOptions& options) {
  OCTOGATE_ASSIGN_OR_RETURN(std::unique_ptr<DraftStoreWriter> writer, Create(path, options));
  // Only now, as another process cannot replace it any more.
  OCTOGATE_ASSIGN_OR_RETURN(const std::unique_ptr<const DraftStore> store, DraftStore::Open(path));
  if (store->tokenizer() != options.tokenizer || store->vocab_size() != options.vocab_size) {
    return absl::FailedPreconditionError(absl::StrCat(
        Quoted(path, 300),
        " was built with another tokenizer; append with that one, or build another store"));
  }
  for (const DraftSegment& segment : store->segments()) {
    OCTOGATE_RETURN_IF_ERROR(writer->Write(segment.file_bytes()));
    ++writer->segments_;
  }
  return writer;
}

// Opens the new file for this process alone.
absl::Status DraftStoreWriter::Begin() {
  const std::string partial = PartialPath(path_);
  const int file = open(partial.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kMode);
  if (file < 0) return SystemError("write", partial);
  struct stat mine;
  struct stat there;
  // Whoever had it locked may have renamed or removed it since it was opened here.
  if (flock(file, LOCK_EX | LOCK_NB) != 0 || fstat(file, &mine) != 0 ||
      stat(partial.c_str(), &there) != 0 || mine.st_ino != there.st_ino) {
    close(file);
    return absl::UnavailableError(absl::StrCat("another process is writing ", Quoted(path_, 300),
                                               "; try again when it is done"));
  }
  file_ = file;
  if (ftruncate(file_, 0) != 0) return SystemError("write", partial);
  // Who may read a corpus may read what is appended to it, and nobody else, from the first byte on.
  struct stat before;
  if (stat(path_.c_str(), &before) == 0 && fchmod(file_, before.st_mode & 0777) != 0) {
    return SystemError("write", partial);
  }
  return absl::OkStatus();
}

DraftStoreWriter::~DraftStoreWriter() {
  if (file_ < 0) return;
  unlink(PartialPath(path_).c_str());  // while it is locked
  close(file_);
}

absl::Status DraftStoreWriter::Write(std::span<const std::byte> bytes) {
  if (!WriteAll(file_, bytes)) return SystemError("write", PartialPath(path_));
  return absl::OkStatus();
}

absl::Status DraftStoreWriter::Add(std::span<const int32_t> tokens) {
  for (int32_t token : tokens) {
    if (token < 0 || token >= options_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", token, " is outside the vocabulary of ", options_.vocab_size));
    }
  }
  if (tokens.empty()) return absl::OkStatus();
  ++documents_;
  tokens_ += tokens.size();
  while (!tokens.empty()) {
    const size_t part = std::min(tokens.size(), static_cast<size_t>(options_.segment_tokens - 1));
    if (words_.size() + part + 1 > options_.segment_tokens) {
      OCTOGATE_RETURN_IF_ERROR(WriteSegment());
    }
    words_.insert(words_.end(), tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(part));
    words_.push_back(kSeparator);
    ++segment_documents_;
    tokens = tokens.subspan(part);
  }
  return absl::OkStatus();
}

absl::Status DraftStoreWriter::WriteSegment() {
  if (words_.empty()) return absl::OkStatus();
  if (++segments_ > kMaxSegments) {
    return absl::ResourceExhaustedError(
        absl::StrCat("a draft store has at most ", kMaxSegments,
                     " segments; compact it with 'octoctl drafts compact', or make larger ones"));
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<uint32_t> suffixes, BuildSuffixArray(words_));
  const auto words = std::as_bytes(std::span(words_));
  const auto order = std::as_bytes(std::span(suffixes));
  SegmentHeader header = {.version = kDraftStoreVersion,
                          .vocab_size = static_cast<uint32_t>(options_.vocab_size),
                          .tokenizer_high = options_.tokenizer.high,
                          .tokenizer_low = options_.tokenizer.low,
                          .tokens = words_.size(),
                          .documents = segment_documents_,
                          .payload_checksum = SegmentChecksum(words, order)};
  std::memcpy(header.magic, kDraftStoreMagic, sizeof(header.magic));
  header.header_checksum = HeaderChecksum(header);
  OCTOGATE_RETURN_IF_ERROR(Write(std::as_bytes(std::span(&header, 1))));
  OCTOGATE_RETURN_IF_ERROR(Write(words));
  OCTOGATE_RETURN_IF_ERROR(Write(order));
  words_.clear();
  segment_documents_ = 0;
  return absl::OkStatus();
}

absl::Status DraftStoreWriter::Finish() {
  OCTOGATE_RETURN_IF_ERROR(WriteSegment());
  if (segments_ == 0) {
    return absl::InvalidArgumentError(
        "there is nothing to retrieve drafts from: no document has text");
  }
  const std::string partial = PartialPath(path_);
  if (fsync(file_) != 0) return SystemError("write", partial);
  if (rename(partial.c_str(), path_.c_str()) != 0) return SystemError("replace", path_);
  close(file_);
  file_ = -1;
  return absl::OkStatus();
}

absl::Status CompactDraftStore(const std::string& path, DraftStoreWriterOptions options) {
  {
    OCTOGATE_ASSIGN_OR_RETURN(const std::unique_ptr<const DraftStore> store,
                              DraftStore::Open(path));
    options.tokenizer = store->tokenizer();
    options.vocab_size = store->vocab_size();
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::unique_ptr<DraftStoreWriter> writer,
                            DraftStoreWriter::Create(path, options));
  OCTOGATE_ASSIGN_OR_RETURN(const std::unique_ptr<const DraftStore> store, DraftStore::Open(path));
  std::vector<int32_t> document;
  for (const DraftSegment& segment : store->segments()) {
    for (uint64_t place = 0; place < segment.tokens(); ++place) {
      const uint32_t word = segment.Word(place);
      if (word != kSeparator) {
        document.push_back(static_cast<int32_t>(word));
        continue;
      }
      OCTOGATE_RETURN_IF_ERROR(writer->Add(document));
      document.clear();
    }
    // What a file has behind its last separator is a document of its own.
    OCTOGATE_RETURN_IF_ERROR(writer->Add(document));
    document.clear();
  }
  return writer->Finish();
}

}  // namespace octogate::retrieval

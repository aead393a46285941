#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status.h"
#include "common/strings.h"
#include "gateway/octoctl/commands.h"
#include "gateway/octoctl/corpus.h"
#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/draft_store_writer.h"
#include "retrieval/drafts/near_index.h"
#include "workers/model/tokenizer.h"
#include "workers/model/tokenizer_fingerprint.h"

namespace octogate::octoctl {
namespace {

using retrieval::DraftStore;
using retrieval::DraftStoreWriter;
using retrieval::NearIndex;
using workers::Tokenizer;

// A longer document is cut here.
constexpr size_t kMaxDocumentTokens = size_t{1} << 24;

ExitStatus Report(const absl::Status& status) {
  std::cerr << "octoctl: " << Printable(ToStd(status.message())) << "\n";
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
      return kUsage;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kDataLoss:
      return kInvalid;
    case absl::StatusCode::kUnavailable:
      return kUnavailable;
    case absl::StatusCode::kResourceExhausted:
      return kRefused;
    default:
      return kFailed;
  }
}

std::string Bytes(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes >= 1'000'000'000) return absl::StrFormat("%.1f GB", value / 1e9);
  if (bytes >= 1'000'000) return absl::StrFormat("%.1f MB", value / 1e6);
  if (bytes >= 1000) return absl::StrFormat("%.1f kB", value / 1e3);
  return absl::StrCat(bytes, " bytes");
}

std::string Counted(uint64_t count, std::string_view what) {
  return absl::StrCat(count, " ", ToAbsl(what), count == 1 ? "" : "s");
}

// Tokens of texts into a store, and on a terminal how far that is.
class StoreFiller : public CorpusReceiver {
 public:
  StoreFiller(const Tokenizer& tokenizer, DraftStoreWriter& writer)
      : tokenizer_(tokenizer), writer_(writer), shows_(isatty(STDERR_FILENO) != 0) {}
  ~StoreFiller() override { Clear(); }

  void File(const std::string& path) override {
    ++files_;
    file_ = path;
    Show();
  }
  void Skipped(const std::string& path) override {
    if (skipped_++ == 0) first_skipped_ = path;
  }
  absl::Status Text(std::string_view piece) override {
    // Texts of a corpus are not ours: what spells a special token there is text.
    OCTOGATE_ASSIGN_OR_RETURN(
        const std::vector<int32_t> ids,
        tokenizer_.Encode(piece, {.add_special_tokens = false, .parse_special = false}));
    document_.insert(document_.end(), ids.begin(), ids.end());
    Show();
    return document_.size() < kMaxDocumentTokens ? absl::OkStatus() : EndDocument();
  }
  absl::Status Tokens(std::span<const int32_t> ids) override {
    Show();
    return writer_.Add(ids);
  }
  absl::Status EndDocument() override {
    const absl::Status added = writer_.Add(document_);
    document_.clear();
    return added;
  }

  // Before what takes long and reads nothing.
  void Say(const std::string& what) const {
    if (shows_) std::cerr << "\r\x1b[K" << what << " …" << std::flush;
  }
  uint64_t files() const { return files_; }
  void ReportSkipped() const {
    if (skipped_ == 0) return;
    Clear();
    std::cerr << "octoctl: left out as no text: " << Counted(skipped_, "file") << ", the first is "
              << Quoted(first_skipped_, 300) << "\n";
  }

 private:
  void Show() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(200);
    Say(absl::StrCat(Counted(files_, "file"), ", ", writer_.tokens() + document_.size(),
                     " tokens: ", OneLine(file_, 60)));
  }
  void Clear() const {
    if (shows_) std::cerr << "\r\x1b[K" << std::flush;
  }

  const Tokenizer& tokenizer_;
  DraftStoreWriter& writer_;
  const bool shows_;
  uint64_t files_ = 0;
  uint64_t skipped_ = 0;
  std::string file_;
  std::string first_skipped_;
  std::vector<int32_t> document_;
  std::chrono::steady_clock::time_point next_;
};

struct Totals {
  uint64_t documents = 0;
  uint64_t tokens = 0;
};

Totals TotalsOf(const DraftStore& store) {
  Totals totals;
  for (const retrieval::DraftSegment& segment : store.segments()) {
    totals.documents += segment.documents();
    totals.tokens += segment.suffixes();
  }
  return totals;
}

std::string Hex(const Hash128& hash) {
  return absl::StrCat(absl::Hex(hash.high, absl::kZeroPad16),
                      absl::Hex(hash.low, absl::kZeroPad16));
}

// Those beside the store, checked whole; null where there are none.
absl::StatusOr<std::unique_ptr<NearIndex>> OpenNear(const std::string& path,
                                                    const DraftStore& store) {
  auto near = NearIndex::Open(path, store);
  if (absl::IsNotFound(near.status())) return nullptr;
  return near;
}

bool HasNear(const DraftsOptions& options) {
  std::error_code ignored;
  return std::filesystem::exists(retrieval::NearIndexPath(options.file), ignored);
}

// Of the store as it is now, where they are asked for or are to be `kept`. Those of another store
// would be of no use.
absl::Status WriteNear(const DraftsOptions& options, bool kept) {
  if (options.near_matches || kept) {
    const Progress progress("making near matches of " + Printable(options.file));
    return retrieval::WriteNearIndex(options.file);
  }
  std::error_code ignored;
  std::filesystem::remove(retrieval::NearIndexPath(options.file), ignored);
  return absl::OkStatus();
}

void PrintStoreJson(const std::string& path, const DraftStore& store, const NearIndex* near,
                    Format format) {
  const Totals totals = TotalsOf(store);
  nlohmann::ordered_json segments = nlohmann::ordered_json::array();
  for (const retrieval::DraftSegment& segment : store.segments()) {
    segments.push_back({{"documents", segment.documents()},
                        {"tokens", segment.suffixes()},
                        {"bytes", segment.file_bytes().size()}});
  }
  nlohmann::ordered_json whole = {{"path", path},
                                  {"tokenizer", Hex(store.tokenizer())},
                                  {"vocabSize", store.vocab_size()},
                                  {"documents", totals.documents},
                                  {"tokens", totals.tokens},
                                  {"bytes", store.bytes()},
                                  {"segments", segments}};
  if (near != nullptr) {
    const NearIndex::Info& info = near->info();
    whole["nearMatches"] = {{"contexts", info.contexts},       {"stride", info.stride},
                            {"window", info.embedding.window}, {"decay", info.embedding.decay},
                            {"seed", info.embedding.seed},     {"bytes", info.file_bytes}};
  }
  PrintJson(whole.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n", format);
}

absl::Status Fill(const DraftsOptions& options, bool append) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                            Tokenizer::Load(options.tokenizer));
  retrieval::DraftStoreWriterOptions store = {
      .tokenizer = workers::TokenizerFingerprint(*tokenizer),
      .vocab_size = tokenizer->vocab_size()};
  if (options.segment_tokens > 0) store.segment_tokens = options.segment_tokens;
  OCTOGATE_ASSIGN_OR_RETURN(const std::unique_ptr<DraftStoreWriter> writer,
                            append ? DraftStoreWriter::Append(options.file, store)
                                   : DraftStoreWriter::Create(options.file, store));
  CorpusOptions corpus;
  corpus.paths = options.paths;
  if (!options.fields.empty()) corpus.fields = options.fields;
  StoreFiller filler(*tokenizer, *writer);
  OCTOGATE_RETURN_IF_ERROR(ReadCorpus(corpus, filler));
  filler.ReportSkipped();
  if (writer->documents() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("no text was found in ", Counted(filler.files(), "file"),
                     "; name files or folders with texts, and see --field for JSON Lines"));
  }
  filler.Say(absl::StrCat("sorting ", writer->tokens(), " tokens"));
  const bool kept = append && HasNear(options);
  OCTOGATE_RETURN_IF_ERROR(writer->Finish());
  return WriteNear(options, kept);
}

ExitStatus PrintStore(const DraftsOptions& options, Format format, bool verify) {
  const auto store = DraftStore::Open(options.file, {.verify = verify});
  if (!store.ok()) return Report(store.status());
  const auto near = OpenNear(options.file, **store);
  if (!near.ok()) return Report(near.status());
  if (format == Format::kJson || format == Format::kYaml) {
    PrintStoreJson(options.file, **store, near->get(), format);
    return kOk;
  }
  const Totals totals = TotalsOf(**store);
  std::cout << Printable(options.file) << ": " << Counted(totals.documents, "document") << ", "
            << Counted(totals.tokens, "token") << ", "
            << Counted((*store)->segments().size(), "segment") << ", " << Bytes((*store)->bytes())
            << "\n";
  if (*near != nullptr) {
    const NearIndex::Info& info = (*near)->info();
    std::cout << "near matches: " << Counted(info.contexts, "context") << " of "
              << Counted(static_cast<uint64_t>(info.embedding.window), "token") << ", one at every "
              << Counted(info.stride, "token") << ", " << Bytes(info.file_bytes) << "\n";
  }
  return kOk;
}

}  // namespace

ExitStatus BuildDrafts(const DraftsOptions& options, Format format) {
  if (const absl::Status status = Fill(options, false); !status.ok()) return Report(status);
  return PrintStore(options, format, false);
}

ExitStatus AppendDrafts(const DraftsOptions& options, Format format) {
  if (const absl::Status status = Fill(options, true); !status.ok()) return Report(status);
  return PrintStore(options, format, false);
}

ExitStatus CompactDrafts(const DraftsOptions& options, Format format) {
  retrieval::DraftStoreWriterOptions store;
  if (options.segment_tokens > 0) store.segment_tokens = options.segment_tokens;
  const bool kept = HasNear(options);
  {
    const Progress progress("compacting " + Printable(options.file));
    const absl::Status status = retrieval::CompactDraftStore(options.file, store);
    if (!status.ok()) return Report(status);
  }
  if (const absl::Status status = WriteNear(options, kept); !status.ok()) return Report(status);
  return PrintStore(options, format, false);
}

ExitStatus DescribeDrafts(const DraftsOptions& options, Format format) {
  if (const ExitStatus status = PrintStore(options, format, true); status != kOk) return status;
  if (format == Format::kJson || format == Format::kYaml) return kOk;
  const auto store = DraftStore::Open(options.file, {.verify = false});
  if (!store.ok()) return Report(store.status());
  std::cout << "tokenizer " << Hex((*store)->tokenizer()) << ", vocabulary of "
            << (*store)->vocab_size() << "\n";
  if ((*store)->segments().size() < 2) return kOk;
  Table table({"SEGMENT", "DOCUMENTS", "TOKENS", "SIZE"});
  int number = 0;
  for (const retrieval::DraftSegment& segment : (*store)->segments()) {
    table.Add({absl::StrCat(++number), absl::StrCat(segment.documents()),
               absl::StrCat(segment.suffixes()), Bytes(segment.file_bytes().size())});
  }
  table.Print(std::cout);
  return kOk;
}

}  // namespace octogate::octoctl

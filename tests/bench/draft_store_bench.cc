// Draft stores of a folder of texts: time to build one, its size, and for lookups at places of
// texts that were held out their time and how many tokens of what follows they have. On one thread.
//
//   draft_store_bench --corpus=FOLDER [--tokenizer=FOLDER]
//
// The tokenizer is that of Llama 3 in OCTOGATE_TEST_DATA unless another is given. One document of
// twenty is held out, chosen by its number.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "retrieval/drafts/draft_lookup.h"
#include "retrieval/drafts/draft_store.h"
#include "retrieval/drafts/draft_store_writer.h"
#include "tests/bench/report.h"
#include "workers/model/tokenizer.h"

namespace octogate::bench {
namespace {

namespace fs = std::filesystem;
using retrieval::DraftContinuations;
using retrieval::DraftLookupOptions;
using retrieval::DraftStore;
using retrieval::DraftStoreWriter;
using Document = std::vector<int32_t>;

constexpr size_t kHoldOut = 20;
constexpr size_t kMostLookups = 20'000;
constexpr size_t kPieceBytes = 1 << 20;

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

template <typename Value>
Value OrExit(absl::StatusOr<Value> value) {
  if (!value.ok()) {
    std::cerr << "draft_store_bench: " << value.status() << "\n";
    std::exit(1);
  }
  return *std::move(value);
}

void OrExit(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << "draft_store_bench: " << status << "\n";
  std::exit(1);
}

std::vector<Document> ReadDocuments(const std::string& corpus, const workers::Tokenizer& tokenizer,
                                    Report& report) {
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(corpus)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  std::vector<Document> documents;
  size_t bytes = 0;
  size_t tokens = 0;
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& file : files) {
    std::ifstream in(file, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (text.find('\0') != std::string::npos) continue;
    Document document;
    for (size_t at = 0; at < text.size(); at += kPieceBytes) {
      const Document ids =
          OrExit(tokenizer.Encode(text.substr(at, kPieceBytes), {.add_special_tokens = false}));
      document.insert(document.end(), ids.begin(), ids.end());
    }
    bytes += text.size();
    tokens += document.size();
    documents.push_back(std::move(document));
  }
  const double seconds = Seconds(start);
  report.Add({"texts", static_cast<double>(bytes) / 1e6, "MB"});
  report.Add({"documents", static_cast<double>(documents.size()), ""});
  report.Add({"tokens", static_cast<double>(tokens), ""});
  report.Add({"tokenizing", static_cast<double>(tokens) / seconds, "tokens/s"});
  return documents;
}

// Of the documents that are not held out. Returns seconds.
double Build(const std::vector<Document>& documents, const std::string& path, int vocab_size,
             uint64_t segment_tokens, uint64_t& tokens) {
  const auto start = std::chrono::steady_clock::now();
  const auto writer = OrExit(
      DraftStoreWriter::Create(path, {.vocab_size = vocab_size, .segment_tokens = segment_tokens}));
  for (size_t i = 0; i < documents.size(); ++i) {
    if (i % kHoldOut != 0) OrExit(writer->Add(documents[i]));
  }
  tokens = writer->tokens();
  OrExit(writer->Finish());
  return Seconds(start);
}

// How many tokens of `rest` are a path of the tree.
int Followed(const DraftContinuations& found, std::span<const int32_t> rest) {
  int32_t at = -1;
  int depth = 0;
  for (int32_t token : rest) {
    const auto child = std::find_if(found.nodes.begin(), found.nodes.end(),
                                    [&](const DraftContinuations::Node& node) {
                                      return node.parent == at && node.token == token;
                                    });
    if (child == found.nodes.end()) break;
    at = static_cast<int32_t>(child - found.nodes.begin());
    ++depth;
  }
  return depth;
}

void LookUp(const std::vector<Document>& documents, const DraftStore& store,
            const DraftLookupOptions& options, const std::string& name, Report& report) {
  size_t held_out = 0;
  for (size_t i = 0; i < documents.size(); i += kHoldOut) held_out += documents[i].size();
  const size_t step = held_out / kMostLookups + 1;
  std::vector<double> micros;
  double followed = 0;
  double found_any = 0;
  double span = 0;
  DraftContinuations found;
  for (size_t i = 0; i < documents.size(); i += kHoldOut) {
    const std::span<const int32_t> document = documents[i];
    for (size_t at = 1; at < document.size(); at += step) {
      const auto start = std::chrono::steady_clock::now();
      retrieval::LookUpContinuations(store, document.first(at), options, found);
      micros.push_back(1e6 * Seconds(start));
      followed += Followed(found, document.subspan(at));
      found_any += found.nodes.empty() ? 0 : 1;
      span += found.span;
    }
  }
  if (micros.empty()) return;
  std::sort(micros.begin(), micros.end());
  const auto count = static_cast<double>(micros.size());
  report.Add({name + ": lookups", count, ""});
  report.Add({name + ": p50", micros[micros.size() / 2], "µs"});
  report.Add({name + ": p99", micros[micros.size() * 99 / 100], "µs"});
  report.Add({name + ": with drafts", 100 * found_any / count, "%"});
  report.Add({name + ": tokens matched", span / count, ""});
  report.Add({name + ": MAT if a step began everywhere", 1 + followed / count, ""});
}

int Main(int argc, char** argv) {
  std::string corpus;
  std::string tokenizer_folder;
  const char* data = std::getenv("OCTOGATE_TEST_DATA");  // NOLINT(concurrency-mt-unsafe)
  if (data != nullptr) tokenizer_folder = absl::StrCat(data, "/tokenizers/llama3");
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--corpus=")) corpus = std::string(argument);
    if (absl::ConsumePrefix(&argument, "--tokenizer=")) tokenizer_folder = std::string(argument);
  }
  if (corpus.empty() || tokenizer_folder.empty()) {
    std::cerr << "usage: draft_store_bench --corpus=FOLDER [--tokenizer=FOLDER]\n";
    return 2;
  }
  Report report("draft_store", argc, argv);
  const auto tokenizer = OrExit(workers::Tokenizer::Load(tokenizer_folder));
  const std::vector<Document> documents = ReadDocuments(corpus, *tokenizer, report);
  const std::string path =
      (fs::temp_directory_path() / absl::StrCat("draft_store_bench.", getpid())).string();
  uint64_t tokens = 0;
  const double seconds = Build(documents, path, tokenizer->vocab_size(), uint64_t{1} << 26, tokens);
  report.Add({"building", static_cast<double>(tokens) / seconds, "tokens/s"});
  {
    const auto store = OrExit(DraftStore::Open(path));
    report.Add(
        {"file", static_cast<double>(store->bytes()) / static_cast<double>(tokens), "bytes/token"});
    for (int hits : {50, 200, 1000, 5000}) {
      LookUp(documents, *store, {.max_hits = hits}, absl::StrCat(hits, " hits"), report);
    }
    LookUp(documents, *store, {.min_span = 1}, "200 hits, also of one token", report);
  }
  Build(documents, path, tokenizer->vocab_size(), tokens / 8, tokens);
  {
    const auto store = OrExit(DraftStore::Open(path));
    LookUp(documents, *store, {}, absl::StrCat("200 hits, ", store->segments().size(), " segments"),
           report);
  }
  std::error_code ignored;
  fs::remove(path, ignored);
  return report.Print();
}

}  // namespace
}  // namespace octogate::bench

int main(int argc, char** argv) { return octogate::bench::Main(argc, argv); }

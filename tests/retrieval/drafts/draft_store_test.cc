// A store holds what was written, in order of suffixes; a file that lies does no harm.
#include "retrieval/drafts/draft_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include "retrieval/drafts/draft_lookup.h"
#include "retrieval/drafts/draft_store_format.h"
#include "retrieval/drafts/suffix_array.h"
#include "tests/retrieval/drafts/store_file.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::retrieval {
namespace {

using testing::HasSubstr;
using workers::DescribeSeed;
using workers::FreshSeed;

constexpr DraftStoreWriterOptions kOptions = {.tokenizer = kTestTokenizer, .vocab_size = 100};

std::vector<Document> Documents(const DraftStore& store) {
  std::vector<Document> documents(1);
  for (const DraftSegment& segment : store.segments()) {
    for (uint64_t place = 0; place < segment.tokens(); ++place) {
      if (segment.Word(place) == kSeparator) {
        documents.emplace_back();
      } else {
        documents.back().push_back(static_cast<int32_t>(segment.Word(place)));
      }
    }
  }
  documents.pop_back();
  return documents;
}

std::vector<uint32_t> Suffixes(const std::vector<uint32_t>& words) {
  std::vector<uint32_t> suffixes;
  for (uint32_t i = 0; i < words.size(); ++i) {
    if (words[i] != kSeparator) suffixes.push_back(i);
  }
  std::sort(suffixes.begin(), suffixes.end(), [&words](uint32_t a, uint32_t b) {
    return std::lexicographical_compare(words.begin() + a, words.end(), words.begin() + b,
                                        words.end());
  });
  return suffixes;
}

TEST(SuffixArrayTest, EqualsSorting) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    // Ranks of one byte or two, one word alone, Fibonacci's and Thue and Morse's words.
    std::vector<uint32_t> words;
    const size_t length = random() % 700;
    const uint32_t distinct = round % 2 == 0 ? 3 : (1 << 22);
    for (size_t i = 0; i < length; ++i) {
      switch (round % 5) {
        case 0:
          words.push_back(7);
          break;
        case 1:
          words.push_back(static_cast<uint32_t>(__builtin_popcountll(i)) % 2);
          break;
        default:
          words.push_back(static_cast<uint32_t>(random() % distinct));
      }
      if (random() % 100 == 0) words.push_back(kSeparator);
    }
    if (round % 5 == 2) {
      std::vector<uint32_t> a = {0};
      words = {0, 1};
      while (words.size() < length) {
        const std::vector<uint32_t> b = words;
        words.insert(words.end(), a.begin(), a.end());
        a = b;
      }
    }
    words.push_back(kSeparator);
    const auto suffixes = BuildSuffixArray(words);
    ASSERT_TRUE(suffixes.ok()) << suffixes.status();
    ASSERT_EQ(*suffixes, Suffixes(words));
  }
}

TEST(SuffixArrayTest, SortsMoreThan65536DifferentTokens) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  std::vector<uint32_t> words;
  for (uint32_t i = 0; i < 100'000; ++i) words.push_back(i * 7 % 150'000);
  for (uint32_t i = 0; i < 100'000; ++i) words.push_back(static_cast<uint32_t>(random() % 128'256));
  words.push_back(kSeparator);
  ASSERT_GT(std::set<uint32_t>(words.begin(), words.end()).size(), 65'536);
  const auto suffixes = BuildSuffixArray(words);
  ASSERT_TRUE(suffixes.ok()) << suffixes.status();
  EXPECT_EQ(*suffixes, Suffixes(words));
}

TEST(DraftStoreTest, HoldsTheDocumentsOfAllSegments) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  const StoreFile file;
  std::vector<Document> all;
  for (int part = 0; part < 5; ++part) {
    std::vector<Document> documents = RandomDocuments(random, 10, 40, 100);
    documents.push_back({1, 2, 3});
    ASSERT_TRUE(file.Write(documents, kOptions, part > 0).ok());
    for (const Document& document : documents) {
      if (!document.empty()) all.push_back(document);
    }
    const auto store = file.Open();
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(store->segments().size(), static_cast<size_t>(part + 1));
    EXPECT_EQ(Documents(*store), all);
    EXPECT_EQ(store->tokenizer(), kTestTokenizer);
    EXPECT_EQ(store->vocab_size(), 100);
    EXPECT_EQ(store->bytes(), std::filesystem::file_size(file.path()));
    for (const DraftSegment& segment : store->segments()) {
      std::vector<uint32_t> words;
      std::vector<uint32_t> suffixes;
      for (uint64_t i = 0; i < segment.tokens(); ++i) words.push_back(segment.Word(i));
      for (uint64_t i = 0; i < segment.suffixes(); ++i) {
        suffixes.push_back(static_cast<uint32_t>(segment.Suffix(i)));
      }
      EXPECT_EQ(suffixes, Suffixes(words));
    }
  }
  ASSERT_TRUE(CompactDraftStore(file.path(), {}).ok());
  const auto store = file.Open();
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->segments().size(), 1);
  EXPECT_EQ(Documents(*store), all);
}

TEST(DraftStoreTest, SegmentsHaveABoundAndLongDocumentsAreCut) {
  const StoreFile file;
  DraftStoreWriterOptions options = kOptions;
  options.segment_tokens = 5;
  ASSERT_TRUE(file.Write({{1, 2}, {3}, {4, 5}, {}, {0, 1, 2, 3, 4, 5, 6, 7, 8}}, options).ok());
  const auto store = file.Open();
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(Documents(*store),
            (std::vector<Document>{{1, 2}, {3}, {4, 5}, {0, 1, 2, 3}, {4, 5, 6, 7}, {8}}));
  for (const DraftSegment& segment : store->segments()) EXPECT_LE(segment.tokens(), 5);
}

TEST(DraftStoreTest, AStoreStaysAsItIsUntilTheNewOneIsWhole) {
  const StoreFile file;
  ASSERT_TRUE(file.Write({{1, 2, 3}}, kOptions).ok());
  const auto old = file.Open();
  ASSERT_NE(old, nullptr);
  {
    auto writer = DraftStoreWriter::Append(file.path(), kOptions);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->Add(Document{4, 5}).ok());
    EXPECT_EQ((*writer)->Add(Document{100}).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ((*writer)->Add(Document{-1}).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(file.Write({{6}}, kOptions).code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(Documents(*file.Open()), (std::vector<Document>{{1, 2, 3}}));
  }
  EXPECT_EQ(Documents(*file.Open()), (std::vector<Document>{{1, 2, 3}})) << "given up";
  ASSERT_TRUE(file.Write({{6}}, kOptions).ok());
  EXPECT_EQ(Documents(*old), (std::vector<Document>{{1, 2, 3}})) << "whoever has it keeps it";
  EXPECT_EQ(Documents(*file.Open()), (std::vector<Document>{{6}}));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(file.folder()), {}), 1)
      << "nothing is left behind";
}

TEST(DraftStoreTest, WhoMayNotReadAStoreMayNotReadWhatIsMadeOfIt) {
  using std::filesystem::perms;
  const StoreFile file;
  ASSERT_TRUE(file.Write({{1, 2, 3}}, kOptions).ok());
  const perms mine = perms::owner_read | perms::owner_write;
  std::filesystem::permissions(file.path(), mine);
  {
    auto writer = DraftStoreWriter::Append(file.path(), kOptions);
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const auto& entry : std::filesystem::directory_iterator(file.folder())) {
      EXPECT_EQ(entry.status().permissions(), mine) << entry.path();
    }
    ASSERT_TRUE((*writer)->Add(Document{4, 5}).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  EXPECT_EQ(std::filesystem::status(file.path()).permissions(), mine);
}

TEST(DraftStoreTest, SaysWhatIsWrong) {
  const StoreFile file;
  EXPECT_EQ(DraftStore::Open(file.path()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(file.Write({{1}}, kOptions, true).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(file.Write({{}}, kOptions).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DraftStore::Open(file.folder().string()).status().code(),
            absl::StatusCode::kInvalidArgument);
  for (const char* text :
       {"", "no store",
        "no store, whatever the length of this text may be, and it is more than a header's"}) {
    std::ofstream(file.path(), std::ios::trunc) << text;
    EXPECT_FALSE(DraftStore::Open(file.path()).ok());
  }
  EXPECT_THAT(std::string(DraftStore::Open(file.path()).status().message()),
              HasSubstr("octoctl drafts build"));

  ASSERT_TRUE(file.Write({{1}}, kOptions).ok());
  DraftStoreWriterOptions other = kOptions;
  other.tokenizer.low = 43;
  EXPECT_EQ(file.Write({{1}}, other, true).code(), absl::StatusCode::kFailedPrecondition);
  other = kOptions;
  other.vocab_size = 101;
  EXPECT_EQ(file.Write({{1}}, other, true).code(), absl::StatusCode::kFailedPrecondition);
  for (int vocab_size : {0, -1, 1 << 25}) {
    other.vocab_size = vocab_size;
    EXPECT_EQ(file.Write({{1}}, other).code(), absl::StatusCode::kInvalidArgument);
  }
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

absl::StatusOr<std::unique_ptr<const DraftStore>> Parse(const std::string& bytes, bool verify) {
  return DraftStore::FromBytes(std::as_bytes(std::span(bytes)), "bytes", {.verify = verify});
}

TEST(DraftStoreTest, EveryCutAndEveryChangeIsNoticed) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  const StoreFile file;
  ASSERT_TRUE(file.Write({{1, 2, 3, 1, 2}, {5}}, kOptions).ok());
  const size_t first = ReadFile(file.path()).size();
  ASSERT_TRUE(file.Write({{1, 2, 9, 1, 2}}, kOptions, true).ok());
  const std::string bytes = ReadFile(file.path());
  ASSERT_TRUE(Parse(bytes, true).ok());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(Parse(bytes.substr(0, length), true).ok(), length == first) << length;
    EXPECT_EQ(Parse(bytes.substr(0, length), false).ok(), length == first) << length;
  }
  EXPECT_FALSE(Parse(bytes + "x", true).ok());
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ (1 + random() % 255));
    EXPECT_FALSE(Parse(changed, true).ok()) << i;
  }
}

void ExpectWellFormed(const DraftContinuations& found, const DraftLookupOptions& options,
                      int vocab_size) {
  ASSERT_LE(static_cast<int>(found.nodes.size()), options.max_nodes);
  std::set<std::pair<int32_t, int32_t>> children;
  for (size_t i = 0; i < found.nodes.size(); ++i) {
    const DraftContinuations::Node& node = found.nodes[i];
    ASSERT_GE(node.token, 0);
    ASSERT_LT(node.token, vocab_size);
    ASSERT_LT(node.parent, static_cast<int32_t>(i));
    const auto* parent = node.parent < 0 ? nullptr : &found.nodes[static_cast<size_t>(node.parent)];
    ASSERT_EQ(node.depth, parent == nullptr ? 1 : parent->depth + 1);
    ASSERT_LE(node.depth, options.max_depth);
    ASSERT_GE(node.count, 1);
    ASSERT_LE(node.count, parent == nullptr ? found.counted : parent->count);
    ASSERT_TRUE(children.insert({node.parent, node.token}).second);
  }
}

// Whoever writes such files knows the checksums.
TEST(DraftStoreTest, AFileThatLiesGivesWellFormedDrafts) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  const StoreFile file;
  ASSERT_TRUE(file.Write(RandomDocuments(random, 30, 60, 10), kOptions).ok());
  ASSERT_TRUE(file.Write(RandomDocuments(random, 30, 60, 10), kOptions, true).ok());
  const std::string bytes = ReadFile(file.path());
  const DraftLookupOptions options = {.max_span = 6, .min_span = 1, .max_hits = 40};
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string changed = bytes;
    const int changes = 1 + static_cast<int>(random() % 200);
    for (int i = 0; i < changes; ++i) {
      const size_t at = sizeof(SegmentHeader) + 4 * (random() % (bytes.size() / 4 - 16));
      const uint32_t values[] = {static_cast<uint32_t>(random()), kSeparator,
                                 static_cast<uint32_t>(random() % 200), 0x7FFFFFFF};
      if (at + 4 <= bytes.size()) std::memcpy(changed.data() + at, &values[random() % 4], 4);
    }
    SegmentHeader header;
    std::memcpy(&header, changed.data(), sizeof(header));
    if (round % 3 == 0) {
      header.tokens = random() % (bytes.size() / 4);
      header.documents = random() % (header.tokens + 2);
    }
    if (round % 30 == 0) header.tokens = random();
    if (round % 31 == 0) header.documents = random();
    header.header_checksum = HeaderChecksum(header);
    std::memcpy(changed.data(), &header, sizeof(header));
    // On the heap and no longer than it is, so that AddressSanitizer sees what is read beyond.
    const std::vector<char> exact(changed.begin(), changed.end());
    const auto store =
        DraftStore::FromBytes(std::as_bytes(std::span(exact)), "bytes", {.verify = false});
    if (!store.ok()) continue;
    ++accepted;
    DraftContinuations found;
    for (int i = 0; i < 10; ++i) {
      const Document sequence = {static_cast<int32_t>(random() % 10),
                                 static_cast<int32_t>(random() % 10),
                                 static_cast<int32_t>(random() % 10)};
      LookUpContinuations(**store, sequence, options, found);
      ExpectWellFormed(found, options, 100);
    }
  }
  EXPECT_GT(accepted, 300);
}

}  // namespace
}  // namespace octogate::retrieval

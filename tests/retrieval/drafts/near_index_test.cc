// Near matches are those that a comparison with every context finds, whatever is in their file.
#include "retrieval/drafts/near_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "retrieval/drafts/draft_lookup.h"
#include "retrieval/drafts/near_index_format.h"
#include "tests/retrieval/drafts/store_file.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::retrieval {
namespace {

using testing::HasSubstr;
using workers::DescribeSeed;
using workers::FreshSeed;
using Vector = std::array<float, kContextDimension>;

constexpr int kVocabulary = 1000;
constexpr DraftStoreWriterOptions kStore = {.tokenizer = kTestTokenizer, .vocab_size = kVocabulary};

Vector Embed(const ContextEmbedding& embedding, std::span<const int32_t> tokens) {
  Vector vector;
  embedding.Embed(tokens, vector);
  return vector;
}

float Product(const Vector& a, const Vector& b) {
  float sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class NearIndexTest : public testing::Test {
 protected:
  int32_t Token() { return static_cast<int32_t>(random_() % kVocabulary); }
  // In two segments.
  std::vector<Document> WriteStore(int documents, int length) {
    const auto first = RandomDocuments(random_, documents, length, kVocabulary);
    auto all = RandomDocuments(random_, documents, length, kVocabulary);
    all.push_back({1, 2, 3});
    EXPECT_TRUE(file_.Write(all, kStore).ok());
    EXPECT_TRUE(file_.Write(first, kStore, true).ok() || first.empty());
    all.insert(all.end(), first.begin(), first.end());
    return all;
  }
  // Some tokens of a document's, one or two of them changed.
  Document Query(const std::vector<Document>& documents) {
    Document query;
    while (query.size() < 3) {
      const Document& from = documents[random_() % documents.size()];
      const size_t end = random_() % (from.size() + 1);
      query.assign(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(end));
    }
    for (int i = 0; i < 2; ++i) query[query.size() - 1 - random_() % 3] = Token();
    return query;
  }
  std::unique_ptr<NearIndex> OpenNear(const DraftStore& store) {
    auto near = NearIndex::Open(file_.path(), store);
    EXPECT_TRUE(near.ok()) << near.status();
    return near.ok() ? *std::move(near) : nullptr;
  }
  std::string near_path() const { return NearIndexPath(file_.path()); }

  const uint32_t seed_ = FreshSeed();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937_64 random_{seed_};
  const StoreFile file_;
};

TEST_F(NearIndexTest, ProductsOfContextsAreAboutTheShareThatIsEqual) {
  ContextEmbedding embedding;
  embedding.seed = random_();
  double total = 0;
  for (int32_t i = 0; i < embedding.window; ++i) total += std::pow(embedding.decay, 2 * i);
  double error = 0;
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    Document a(20);
    for (int32_t& token : a) token = Token();
    Document b = a;
    double equal = total;
    for (int32_t i = 0; i < embedding.window; ++i) {
      if (random_() % 2 == 0) continue;
      b[b.size() - 1 - static_cast<size_t>(i)] = kVocabulary + Token();
      equal -= std::pow(embedding.decay, 2 * i);
    }
    EXPECT_NEAR(Product(Embed(embedding, a), Embed(embedding, a)), 1, 1e-5);
    error += Product(Embed(embedding, a), Embed(embedding, b)) - equal / total;
    // What stands before the window is not looked at.
    Document c = a;
    for (size_t i = 0; i + static_cast<size_t>(embedding.window) < c.size(); ++i) c[i] = Token();
    EXPECT_EQ(Embed(embedding, a), Embed(embedding, c));
  }
  EXPECT_NEAR(error / kRounds, 0, 0.03);
  EXPECT_EQ(Embed(embedding, {}), Vector{});
}

TEST_F(NearIndexTest, FindsWhatAComparisonWithEveryContextFinds) {
  double found_scores = 0;
  double best_scores = 0;
  for (int round = 0; round < 12; ++round) {
    const std::vector<Document> documents = WriteStore(round < 4 ? 1 : 30, round < 4 ? 8 : 120);
    NearIndexOptions options;
    options.embedding.seed = random_();
    options.embedding.window = 1 + static_cast<int32_t>(random_() % 12);
    options.embedding.decay = 0.6F + 0.1F * static_cast<float>(random_() % 4);
    ASSERT_TRUE(WriteNearIndex(file_.path(), options).ok());
    const auto store = file_.Open();
    ASSERT_NE(store, nullptr);
    const auto near = OpenNear(*store);
    ASSERT_NE(near, nullptr);
    EXPECT_EQ(near->window(), options.embedding.window);
    EXPECT_EQ(near->info().stride, 1U);
    EXPECT_EQ(near->info().file_bytes, ReadFile(near_path()).size());

    // Contexts are all places of the documents, in their order, whatever segment they are in.
    std::vector<Vector> vectors;
    std::map<std::pair<uint32_t, uint32_t>, size_t> numbers;
    for (const Document& document : documents) {
      for (size_t end = 1; end < document.size(); ++end) {
        const DraftPlace place = near->PlaceOf(vectors.size());
        const DraftSegment& segment = store->segments()[place.segment];
        for (size_t i = 0; i < document.size(); ++i) {
          ASSERT_EQ(segment.Word(place.word - end + i), static_cast<uint32_t>(document[i]));
        }
        numbers[{place.segment, place.word}] = vectors.size();
        vectors.push_back(Embed(options.embedding, std::span(document).first(end)));
      }
    }
    ASSERT_EQ(near->info().contexts, vectors.size());
    ASSERT_EQ(numbers.size(), vectors.size());

    std::vector<DraftPlace> places;
    for (int i = 0; i < 40; ++i) {
      const Document query = Query(documents);
      const Vector vector = Embed(options.embedding, query);
      std::vector<float> best;
      for (const Vector& other : vectors) best.push_back(Product(vector, other));
      std::sort(best.rbegin(), best.rend());
      const int count = 1 + static_cast<int>(random_() % 40);
      near->Find(query, count, places);
      ASSERT_LE(places.size(), std::min(static_cast<size_t>(count), vectors.size()));
      for (int p = 0; p < count && p < static_cast<int>(best.size()); ++p) {
        best_scores += best[static_cast<size_t>(p)];
      }
      std::set<size_t> contexts;
      float before = 2;
      for (const DraftPlace& place : places) {
        const auto number = numbers.find({place.segment, place.word});
        ASSERT_NE(number, numbers.end());
        ASSERT_TRUE(contexts.insert(number->second).second) << "twice";
        const float score = Product(vector, vectors[number->second]);
        EXPECT_LE(score, before + 1e-5F);
        before = score;
        found_scores += score;
      }
    }
  }
  // Many of these contexts are equal, and a graph may have no links from them to elsewhere.
  EXPECT_GT(found_scores, 0.85 * best_scores);
}

TEST_F(NearIndexTest, ALargeStoreHasFewerContextsThanPlaces) {
  const std::vector<Document> documents = WriteStore(20, 100);
  ASSERT_TRUE(WriteNearIndex(file_.path()).ok());
  const auto store = file_.Open();
  const auto all = OpenNear(*store);
  ASSERT_NE(all, nullptr);
  const uint64_t places = all->info().contexts;
  for (const uint64_t most : {uint64_t{1}, uint64_t{2}, uint64_t{7}, places / 2, places - 1}) {
    NearIndexOptions options;
    options.max_contexts = most;
    ASSERT_TRUE(WriteNearIndex(file_.path(), options).ok());
    const auto near = OpenNear(*store);
    ASSERT_NE(near, nullptr);
    EXPECT_LE(near->info().contexts, most);
    EXPECT_GE(2 * near->info().contexts, most);
    for (uint64_t i = 0; i < near->info().contexts; ++i) {
      EXPECT_EQ(near->PlaceOf(i), all->PlaceOf(i * near->info().stride));
    }
  }
}

TEST_F(NearIndexTest, EqualCallsWriteEqualFiles) {
  WriteStore(20, 100);
  ASSERT_TRUE(WriteNearIndex(file_.path()).ok());
  const std::string bytes = ReadFile(near_path());
  ASSERT_TRUE(WriteNearIndex(file_.path()).ok());
  EXPECT_EQ(ReadFile(near_path()), bytes);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(file_.folder()), {}), 2)
      << "nothing is left behind";
}

// All of what is counted, and what follows it.
std::map<Document, int> Counts(const DraftContinuations& found) {
  std::map<Document, int> counts;
  for (size_t n = 0; n < found.nodes.size(); ++n) {
    Document path;
    for (auto i = static_cast<int32_t>(n); i >= 0; i = found.nodes[static_cast<size_t>(i)].parent) {
      path.insert(path.begin(), found.nodes[static_cast<size_t>(i)].token);
    }
    counts[path] = found.nodes[n].count;
  }
  return counts;
}

TEST_F(NearIndexTest, ALookupCountsThemWhereLittleIsEqual) {
  const std::vector<Document> documents = WriteStore(30, 100);
  ASSERT_TRUE(WriteNearIndex(file_.path()).ok());
  const auto store = file_.Open();
  const auto near = OpenNear(*store);
  ASSERT_NE(near, nullptr);
  int counted = 0;
  int not_asked = 0;
  for (int round = 0; round < 300; ++round) {
    const Document query = Query(documents);
    DraftLookupOptions options = {.min_span = 1, .max_depth = 4, .max_nodes = 1'000'000};
    options.near_below = 1 + static_cast<int>(random_() % 4);
    options.max_near = 1 + static_cast<int>(random_() % 50);
    DraftContinuations without;
    LookUpContinuations(*store, query, options, without);
    EXPECT_EQ(without.near, 0);
    std::map<Document, int> expected = Counts(without);
    std::vector<DraftPlace> places;
    if (without.span < options.near_below) near->Find(query, options.max_near, places);
    for (const DraftPlace& place : places) {
      const DraftSegment& segment = store->segments()[place.segment];
      Document path;
      for (uint64_t word = place.word; path.size() < 4 && word < segment.tokens(); ++word) {
        if (segment.Word(word) >= kVocabulary) break;
        path.push_back(static_cast<int32_t>(segment.Word(word)));
        ++expected[path];
      }
    }
    const DraftSource sources[] = {{.store = store.get(), .near = near.get()}};
    DraftContinuations with;
    LookUpContinuations(sources, query, options, with);
    EXPECT_EQ(with.span, without.span);
    EXPECT_EQ(with.hits, without.hits);
    EXPECT_EQ(with.near, static_cast<int32_t>(places.size()));
    EXPECT_EQ(with.counted, without.counted + with.near);
    ASSERT_EQ(Counts(with), expected);
    (with.near > 0 ? counted : not_asked) += 1;
  }
  EXPECT_GT(counted, 50);
  EXPECT_GT(not_asked, 0);
}

TEST_F(NearIndexTest, SaysWhatIsWrong) {
  EXPECT_EQ(WriteNearIndex(file_.path()).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(file_.Write({{1}, {2}}, kStore).ok());
  EXPECT_EQ(WriteNearIndex(file_.path()).code(), absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(file_.Write({{1, 2, 3, 4}}, kStore).ok());
  const auto open = [this] { return NearIndex::Open(file_.path(), *file_.Open()).status(); };
  EXPECT_EQ(open().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(open().message()), HasSubstr("octoctl drafts build --near-matches"));
  std::vector<NearIndexOptions> wrong(6);
  wrong[0].embedding.window = 0;
  wrong[1].embedding.window = ContextEmbedding::kMaxWindow + 1;
  wrong[2].embedding.decay = 0;
  wrong[3].embedding.decay = std::numeric_limits<float>::quiet_NaN();
  wrong[4].max_contexts = 0;
  wrong[5].max_contexts = kMaxNearContexts + 1;
  for (const NearIndexOptions& options : wrong) {
    EXPECT_EQ(WriteNearIndex(file_.path(), options).code(), absl::StatusCode::kInvalidArgument);
  }
  ASSERT_TRUE(WriteNearIndex(file_.path()).ok());
  EXPECT_TRUE(open().ok());
  // The store as it was is another one.
  const auto old = file_.Open();
  ASSERT_TRUE(file_.Write({{5, 6}}, kStore, true).ok());
  EXPECT_TRUE(NearIndex::Open(file_.path(), *old).ok());
  EXPECT_EQ(open().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(open().message()), HasSubstr("octoctl drafts compact --near-matches"));
  std::filesystem::remove(near_path());
  std::filesystem::create_directory(near_path());
  EXPECT_EQ(open().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(NearIndexTest, EveryCutAndEveryChangeIsNoticed) {
  ASSERT_TRUE(file_.Write({{1, 2, 3, 4, 5}, {6, 7}}, kStore).ok());
  ASSERT_TRUE(WriteNearIndex(file_.path()).ok());
  const auto store = file_.Open();
  const std::string bytes = ReadFile(near_path());
  const auto parse = [&store](const std::string& text) {
    return NearIndex::FromBytes(std::as_bytes(std::span(text)), "bytes", *store);
  };
  ASSERT_TRUE(parse(bytes).ok());
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(parse(bytes.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(parse(bytes + "x").ok());
  EXPECT_FALSE(parse(bytes + "four").ok());
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ (1 + random_() % 255));
    EXPECT_FALSE(parse(changed).ok()) << i;
  }
}

// Whoever writes such files knows the checksums.
TEST_F(NearIndexTest, AFileThatLiesFindsPlacesOfTheStore) {
  const std::vector<Document> documents = WriteStore(10, 40);
  ASSERT_TRUE(WriteNearIndex(file_.path()).ok());
  const auto store = file_.Open();
  const std::string bytes = ReadFile(near_path());
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string changed = bytes;
    const auto contexts = static_cast<int32_t>((bytes.size() - sizeof(NearIndexHeader)) /
                                               (33 * sizeof(int32_t)));  // about
    const int changes = 1 + static_cast<int>(random_() % 3);
    for (int i = 0; i < changes; ++i) {
      const size_t words = (bytes.size() - sizeof(NearIndexHeader)) / 4;
      const size_t at = sizeof(NearIndexHeader) + 4 * (random_() % words);
      const int32_t values[] = {static_cast<int32_t>(random_()), -1, 1,
                                static_cast<int32_t>(random_() % (contexts + 1))};
      std::memcpy(changed.data() + at, &values[random_() % (round % 2 == 0 ? 4 : 2)], 4);
      if (round % 3 == 0) {
        const int32_t within = static_cast<int32_t>(random_() % contexts);
        std::memcpy(changed.data() + at, &within, 4);
      }
    }
    NearIndexHeader header;
    std::memcpy(&header, changed.data(), sizeof(header));
    const auto number = static_cast<uint32_t>(random_());
    switch (random_() % 16) {
      case 0:
        header.contexts = random_() % 2 == 0 ? number % 500 : random_();
        break;
      case 1:
        header.neighbors = random_() % 2 == 0 ? number % 9000 : random_();
        break;
      case 2:
        header.links = static_cast<int32_t>(number % 2 == 0 ? number : number % 80);
        break;
      case 3:
        header.entry = static_cast<int32_t>(number % 2 == 0 ? number : number % 600);
        break;
      case 4:
        header.stride = number % 4;
        break;
      case 5:
        header.window = static_cast<int32_t>(number % 70);
        break;
      case 6:
        std::memcpy(&header.decay, &number, sizeof(number));
        break;
      case 7:
        header.seed = random_();
        break;
      default:
        break;
    }
    const std::string_view payload = std::string_view(changed).substr(sizeof(header));
    header.payload_checksum = NearIndexChecksum(std::as_bytes(std::span(payload)));
    header.header_checksum = HeaderChecksum(header);
    std::memcpy(changed.data(), &header, sizeof(header));
    // On the heap and no longer than it is, so that AddressSanitizer sees what is read beyond.
    const std::vector<char> exact(changed.begin(), changed.end());
    const auto near = NearIndex::FromBytes(std::as_bytes(std::span(exact)), "bytes", *store);
    if (!near.ok()) continue;
    ++accepted;
    std::vector<DraftPlace> places;
    for (int i = 0; i < 5; ++i) {
      (*near)->Find(Query(documents), 40, places);
      ASSERT_LE(places.size(), 40U);
      for (const DraftPlace& place : places) {
        ASSERT_LT(place.segment, store->segments().size());
        const DraftSegment& segment = store->segments()[place.segment];
        ASSERT_GE(place.word, 1U);
        ASSERT_LT(place.word, segment.tokens());
        ASSERT_LT(segment.Word(place.word), kVocabulary);
        ASSERT_LT(segment.Word(place.word - 1), kVocabulary);
      }
    }
  }
  EXPECT_GT(accepted, 300);
  EXPECT_LT(accepted, 3000);
}

}  // namespace
}  // namespace octogate::retrieval

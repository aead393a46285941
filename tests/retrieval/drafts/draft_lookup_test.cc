// What is found equals what a search through every place of every document finds.
#include "retrieval/drafts/draft_lookup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "tests/retrieval/drafts/store_file.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::retrieval {
namespace {

using workers::DescribeSeed;
using workers::FreshSeed;

struct Expected {
  int span = 0;
  std::vector<Document> continuations;    // of every place
  std::map<Document, int> counts;         // of their prefixes
  std::vector<const Document*> prefixes;  // in the order of the result
};

Expected Search(const std::vector<Document>& documents, const Document& sequence,
                const DraftLookupOptions& options) {
  Expected expected;
  for (int span = std::min(options.max_span, static_cast<int>(sequence.size()));
       span >= options.min_span && expected.continuations.empty(); --span) {
    expected.span = span;
    for (const Document& document : documents) {
      for (size_t at = 0; at + static_cast<size_t>(span) <= document.size(); ++at) {
        if (!std::equal(sequence.end() - span, sequence.end(),
                        document.begin() + static_cast<std::ptrdiff_t>(at))) {
          continue;
        }
        const size_t begin = at + static_cast<size_t>(span);
        const size_t end =
            std::min(document.size(), begin + static_cast<size_t>(options.max_depth));
        expected.continuations.emplace_back(document.begin() + static_cast<std::ptrdiff_t>(begin),
                                            document.begin() + static_cast<std::ptrdiff_t>(end));
      }
    }
  }
  if (expected.continuations.empty()) expected.span = 0;
  for (const Document& continuation : expected.continuations) {
    for (size_t length = 1; length <= continuation.size(); ++length) {
      ++expected.counts[Document(continuation.begin(),
                                 continuation.begin() + static_cast<std::ptrdiff_t>(length))];
    }
  }
  for (const auto& [prefix, count] : expected.counts) expected.prefixes.push_back(&prefix);
  std::stable_sort(expected.prefixes.begin(), expected.prefixes.end(),
                   [&](const Document* a, const Document* b) {
                     const int count_a = expected.counts.at(*a);
                     const int count_b = expected.counts.at(*b);
                     return count_a != count_b ? count_a > count_b : a->size() < b->size();
                   });
  return expected;
}

Document PathOf(const DraftContinuations& found, int node) {
  Document path;
  for (int i = node; i >= 0; i = found.nodes[static_cast<size_t>(i)].parent) {
    path.push_back(found.nodes[static_cast<size_t>(i)].token);
  }
  std::reverse(path.begin(), path.end());
  return path;
}

// A sequence whose end is likely to be somewhere in the documents.
Document RandomSequence(std::mt19937_64& random, const std::vector<Document>& documents,
                        int vocab_size) {
  Document sequence;
  const Document& from = documents[random() % documents.size()];
  if (!from.empty() && random() % 8 != 0) {
    const size_t end = 1 + random() % from.size();
    const size_t length = std::min(end, size_t{1} + random() % 20);
    sequence.assign(from.begin() + static_cast<std::ptrdiff_t>(end - length),
                    from.begin() + static_cast<std::ptrdiff_t>(end));
  }
  if (random() % 2 == 0) {
    sequence.insert(sequence.begin(), static_cast<int32_t>(random() % uint64_t(vocab_size)));
  }
  if (random() % 4 == 0) sequence.push_back(static_cast<int32_t>(random() % uint64_t(vocab_size)));
  return sequence;
}

TEST(DraftLookupTest, EqualsASearchThroughEverything) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  const StoreFile file;
  int found_some = 0;
  for (int round = 0; round < 60; ++round) {
    const int vocab_size = round % 3 == 0 ? 2 : round % 3 == 1 ? 20 : 200'000;
    std::vector<Document> documents =
        RandomDocuments(random, 1 + static_cast<int>(random() % 12), 80, vocab_size);
    documents.push_back({0, 1, 0, 1, 1});
    DraftStoreWriterOptions options = {.tokenizer = kTestTokenizer, .vocab_size = vocab_size};
    // In several segments, by appending.
    const size_t border = random() % documents.size();
    const std::vector<Document> old(documents.begin(),
                                    documents.begin() + static_cast<std::ptrdiff_t>(border));
    const std::vector<Document> others(documents.begin() + static_cast<std::ptrdiff_t>(border),
                                       documents.end());
    const bool append = file.Write(old, options).ok();
    ASSERT_TRUE(file.Write(others, options, append).ok());
    if (round % 4 == 0) {
      ASSERT_TRUE(CompactDraftStore(file.path(), {}).ok());
    }
    const auto store = file.Open();
    ASSERT_NE(store, nullptr);

    DraftContinuations found;
    for (int i = 0; i < 60; ++i) {
      DraftLookupOptions lookup;
      lookup.min_span = 1 + static_cast<int>(random() % 3);
      lookup.max_span = lookup.min_span + static_cast<int>(random() % 12);
      lookup.max_depth = 1 + static_cast<int>(random() % 6);
      lookup.max_nodes = 1 + static_cast<int>(random() % 40);
      lookup.max_hits = 100'000;
      const Document sequence = RandomSequence(random, documents, vocab_size);
      const Expected expected = Search(documents, sequence, lookup);
      LookUpContinuations(*store, sequence, lookup, found);
      ASSERT_EQ(found.span, expected.span);
      ASSERT_EQ(found.hits, expected.continuations.size());
      ASSERT_EQ(found.counted, static_cast<int>(expected.continuations.size()));
      ASSERT_EQ(found.nodes.size(),
                std::min(expected.prefixes.size(), static_cast<size_t>(lookup.max_nodes)));
      for (size_t n = 0; n < found.nodes.size(); ++n) {
        ASSERT_EQ(PathOf(found, static_cast<int>(n)), *expected.prefixes[n]);
        ASSERT_EQ(found.nodes[n].count, expected.counts.at(*expected.prefixes[n]));
        ASSERT_EQ(found.nodes[n].depth, static_cast<int>(expected.prefixes[n]->size()));
      }
      found_some += found.nodes.empty() ? 0 : 1;
    }
  }
  EXPECT_GT(found_some, 500);
}

TEST(DraftLookupTest, ASampleOfManyPlacesKeepsTheirProportions) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937_64 random(seed);
  const StoreFile file;
  const DraftStoreWriterOptions options = {.tokenizer = kTestTokenizer, .vocab_size = 5};
  std::vector<Document> documents = RandomDocuments(random, 40, 300, 5);
  ASSERT_TRUE(file.Write(documents, options).ok());
  const std::vector<Document> more = RandomDocuments(random, 20, 300, 5);
  ASSERT_TRUE(file.Write(more, options, true).ok());
  documents.insert(documents.end(), more.begin(), more.end());
  const auto store = file.Open();
  ASSERT_NE(store, nullptr);
  DraftContinuations found;
  for (int32_t token = 0; token < 5; ++token) {
    const DraftLookupOptions lookup = {
        .max_span = 1, .min_span = 1, .max_hits = 50, .max_depth = 1, .max_nodes = 5};
    const Expected expected = Search(documents, {token}, lookup);
    LookUpContinuations(*store, Document{token}, lookup, found);
    ASSERT_EQ(found.hits, expected.continuations.size());
    ASSERT_GT(found.hits, 50);
    EXPECT_EQ(found.counted, 50);
    for (const DraftContinuations::Node& node : found.nodes) {
      const double share = expected.counts.at({node.token}) / static_cast<double>(found.hits);
      EXPECT_NEAR(node.count, share * 50, 2) << "of two segments, each up to one off";
    }
  }
}

TEST(DraftLookupTest, FindsNothingInVain) {
  const StoreFile file;
  ASSERT_TRUE(file.Write({{1, 2, 3}, {4}}, {.tokenizer = kTestTokenizer, .vocab_size = 9}).ok());
  const auto store = file.Open();
  ASSERT_NE(store, nullptr);
  DraftContinuations found;
  for (const Document& sequence : std::vector<Document>{
           {},
           {2},       // shorter than min_span
           {3, 4},    // not across documents
           {-1, 2},   // no token
           {3, -1},   // a separator's bits
           {8, 100},  // beyond the vocabulary
       }) {
    LookUpContinuations(*store, sequence, {}, found);
    EXPECT_EQ(found.span, 0);
    EXPECT_TRUE(found.nodes.empty());
  }
  LookUpContinuations(*store, Document{2, 3}, {}, found);
  EXPECT_EQ(found.span, 2) << "an end of a document is found, nothing follows it";
  EXPECT_EQ(found.hits, 1);
  EXPECT_TRUE(found.nodes.empty());
}

}  // namespace
}  // namespace octogate::retrieval

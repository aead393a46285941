#include "retrieval/schema/lexical_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "retrieval/schema/words.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

// BM25 of every visible column from its definition: no index, no shards.
std::map<ColumnId, double> ReferenceBm25(const Catalog& catalog, const Query& query,
                                         const std::function<bool(ColumnId)>& visible) {
  const FieldWeights weights;
  struct Document {
    std::map<std::string, double> words;
    double length = 0;
  };
  std::map<ColumnId, Document> documents;
  double total = 0;
  for (uint32_t e = 0; e < catalog.entries().size(); ++e) {
    for (uint32_t c = 0; c < catalog.entries()[e]->columns.size(); ++c) {
      if (!visible({e, c})) continue;
      const Column& column = catalog.column({e, c});
      Document& document = documents[{e, c}];
      const auto add = [&](const std::string& text, double weight) {
        for (const std::string& word : SplitWords(text)) {
          document.words[Stem(word)] += weight;
          ++document.length;
        }
      };
      add(column.name, weights.name);
      add(column.alias, weights.alias);
      add(column.description, weights.description);
      add(column.value_description, weights.value_description);
      for (const std::string& value : column.values) add(value, weights.value);
      total += document.length;
    }
  }
  const auto n = static_cast<double>(documents.size());
  std::map<ColumnId, double> scores;
  for (const QueryTerm& term : query.terms) {
    double with = 0;
    for (const auto& [id, document] : documents) with += document.words.contains(term.stem) ? 1 : 0;
    const double idf = std::log(1 + (n - with + 0.5) / (with + 0.5));
    for (const auto& [id, document] : documents) {
      const auto found = document.words.find(term.stem);
      if (found == document.words.end()) continue;
      const double tf = found->second;
      scores[id] += idf * tf * (kBm25K1 + 1) /
                    (tf + kBm25K1 * (1 - kBm25B + kBm25B * document.length / (total / n)));
    }
  }
  return scores;
}

void ExpectReferenceScores(const LinkIndex& index, const Permissions& permissions) {
  const auto visible = index.See(permissions);
  ASSERT_TRUE(visible.ok()) << visible.status();
  const Query query =
      MakeQuery("the order date of each customer in a country, and the amount by region of teams");
  const auto expected = ReferenceBm25(index.catalog(), query, [&](ColumnId id) {
    return visible->everything || visible->columns[index.catalog().number(id)] != 0;
  });
  size_t compared = 0;
  for (const ColumnMatch& match : Search(index, *visible, query).columns) {
    const auto found = expected.find(match.id);
    const double score = found == expected.end() ? 0 : found->second;
    EXPECT_NEAR(match.bm25, score, 1e-4 * (1 + score));
    compared += match.bm25 > 0 ? 1 : 0;
  }
  EXPECT_EQ(compared, expected.size());
}

TEST(LexicalSearch, ScoresAsTheDefinitionOfBm25) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  // More tables than one shard holds.
  const auto index = LinkIndex::Build(MakeCatalog(RandomSchema(random, 150)));
  EXPECT_GT(index->shards().size(), 1U);
  ExpectReferenceScores(*index, {});
}

TEST(LexicalSearch, CountsOnlyWhatIsVisible) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  const auto index = LinkIndex::Build(MakeCatalog(RandomSchema(random, 80)));
  Permissions permissions;
  permissions.tables.emplace();
  for (const Entry& entry : index->catalog().entries()) {
    if (random() % 2 == 0) permissions.tables->push_back(entry->name);
  }
  for (const Entry& entry : index->catalog().entries()) {
    if (random() % 4 == 0) permissions.columns[entry->name] = {entry->columns[0].name};
  }
  ExpectReferenceScores(*index, permissions);
}

// The match of "table.column" for the question.
ColumnMatch MatchOf(const std::string& question, const std::string& name) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const auto visible = index->See({});
  for (ColumnMatch& match : Search(*index, *visible, MakeQuery(question)).columns) {
    const Catalog& catalog = index->catalog();
    if (absl::StrCat(catalog.entries()[match.id.entry]->name, ".", catalog.column(match.id).name) ==
        name) {
      return std::move(match);
    }
  }
  return {};
}

TEST(LexicalSearch, FindsWordsThatAreSpeltAlike) {
  EXPECT_GT(MatchOf("the quantiti sold", "order_lines.quantity").character, 0);
  EXPECT_GT(MatchOf("how expensive is it", "products.unit_price").character, 0);
  EXPECT_EQ(MatchOf("how expensive is it", "products.title").character, 0);
}

TEST(LexicalSearch, FindsValuesAndWholeNames) {
  const ColumnMatch value = MatchOf("customers from new zealand", "customers.country");
  EXPECT_GT(value.value, 0);
  ASSERT_EQ(value.hits.size(), 1U);
  EXPECT_EQ(value.hits[0].value, 1U);
  EXPECT_GT(MatchOf("the full name of buyers", "customers.full_name").name, 0);
  EXPECT_EQ(MatchOf("the full, long name of buyers", "customers.full_name").name, 0);
}

TEST(MakeQuery, DropsWhatMeansNothingAndKeepsWordsOnce) {
  const Query query = MakeQuery("What is the name of the orders, order by name?", "names");
  std::vector<std::string> words;
  for (const QueryTerm& term : query.terms) words.push_back(term.word);
  EXPECT_THAT(words, ::testing::ElementsAre("name", "orders"));
  std::string many;
  for (int i = 0; i < 500; ++i) absl::StrAppend(&many, "w", std::string(1, 'a' + i % 26), i, " ");
  EXPECT_LE(MakeQuery(many).terms.size(), kMaxQueryTerms);
}

}  // namespace
}  // namespace octogate::schema

#include "retrieval/schema/column_likelihood.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "retrieval/schema/column_selection.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

constexpr char kQuestion[] = "Which products were ordered by customers of Norway since 2019?";

Ranking RankWithLikelihoods(const LinkIndex& index, const Visibility& visible,
                            const std::string& question) {
  const LexicalMatches matches = Search(index, visible, MakeQuery(question));
  Ranking ranking = RankColumns(index, visible, matches, {}, CuesOf(question), LinkWeights());
  AddLikelihoods(index, visible, matches, {}, CuesOf(question), &ranking);
  return ranking;
}

TEST(ColumnLikelihood, RanksEveryVisibleColumnOfASmallCatalogOnce) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 10; ++round) {
    const auto index = LinkIndex::Build(MakeCatalog(RandomSchema(random, 1 + round * 3)));
    const Visibility visible = *index->See({});
    const Ranking ranking = RankWithLikelihoods(*index, visible, kQuestion);
    if (ranking.columns.empty()) continue;  // nothing matched
    EXPECT_EQ(ranking.columns.size(), visible.num_columns);
    std::set<ColumnId> seen;
    for (size_t i = 0; i < ranking.columns.size(); ++i) {
      EXPECT_TRUE(seen.insert(ranking.columns[i].id).second);
      EXPECT_GT(ranking.columns[i].likelihood, 0);
      EXPECT_LT(ranking.columns[i].likelihood, 1);
      const float before = ranking.columns[i > 0 ? i - 1 : 0].likelihood;
      EXPECT_GE(before, ranking.columns[i].likelihood);
    }
  }
}

// What a tenant may not see is as if it were not there: the likelihoods are those of a catalog
// without the hidden table.
TEST(ColumnLikelihood, DependsOnVisibleTablesAlone) {
  // Which keys are inferred depends on what is declared, visible or not.
  const CatalogOptions options{.infer_keys = false};
  const auto whole = LinkIndex::Build(MakeCatalog(Shop(), options));
  for (const Table& hidden : Shop().tables) {
    SCOPED_TRACE(hidden.name);
    Permissions permissions;
    permissions.tables.emplace();
    Schema smaller = Shop();
    std::erase_if(smaller.tables, [&](const Table& table) { return table.name == hidden.name; });
    for (const Table& table : smaller.tables) permissions.tables->push_back(table.name);
    const auto without = LinkIndex::Build(MakeCatalog(std::move(smaller), options));
    const auto names = [](const LinkIndex& index, const Ranking& ranking) {
      std::vector<std::string> lines;
      for (const RankedColumn& column : ranking.columns) {
        lines.push_back(absl::StrCat(index.catalog().entries()[column.id.entry]->name, ".",
                                     index.catalog().column(column.id).name, " ",
                                     column.likelihood));
      }
      return lines;
    };
    EXPECT_EQ(names(*whole, RankWithLikelihoods(*whole, *whole->See(permissions), kQuestion)),
              names(*without, RankWithLikelihoods(*without, *without->See({}), kQuestion)));
  }
}

TEST(ColumnLikelihood, LeavesLargeCatalogsAndEvidenceToScores) {
  std::mt19937_64 random(3);
  const auto large = LinkIndex::Build(MakeCatalog(RandomSchema(random, 120)));
  ASSERT_GT(large->See({})->num_entries, kLargestFitted);
  const Ranking ranking = RankWithLikelihoods(*large, *large->See({}), kQuestion);
  ASSERT_FALSE(ranking.columns.empty());
  for (const RankedColumn& column : ranking.columns) EXPECT_EQ(column.likelihood, 0);

  const auto shop = LinkIndex::Build(MakeCatalog(Shop()));
  LinkRequest request{.question = kQuestion, .mode = LinkMode::kFocused};
  const auto likelihoods = [&] {
    std::vector<float> all;
    const LinkResult result = *Link(*shop, *shop->See({}), request);
    for (const LinkedTable& table : result.tables) {
      for (const LinkedColumn& column : table.columns) all.push_back(column.likelihood);
    }
    return all;
  };
  EXPECT_THAT(likelihoods(), ::testing::Each(::testing::Gt(0)));
  request.evidence = "Norway is a country";
  EXPECT_THAT(likelihoods(), ::testing::Each(0));
}

// The adaptive cut: the higher it is, the fewer columns are kept, and a column so likely is kept.
TEST(ColumnLikelihood, CutsWhereColumnsAreUnlikely) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const Visibility visible = *index->See({});
  const Ranking ranking = RankWithLikelihoods(*index, visible, kQuestion);
  size_t before = SIZE_MAX;
  for (const float least : {0.03F, 0.1F, 0.3F, 0.9F}) {
    const ColumnSelection selection =
        SelectColumns(*index, ranking, 100, least, [](ColumnId) { return true; });
    EXPECT_LE(selection.columns.size(), before);
    before = selection.columns.size();
    for (const RankedColumn& column : ranking.columns) {
      if (column.likelihood < least) continue;
      EXPECT_TRUE(std::any_of(selection.columns.begin(), selection.columns.end(),
                              [&](const auto& kept) { return kept.id == column.id; }));
    }
  }
}

// A name in the question speaks for columns of names, and "when" for times.
TEST(QuestionCues, SeeNamesByTheirCapitals) {
  EXPECT_TRUE(CuesOf("Where does Ada live?").entity);
  EXPECT_FALSE(CuesOf("Where does Ada live?").full_name);
  EXPECT_TRUE(CuesOf("Where does Ada Lovelace live?").full_name);
  EXPECT_TRUE(CuesOf("Who wrote 'the sea'?").entity);
  EXPECT_FALSE(CuesOf("Where do they live? Name them.").entity);
}

}  // namespace
}  // namespace octogate::schema

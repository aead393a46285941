#include "retrieval/schema/link_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/retrieval/schema/test_schemas.h"

namespace octogate::schema {
namespace {

using ::testing::HasSubstr;

TEST(LinkIndex, TakesOverTheShardsThatDidNotChange) {
  const uint64_t seed = NewSeed();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Schema schema = RandomSchema(random, 400);
  const auto catalog = MakeCatalog(schema);
  const auto index = LinkIndex::Build(catalog);
  ASSERT_GT(index->shards().size(), 4U);
  schema.tables[7].columns[0].description = "changed";
  const auto updated = catalog->Update({schema.tables[7]});
  ASSERT_TRUE(updated.ok());
  const auto next = LinkIndex::Build(*updated, index.get());
  size_t changed = 0;
  ASSERT_EQ(next->shards().size(), index->shards().size());
  for (size_t s = 0; s < next->shards().size(); ++s) {
    changed += next->shards()[s] == index->shards()[s] ? 0 : 1;
  }
  EXPECT_LE(changed, 1U);
}

TEST(LinkIndex, SeesWhatPermissionsAllow) {
  const auto index = LinkIndex::Build(MakeCatalog(Shop()));
  const auto all = index->See({});
  ASSERT_TRUE(all.ok());
  EXPECT_TRUE(all->everything);
  EXPECT_EQ(all->num_columns, 18U);
  Permissions permissions{.tables = {{"ORDERS", "customers"}},
                          .columns = {{"customers", {"ID", "country"}}}};
  const auto some = index->See(permissions);
  ASSERT_TRUE(some.ok()) << some.status();
  EXPECT_EQ(some->num_columns, 6U);
  EXPECT_EQ(some->num_entries, 2U);
  EXPECT_THAT(index->See({.tables = {{"custommers"}}}).status().message(),
              HasSubstr("'custommers', which is not there"));
  EXPECT_THAT(index->See({.columns = {{"customers", {"nam"}}}}).status().message(),
              HasSubstr("the column 'nam'"));
}

}  // namespace
}  // namespace octogate::schema

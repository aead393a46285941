// Links of questions with a catalog, as messages.
#include "gateway/catalog/linking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gateway/catalog/link_messages.h"
#include "retrieval/schema/linker.h"
#include "tests/gateway/catalog/catalog_fixture.h"

namespace octogate::gateway {
namespace {

using LinkingTest = CatalogTest;

// What the library finds, in the contract's words, whatever is asked for.
TEST_F(LinkingTest, MessagesSayWhatTheLibraryFound) {
  const auto catalog = ReadOrFail("sqlite: 'shop.sqlite'");
  const auto snapshot = catalog->snapshot();
  const auto everything = snapshot->index->See({});
  ASSERT_TRUE(everything.ok());
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const std::vector<std::string> words = {"orders", "of",  "Norway",   "price",  "lamp", "salary",
                                          "when",   "who", "customer", "visits", "zzz",  "2024"};
  for (int run = 0; run < 100; ++run) {
    v1::LinkSchemaRequest request;
    for (unsigned i = 0; i < 1 + random() % 5; ++i) {
      *request.mutable_question() += words[random() % words.size()] + " ";
    }
    v1::LinkSettings& settings = *request.mutable_settings();
    settings.set_mode(static_cast<v1::LinkMode>(random() % 3));
    settings.set_recall(static_cast<v1::LinkRecall>(random() % 3));
    settings.set_style(static_cast<v1::LinkStyle>(random() % 3));
    if (random() % 2 == 0) settings.set_token_budget(64 + static_cast<int>(random() % 200));
    settings.set_max_columns(static_cast<int>(random() % 10));
    request.set_max_dropped(static_cast<int>(random() % 5));
    const auto message = LinkCatalog(*catalog, request, For("anybody"));
    ASSERT_TRUE(message.ok()) << message.status();

    schema::LinkRequest wanted;
    wanted.question = request.question();
    if (settings.mode() == v1::LINK_MODE_FOCUSED) wanted.mode = schema::LinkMode::kFocused;
    if (settings.recall() == v1::LINK_RECALL_MINIMAL) wanted.recall = schema::Recall::kMinimal;
    if (settings.style() == v1::LINK_STYLE_LIST) wanted.style = schema::RenderStyle::kList;
    if (settings.token_budget() > 0) {
      wanted.token_budget = static_cast<size_t>(settings.token_budget());
    }
    wanted.max_columns = static_cast<size_t>(settings.max_columns());
    wanted.max_dropped = static_cast<size_t>(request.max_dropped());
    const auto result = schema::Link(*snapshot->index, *everything, wanted);
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(message->rendered(), result->rendered);
    EXPECT_EQ(message->catalog_version(), result->catalog_version);
    EXPECT_EQ(message->num_dropped(), static_cast<int64_t>(result->num_dropped));
    EXPECT_EQ(message->joins_size(), static_cast<int>(result->joins.size()));
    ASSERT_EQ(message->tables_size(), static_cast<int>(result->tables.size()));
    for (int t = 0; t < message->tables_size(); ++t) {
      const schema::LinkedTable& table = result->tables[static_cast<size_t>(t)];
      EXPECT_EQ(message->tables(t).name(), table.name);
      ASSERT_EQ(message->tables(t).columns_size(), static_cast<int>(table.columns.size()));
      for (int c = 0; c < message->tables(t).columns_size(); ++c) {
        const v1::LinkedColumn& column = message->tables(t).columns(c);
        const schema::LinkedColumn& found = table.columns[static_cast<size_t>(c)];
        EXPECT_EQ(column.name(), found.name);
        EXPECT_EQ(column.score(), found.score);
        const v1::LinkScoreParts& parts = column.parts();
        EXPECT_NEAR(parts.words() + parts.characters() + parts.dense() + parts.value() +
                        parts.name() + parts.table() + parts.cue(),
                    column.score(), 1e-4);
        EXPECT_NE(column.reason(), v1::LINK_REASON_UNSPECIFIED);
      }
    }
    const AllowedIdentifiers allowed = AllowedIn(*message);
    std::vector<std::string> together = allowed.tables;
    together.insert(together.end(), allowed.columns.begin(), allowed.columns.end());
    std::sort(together.begin(), together.end());
    together.erase(std::unique(together.begin(), together.end()), together.end());
    EXPECT_EQ(together, result->allowed_identifiers);
  }
}

}  // namespace
}  // namespace octogate::gateway

// Catalogs in manifests: what is right is read whole and written back equal, and what is wrong is
// said with its place.

#include "router/catalog_validation.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "absl/strings/str_replace.h"
#include "router/graph_manifest.h"

namespace octogate::router {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kGood[] = R"(apiVersion: octogate/v1
kind: Graph
metadata: {name: sql}
spec:
  entry: link
  models:
    - {name: coder, path: coder}
    - {name: encoder, path: minilm}
  catalogs:
    - name: shop
      sqlite: shop.sqlite
      descriptions: shop/database_description
      encoder: encoder
      sensitive: [customer.email]
      access:
        - {tenant: "*", tables: [product]}
        - tenant: sales
          columns: [{table: customer, columns: [id, name]}]
    - {name: bench, spider: tables.json, database: car_1, postgresql: BENCH_DSN, maxValues: 0}
  nodes:
    - name: link
      retriever: {catalog: shop, settings: {recall: minimal}}
    - name: write
      model: {model: coder, grammar: {sql: {retriever: link}}}
    - name: run
      sql: {catalog: shop, format: json}
    - name: check
      sql: {catalog: bench, checkOnly: true}
    - name: extract
      model: {model: coder, grammar: {json: {}}}
    - name: all
      model: {model: coder, grammar: {sql: {catalog: bench, dialect: postgresql}}}
  edges:
    - {from: link, to: write, on: success, input: "{output} {query}"}
    - {from: write, to: run, on: success}
    - {from: run, to: all, on: error, input: "{link.output} {error}"}
    - {from: all, to: check, on: success}
    - {from: check, to: extract, on: success}
)";

std::string ErrorsWith(std::string_view from, std::string_view to) {
  const std::string text = kGood;
  EXPECT_NE(text.find(from), std::string::npos) << from;
  const auto manifest =
      ParseGraphManifest(absl::StrReplaceAll(text, {{std::string(from), std::string(to)}}), "g");
  EXPECT_FALSE(manifest.ok()) << to;
  return std::string(manifest.status().message());
}

TEST(CatalogValidationTest, ReadsWhatTheContractHasAndWritesItBack) {
  const auto manifest = ParseGraphManifest(kGood, "g");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_THAT(manifest->warnings, IsEmpty());
  const v1::GraphSpec& spec = manifest->graph.spec();
  EXPECT_EQ(spec.catalogs(0).max_values(), 1000);
  EXPECT_EQ(spec.catalogs(1).max_values(), 0);
  EXPECT_EQ(spec.catalogs(0).access(1).columns(0).columns_size(), 2);
  EXPECT_EQ(spec.nodes(0).retriever().settings().recall(), v1::LINK_RECALL_MINIMAL);
  EXPECT_EQ(spec.nodes(0).retriever().settings().mode(), v1::LINK_MODE_AUTO);
  EXPECT_EQ(spec.nodes(0).retriever().settings().token_budget(), 4096);
  EXPECT_EQ(spec.nodes(2).sql().max_rows(), 100);
  EXPECT_EQ(spec.nodes(2).sql().format(), v1::ROW_FORMAT_JSON);
  EXPECT_TRUE(spec.nodes(4).model().grammar().has_json());
  EXPECT_TRUE(HasDatabase(*FindCatalog(manifest->graph, "bench")));
  EXPECT_EQ(FindCatalog(manifest->graph, "other"), nullptr);

  const auto again = ParseGraphManifest(GraphToYaml(manifest->graph), "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(manifest->graph, again->graph));
}

TEST(CatalogValidationTest, SaysWhatIsWrongAndWhere) {
  const struct {
    std::string_view from, to, error;
  } cases[] = {
      {"catalog: shop, settings", "catalog: shop, tableNode: writ, settings",
       "there is no node 'writ'; did you mean 'write'?"},
      {"catalog: shop, settings", "catalog: shop, tableNode: run, settings",
       "the node 'run' must be a model or replay node"},
      {"catalog: shop, settings", "catalog: shop, tableNode: link, settings",
       "the node 'link' must be a model or replay node"},
      {"catalog: shop, settings", "catalog: shop, tableNode: write, settings",
       "the node 'write' writes SQL by its grammar"},
      {"catalog: shop, settings", "catalog: shpo, settings",
       "there is no catalog 'shpo'; did you mean 'shop'?"},
      {"name: bench, spider", "name: shop, spider", "a second catalog 'shop'"},
      {"      sqlite: shop.sqlite\n", "", "a catalog needs exactly one of 'sqlite', 'ddl'"},
      {"sqlite: shop.sqlite", "sqlite: s\n      ddl: t", "'ddl' beside 'sqlite'"},
      {"sqlite: shop.sqlite", "sqlite: s\n      postgresql: DSN", "a database itself; remove one"},
      {"sqlite: shop.sqlite", "sqlite: s\n      database: d", "goes with 'spider' only"},
      {"sqlite: shop.sqlite", "ddl: shop.sql", "has no data to read: give it 'sqlite' or"},
      {"postgresql: BENCH_DSN, ", "", "the catalog 'bench' has no data to read"},
      {"[customer.email]", "[email]", "is 'email'; write 'table.column'"},
      {"[customer.email]", "[customer.]", "write 'table.column'"},
      {"tenant: sales", "tenant: \"*\"", "a second entry for the tenant '*'"},
      {"columns: [id, name]", "columns: []", "'columns' must not be empty"},
      {"encoder: encoder", "encoder: encode", "there is no model 'encode'; did you mean"},
      {"retriever: link}", "retriever: lnk}", "no retriever node 'lnk'; did you mean 'link'?"},
      {"retriever: link}", "retriever: write}", "there is no retriever node 'write'"},
      {"retriever: link}", "dialect: sqlite}",
       "exactly one of 'retriever' and 'catalog', not none"},
      {"retriever: link}", "retriever: link, catalog: shop}", "'catalog', not both"},
      {"{catalog: bench, dialect", "{catalog: bank, dialect", "there is no catalog 'bank'"},
      {"{json: {}}", "{}", "a grammar needs exactly one of 'json', 'jsonSchema', 'ebnf' or 'sql'"},
      {"recall: minimal", "tokenBudget: 63", "it must be 64 to 1000000"},
      {"format: json", "maxRows: 0", "it must be 1 to 100000"},
      {"{link.output}", "{lnk.output}", "there is no node 'lnk'; did you mean 'link'?"},
  };
  for (const auto& c : cases) EXPECT_THAT(ErrorsWith(c.from, c.to), HasSubstr(c.error)) << c.to;
}

TEST(CatalogValidationTest, ARetrieversTableNodeIsReachedThroughIt) {
  const auto manifest = ParseGraphManifest(
      absl::StrReplaceAll(kGood,
                          {{"catalog: shop, settings", "catalog: shop, tableNode: t, settings"},
                           {"  edges:", "    - {name: t, model: {model: coder}}\n  edges:"}}),
      "g");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_THAT(manifest->warnings, IsEmpty());
  EXPECT_EQ(manifest->graph.spec().nodes(0).retriever().table_node(), "t");
  const auto alone = ParseGraphManifest(
      absl::StrReplaceAll(kGood,
                          {{"  edges:", "    - {name: t, model: {model: coder}}\n  edges:"}}),
      "g");
  EXPECT_THAT(std::string(alone.status().message()), HasSubstr("t"));
  EXPECT_FALSE(alone.ok());
}

TEST(CatalogValidationTest, ACatalogOfAServerNeedsNoFile) {
  const auto manifest = ParseGraphManifest(
      absl::StrReplaceAll(kGood, {{"spider: tables.json, database: car_1, ", ""}}), "g");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->graph.spec().catalogs(1).source_case(), v1::Catalog::SOURCE_NOT_SET);
  const auto again = ParseGraphManifest(GraphToYaml(manifest->graph), "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(manifest->graph, again->graph));
  EXPECT_THAT(
      ErrorsWith("spider: tables.json, database: car_1, postgresql: BENCH_DSN", "postgresql: \"\""),
      HasSubstr("the catalog 'bench' has no source"));
}

TEST(CatalogValidationTest, AnUnusedCatalogIsAWarning) {
  const auto manifest = ParseGraphManifest(
      absl::StrReplaceAll(kGood, {{"  nodes:", "    - {name: spare, ddl: a.sql}\n  nodes:"}}), "g");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  ASSERT_EQ(manifest->warnings.size(), 1u);
  EXPECT_THAT(manifest->warnings[0], HasSubstr("no node uses the catalog 'spare'"));
}

}  // namespace
}  // namespace octogate::router

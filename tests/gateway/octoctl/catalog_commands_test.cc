// octoctl's commands for catalogs against a gateway that runs, by what people and scripts see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gateway/octoctl/catalog_view.h"
#include "gateway/octoctl/commands.h"
#include "retrieval/schema/json_reader.h"
#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::octoctl {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: shop}
spec:
  entry: schema
  catalogs:
    - name: shop
      sqlite: shop.sqlite
      access: [{tenant: sales, tables: [orders, customers]}, {tenant: boss}]
  nodes:
    - {name: schema, retriever: {catalog: shop}}
)";

class CatalogCommandsTest : public testing::Test {
 protected:
  CatalogCommandsTest() {
    folder_.MakeShop("shop.sqlite");
    gateway::ServerOptions options;
    options.graph.model_root = folder_.path();
    gateway_ = std::make_unique<gateway::TestGateway>(options);
    const grpc::Status status = gateway_->Apply(kGraph);
    EXPECT_TRUE(status.ok()) << status.error_message();
    connection_ = std::make_unique<Connection>(
        absl::StrCat("127.0.0.1:", gateway_->server().port()), /*timeout_seconds=*/60);
    options_.name = "shop";
  }

  using Command = ExitStatus (*)(Connection&, const CatalogOptions&, Format);
  std::string Run(Command command, Format format = Format::kTable, ExitStatus expected = kOk) {
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    EXPECT_EQ(command(*connection_, options_, format), expected);
    errors_ = testing::internal::GetCapturedStderr();
    return testing::internal::GetCapturedStdout();
  }

  const gateway::TestFolder folder_;
  std::unique_ptr<gateway::TestGateway> gateway_;
  std::unique_ptr<Connection> connection_;
  CatalogOptions options_;
  std::string errors_;
};

TEST_F(CatalogCommandsTest, GetListsCatalogsTablesAndColumns) {
  options_.name = "";
  EXPECT_THAT(Run(&GetCatalogs), AllOf(HasSubstr("sqlite shop.sqlite"), HasSubstr("schema")));
  EXPECT_EQ(Run(&GetCatalogs, Format::kName), "shop\n");
  EXPECT_THAT(Run(&GetCatalogs, Format::kYaml), HasSubstr("declaredKeys"));
  options_.name = "shop";
  EXPECT_THAT(Run(&GetCatalogs), AllOf(HasSubstr("customers"), HasSubstr("visits_2024")));
  EXPECT_THAT(Run(&GetCatalogs, Format::kWide), HasSubstr("2 tables"));
  options_.table = "CUSTOMERS";
  EXPECT_THAT(Run(&GetCatalogs), AllOf(HasSubstr("full_name"), HasSubstr("Norway, Peru"),
                                       HasSubstr("(sensitive)"), Not(HasSubstr("@"))));
  options_.table = "nothing";
  Run(&GetCatalogs, Format::kTable, kNotFound);
  EXPECT_THAT(errors_, HasSubstr("'nothing'"));
  options_.table = "";
  options_.tenant = "sales";
  EXPECT_THAT(Run(&GetCatalogs), AllOf(HasSubstr("orders"), Not(HasSubstr("salaries"))));
  options_.tenant = "other";
  Run(&GetCatalogs, Format::kTable, kRefused);
}

TEST_F(CatalogCommandsTest, TheJsonOfACatalogIsACatalog) {
  const std::string json = Run(&GetCatalogs, Format::kJson);
  const auto schema = schema::ParseJsonSchema(json, "test");
  ASSERT_TRUE(schema.ok()) << schema.status();
  ASSERT_THAT(schema->tables, SizeIs(6));
  std::ofstream(folder_.path() / "shop.json") << json;
  options_.name = "copy";
  options_.json = "shop.json";
  EXPECT_THAT(Run(&AddCatalog), HasSubstr("6 tables"));
  v1::GetCatalogResponse shop;
  v1::GetCatalogResponse copy;
  for (auto* response : {&shop, &copy}) {
    grpc::ClientContext context;
    v1::GetCatalogRequest request;
    request.set_name(response == &shop ? "shop" : "copy");
    ASSERT_TRUE(gateway_->admin()->GetCatalog(&context, request, response).ok());
  }
  ASSERT_EQ(copy.tables_size(), shop.tables_size());
  for (int t = 0; t < shop.tables_size(); ++t) {
    // This data has no more values than are shown.
    EXPECT_EQ(copy.tables(t).DebugString(), shop.tables(t).DebugString());
  }
  EXPECT_EQ(copy.info().declared_keys(), shop.info().declared_keys());
  // And as YAML, which is what JSON is, too.
  options_.name = "copy";
  EXPECT_THAT(Run(&GetCatalogs, Format::kYaml), HasSubstr("- name: customers"));
}

TEST_F(CatalogCommandsTest, AddKeepsWhoMaySeeWhat) {
  options_.sqlite = "shop.sqlite";
  options_.sensitive = {"salaries.employee"};
  options_.dry_run = true;
  EXPECT_THAT(Run(&AddCatalog), HasSubstr("would become version 2"));
  options_.dry_run = false;
  EXPECT_THAT(Run(&AddCatalog),
              AllOf(HasSubstr("access of 2 tenants is kept"), HasSubstr("applied as version 2")));
  options_.tenant = "other";
  Run(&GetCatalogs, Format::kTable, kRefused);
  options_.tenant = "boss";
  options_.table = "salaries";
  EXPECT_THAT(Run(&GetCatalogs), AllOf(HasSubstr("(sensitive)"), Not(HasSubstr("Max Mole"))));
  options_.expected_version = 1;
  Run(&AddCatalog, Format::kTable, kConflict);
  options_.expected_version = 0;
  options_.sqlite = "none.sqlite";
  Run(&AddCatalog, Format::kTable, kNotFound);
  EXPECT_THAT(errors_, HasSubstr("'none.sqlite'"));
  options_.sqlite = "../shop.sqlite";
  Run(&AddCatalog, Format::kTable, kInvalid);
  options_.sqlite = "";
  Run(&AddCatalog, Format::kTable, kUsage);
}

TEST_F(CatalogCommandsTest, RefreshSaysWhatChanged) {
  EXPECT_THAT(Run(&RefreshCatalog), HasSubstr("unchanged"));
  folder_.Execute("shop.sqlite", "CREATE TABLE news (headline TEXT); DROP TABLE visits_2023");
  EXPECT_THAT(Run(&DescribeCatalog), HasSubstr("octoctl catalog refresh shop"));
  EXPECT_THAT(Run(&RefreshCatalog),
              AllOf(HasSubstr("+ news\n"), HasSubstr("- visits_2023\n"), HasSubstr("now version")));
  EXPECT_THAT(Run(&DescribeCatalog), AllOf(HasSubstr("Name:"), HasSubstr("2 declared"),
                                           Not(HasSubstr("octoctl catalog refresh"))));
  options_.table = "orders";
  EXPECT_THAT(Run(&DescribeCatalog), HasSubstr("orders.customer_id → customers.id"));
}

TEST_F(CatalogCommandsTest, LinkShowsWhatAQuestionNeeds) {
  options_.question = "which products did people from Norway order?";
  options_.tenant = "boss";
  options_.focused = true;
  EXPECT_THAT(Run(&LinkQuestion),
              AllOf(HasSubstr("customers"), HasSubstr("'Norway'"), HasSubstr("saved"),
                    HasSubstr("█"), HasSubstr("orders.customer_id → customers.id")));
  EXPECT_THAT(Run(&LinkQuestion, Format::kJson), HasSubstr("\"allowedIdentifiers\""));
  options_.text = true;
  EXPECT_THAT(Run(&LinkQuestion), HasSubstr("CREATE TABLE"));
  options_.style = "list";
  EXPECT_THAT(Run(&LinkQuestion), Not(HasSubstr("CREATE TABLE")));
  options_.tenant = "";
  Run(&LinkQuestion, Format::kTable, kRefused);
  EXPECT_THAT(errors_, HasSubstr("'default'"));
}

TEST(CatalogViewTest, NothingSteersATerminal) {
  const std::string hostile = "a\x1b[31m\nb";
  v1::LinkSchemaResponse link;
  v1::LinkedTable& table = *link.add_tables();
  table.set_name(hostile);
  v1::LinkedColumn& column = *table.add_columns();
  column.set_name(hostile);
  column.set_score(std::numeric_limits<float>::quiet_NaN());
  column.add_matched_terms(hostile);
  column.add_matched_values()->set_literal(hostile);
  link.add_dropped()->set_name(hostile);
  link.add_joins()->set_left(hostile);
  link.add_disconnected(hostile);
  link.set_catalog_version(hostile);
  std::ostringstream out;
  PrintLink(link, Style(), out);
  v1::GetCatalogResponse catalog;
  v1::CatalogTable& listed = *catalog.add_tables();
  listed.set_name(hostile);
  listed.set_description(hostile);
  listed.add_columns()->set_name(hostile);
  PrintTables(catalog.tables(), true, out);
  PrintColumns(listed, true, out);
  DescribeTable(listed, out);
  catalog.mutable_info()->set_name(hostile);
  catalog.mutable_info()->add_warnings(hostile);
  DescribeCatalog(catalog.info(), out);
  EXPECT_THAT(out.str(), Not(HasSubstr("\x1b")));
  EXPECT_THAT(CatalogJson(hostile, catalog.tables()), Not(HasSubstr("\x1b")));
}

TEST(CatalogViewTest, ACatalogOfAServerIsSaidToBeOne) {
  v1::CatalogInfo info;
  info.set_name("firms");
  info.set_source("postgresql FIRMS_DSN");
  std::ostringstream out;
  DescribeCatalog(info, out);
  EXPECT_THAT(out.str(), AllOf(HasSubstr("postgresql FIRMS_DSN"),
                               HasSubstr("whether its server has changed since")));
}

TEST(CatalogViewTest, OfALargeFamilyNotAllAreListed) {
  v1::LinkSchemaResponse link;
  v1::LinkedTable& table = *link.add_tables();
  for (int i = 0; i < 999; ++i) table.add_family_members("t");
  std::ostringstream some;
  PrintLink(link, Style(), some);
  EXPECT_THAT(some.str(), HasSubstr("stands for 999 tables"));
  table.add_family_members("t");
  std::ostringstream many;
  PrintLink(link, Style(), many);
  EXPECT_THAT(many.str(), HasSubstr("stands for at least 1000 tables"));
}

TEST(CatalogViewTest, KeysOfNamesWithDotsAreToldApart) {
  v1::GetCatalogResponse catalog;
  v1::CatalogTable& orders = *catalog.add_tables();
  orders.set_name("sales.orders");
  orders.add_columns()->set_name("customer.id");
  v1::CatalogTable& customers = *catalog.add_tables();
  customers.set_name("sales");
  customers.add_columns()->set_name("id");
  v1::LinkedJoin& key = *orders.add_keys();
  key.set_left("sales.orders.customer.id");
  key.set_right("sales.id");
  *customers.add_keys() = key;
  const auto schema = schema::ParseJsonSchema(CatalogJson("s", catalog.tables()), "test");
  ASSERT_TRUE(schema.ok()) << schema.status();
  ASSERT_THAT(schema->tables[0].foreign_keys, SizeIs(1));
  EXPECT_EQ(schema->tables[0].foreign_keys[0],
            (schema::ForeignKey{{"customer.id"}, "sales", {"id"}}));
  EXPECT_THAT(schema->tables[1].foreign_keys, IsEmpty());
}

}  // namespace
}  // namespace octogate::octoctl

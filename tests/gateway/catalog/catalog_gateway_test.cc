// Catalogs as clients and operators of a gateway meet them: links, retriever nodes, tenants,
// refreshes while queries run, and versions of the graph.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A retriever alone, one that a model follows, and a router over both. WORKER is replaced.
constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: shop}
spec:
  entry: schema
  models:
    - {name: stub, workers: ["WORKER"]}
  catalogs:
    - {name: shop, sqlite: shop.sqlite}
  nodes:
    - name: main
      router:
        members: [ask-shop, sum]
        fallback: sum
        heads: [{threshold: 0, lexical: {}}]
    - name: schema
      retriever: {catalog: shop, settings: {mode: focused, style: list}}
    - name: ask-shop
      description: the tables that a question about the shop needs
      examples: [which customers are from Norway, what did Ann order, how much is a lamp]
      retriever: {catalog: shop}
    - name: sum
      description: adds numbers
      examples: ["1 + 1", "12 * 3", "add 4 and 5"]
      tool: {tool: calculator}
    - name: write
      model: {model: stub, system: sys}
  edges:
    - {from: main, to: write, on: success, input: "stub echo=1 {ask-shop.output}|{query}"}
    - {from: schema, to: main, on: error, input: "1 + 1"}
)";

class CatalogGatewayTest : public testing::Test {
 protected:
  CatalogGatewayTest() : gateway_(Options(folder_)) {
    folder_.MakeShop("shop.sqlite");
    const grpc::Status status = gateway_.Apply(Manifest());
    EXPECT_TRUE(status.ok()) << status.error_message();
    if (!status.ok()) std::abort();
  }

  static ServerOptions Options(const TestFolder& folder) {
    ServerOptions options;
    options.graph.model_root = folder.path();
    return options;
  }
  std::string Manifest() const {
    // Reached from the entry only where it fails, which validation is content with.
    return absl::StrReplaceAll(kGraph, {{"WORKER", worker_.address()}});
  }

  static v1::LinkSchemaRequest About(const std::string& question, const std::string& tenant = "") {
    v1::LinkSchemaRequest request;
    request.set_catalog("shop");
    request.set_question(question);
    request.mutable_settings()->set_mode(v1::LINK_MODE_FOCUSED);
    request.set_tenant(tenant);
    return request;
  }
  grpc::Status Link(const v1::LinkSchemaRequest& request, v1::LinkSchemaResponse* response) {
    grpc::ClientContext context;
    return gateway_.gateway()->LinkSchema(&context, request, response);
  }
  v1::LinkSchemaResponse Link(const v1::LinkSchemaRequest& request) {
    v1::LinkSchemaResponse response;
    const grpc::Status status = Link(request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  grpc::Status Refresh(const std::string& name, v1::RefreshCatalogResponse* response) {
    grpc::ClientContext context;
    v1::RefreshCatalogRequest request;
    request.set_name(name);
    return gateway_.admin()->RefreshCatalog(&context, request, response);
  }
  grpc::Status Put(const v1::PutCatalogRequest& request, v1::PutCatalogResponse* response) {
    grpc::ClientContext context;
    return gateway_.admin()->PutCatalog(&context, request, response);
  }
  v1::ListCatalogsResponse Catalogs() {
    grpc::ClientContext context;
    v1::ListCatalogsResponse response;
    const grpc::Status status = gateway_.admin()->ListCatalogs(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  grpc::Status Get(const v1::GetCatalogRequest& request, v1::GetCatalogResponse* response) {
    grpc::ClientContext context;
    return gateway_.admin()->GetCatalog(&context, request, response);
  }

  const TestFolder folder_;
  StubWorker worker_;
  TestGateway gateway_;
};

std::vector<std::string> TablesIn(const v1::LinkSchemaResponse& link) {
  std::vector<std::string> names;
  for (const v1::LinkedTable& table : link.tables()) names.push_back(table.name());
  return names;
}

const v1::Linked* FindLinked(const Answer& answer) {
  for (const v1::GenerateResponse& event : answer.events) {
    if (event.has_linked()) return &event.linked();
  }
  return nullptr;
}

TEST_F(CatalogGatewayTest, AQuestionIsLinked) {
  const v1::LinkSchemaResponse link = Link(About("which products did people from Norway order?"));
  EXPECT_EQ(link.scope(), v1::LINK_SCOPE_FOCUSED);
  EXPECT_THAT(TablesIn(link), AllOf(Contains("customers"), Contains("orders")));
  EXPECT_THAT(TablesIn(link), Not(Contains("salaries")));
  EXPECT_THAT(link.rendered(), HasSubstr("CREATE TABLE"));
  EXPECT_THAT(link.allowed_identifiers(), Contains("country"));
  EXPECT_GT(link.full_tokens(), link.rendered_tokens());
  EXPECT_FALSE(link.source_changed());
  EXPECT_FALSE(link.catalog_version().empty());
  bool matched = false;
  for (const v1::LinkedTable& table : link.tables()) {
    for (const v1::LinkedColumn& column : table.columns()) {
      for (const v1::LinkedValue& value : column.matched_values()) {
        matched = matched || (column.name() == "country" && value.stored() == "Norway");
      }
    }
  }
  EXPECT_TRUE(matched);
}

TEST_F(CatalogGatewayTest, RequestsAreChecked) {
  v1::LinkSchemaResponse response;
  const auto code = [&](const v1::LinkSchemaRequest& request) {
    return Link(request, &response).error_code();
  };
  v1::LinkSchemaRequest request = About("who?");
  request.set_catalog("other");
  EXPECT_EQ(code(request), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(code(About("")), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(About(std::string(65'537, 'x'))), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(code(About(std::string(65'536, 'x'))), grpc::StatusCode::OK);
  request = About("who?");
  request.mutable_settings()->set_token_budget(63);
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);
  request = About("who?");
  request.mutable_settings()->set_mode(static_cast<v1::LinkMode>(99));
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);
  request = About("who?");
  request.set_max_dropped(1001);
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);
  request = About("who?");
  request.mutable_settings()->set_max_columns(-1);
  EXPECT_EQ(code(request), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(CatalogGatewayTest, WithoutAGraphThereIsNoCatalog) {
  TestGateway empty;
  grpc::ClientContext link_context;
  v1::LinkSchemaResponse link;
  EXPECT_EQ(empty.gateway()->LinkSchema(&link_context, About("who?"), &link).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  grpc::ClientContext list_context;
  v1::ListCatalogsResponse list;
  EXPECT_EQ(empty.admin()->ListCatalogs(&list_context, {}, &list).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(CatalogGatewayTest, ARetrieverAnswersWithTheLinkOfItsInput) {
  const std::string question = "which products did people from Norway order?";
  const Answer answer = gateway_.Generate(Ask(question));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.kinds(),
              ElementsAre("started", "node_entered", "linked", "tokens", "node_left", "finished"));
  EXPECT_EQ(answer.events[1].node_entered().kind(), "retriever");
  const v1::Linked* const linked = FindLinked(answer);
  ASSERT_NE(linked, nullptr);
  EXPECT_EQ(linked->node(), "schema");
  EXPECT_EQ(linked->link().rendered(), "");
  v1::LinkSchemaRequest same = About(question);
  same.mutable_settings()->set_style(v1::LINK_STYLE_LIST);
  v1::LinkSchemaResponse expected = Link(same);
  EXPECT_EQ(answer.text(), expected.rendered());
  expected.clear_rendered();
  expected.clear_duration_us();
  v1::LinkSchemaResponse link = linked->link();
  link.clear_duration_us();
  EXPECT_EQ(link.DebugString(), expected.DebugString());
}

TEST_F(CatalogGatewayTest, ARouterChoosesARetrieverAndAnEdgePassesItsTextOn) {
  const std::string question = "which customers are from Norway";
  const Answer answer = gateway_.Generate(Ask(question, "main"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.events.back().finished().node(), "write");
  EXPECT_THAT(answer.text(), AllOf(HasSubstr("customers"), HasSubstr("|" + question)));
  grpc::ClientContext context;
  v1::RouteRequest request;
  *request.mutable_messages() = Ask(question).messages();
  request.set_node("main");
  v1::RouteResponse route;
  ASSERT_TRUE(gateway_.gateway()->Route(&context, request, &route).ok());
  EXPECT_EQ(route.node(), "ask-shop");
  grpc::ClientContext entry_context;
  request.set_node("");
  ASSERT_TRUE(gateway_.gateway()->Route(&entry_context, request, &route).ok());
  EXPECT_EQ(route.node(), "schema");
}

TEST_F(CatalogGatewayTest, AQuestionThatMatchesNothingIsNoError) {
  const Answer answer = gateway_.Generate(Ask("qqqq xxxx"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(FindLinked(answer)->link().scope(), v1::LINK_SCOPE_FALLBACK);
  EXPECT_THAT(answer.text(), Not(IsEmpty()));
}

TEST_F(CatalogGatewayTest, ALinkThatFailsTakesTheEdgeForErrors) {
  // Longer than a question may be, and no longer than an input.
  const Answer answer = gateway_.Generate(Ask(std::string(100'000, 'x')));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.kinds(), Contains("edge_taken"));
  EXPECT_EQ(FindLinked(answer), nullptr);
}

std::string WithAccess(const std::string& manifest, const std::string& access) {
  return absl::StrReplaceAll(manifest,
                             {{"{name: shop, sqlite: shop.sqlite}",
                               "{name: shop, sqlite: shop.sqlite, access: [" + access + "]}"}});
}

TEST_F(CatalogGatewayTest, TenantsSeeOnlyTheirs) {
  ASSERT_TRUE(gateway_
                  .Apply(WithAccess(Manifest(),
                                    "{tenant: hr, tables: [salaries]},"
                                    "{tenant: sales, tables: [orders, customers], columns: "
                                    "[{table: customers, columns: [id, country]}]}"))
                  .ok());
  const std::string question = "monthly pay of employee, full name of the customers who order";
  const v1::LinkSchemaResponse hr = Link(About(question, "hr"));
  EXPECT_THAT(TablesIn(hr), ElementsAre("salaries"));
  EXPECT_THAT(hr.DebugString(), Not(HasSubstr("customer")));
  v1::LinkSchemaRequest minimal = About(question, "sales");
  minimal.mutable_settings()->set_max_columns(1);
  minimal.set_max_dropped(1000);
  const v1::LinkSchemaResponse sales = Link(minimal);
  EXPECT_GT(sales.dropped_size(), 0);
  EXPECT_THAT(sales.DebugString(), Not(HasSubstr("salaries")));
  EXPECT_THAT(sales.DebugString(), Not(HasSubstr("full_name")));
  v1::LinkSchemaResponse none;
  for (const char* other : {"", "default", "else", "*"}) {
    EXPECT_EQ(Link(About(question, other), &none).error_code(), grpc::StatusCode::PERMISSION_DENIED)
        << other;
  }
  v1::GenerateRequest ask = Ask(question);
  ask.set_tenant("hr");
  const Answer answer = gateway_.Generate(ask);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(TablesIn(FindLinked(answer)->link()), ElementsAre("salaries"));
  ask.set_tenant("else");
  const Answer refused = gateway_.Generate(ask);
  EXPECT_EQ(FindLinked(refused), nullptr);  // What follows is the edge for errors.

  v1::GetCatalogRequest get;
  get.set_name("shop");
  get.set_tenant("hr");
  v1::GetCatalogResponse page;
  ASSERT_TRUE(Get(get, &page).ok());
  ASSERT_EQ(page.tables_size(), 1);
  EXPECT_EQ(page.tables(0).name(), "salaries");
  get.set_table("customers");
  EXPECT_EQ(Get(get, &page).error_code(), grpc::StatusCode::NOT_FOUND);
  get.set_tenant("");
  EXPECT_TRUE(Get(get, &page).ok());
}

TEST_F(CatalogGatewayTest, AFileThatChangedIsSaidAndReadByARefresh) {
  const v1::LinkSchemaResponse before = Link(About("which headline is the latest?"));
  folder_.Execute("shop.sqlite", "CREATE TABLE news (headline TEXT, printed_on DATE)");
  const v1::LinkSchemaResponse still = Link(About("which headline is the latest?"));
  EXPECT_TRUE(still.source_changed());
  EXPECT_EQ(still.catalog_version(), before.catalog_version());
  EXPECT_TRUE(Catalogs().catalogs(0).source_changed());
  v1::RefreshCatalogResponse refreshed;
  const grpc::Status status = Refresh("shop", &refreshed);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(refreshed.added(), ElementsAre("news"));
  EXPECT_THAT(refreshed.removed(), IsEmpty());
  EXPECT_THAT(refreshed.changed(), IsEmpty());
  EXPECT_EQ(refreshed.previous_version(), before.catalog_version());
  EXPECT_FALSE(refreshed.info().source_changed());
  const v1::LinkSchemaResponse after = Link(About("which headline is the latest?"));
  EXPECT_EQ(after.catalog_version(), refreshed.info().version());
  EXPECT_THAT(TablesIn(after), Contains("news"));
  EXPECT_FALSE(after.source_changed());
  EXPECT_EQ(Refresh("other", &refreshed).error_code(), grpc::StatusCode::NOT_FOUND);
}

// Each content of the database has a table of its own name: what a link shows says which one it
// was made from.
TEST_F(CatalogGatewayTest, LinksDuringRefreshesAreOfTheVersionThatTheyName) {
  std::map<std::string, std::string> table_of;  // by version
  std::mutex mutex;
  std::vector<v1::LinkSchemaResponse> links;
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      do {
        const v1::LinkSchemaResponse link = Link(About("what is the edition?"));
        const std::lock_guard<std::mutex> lock(mutex);
        if (links.size() < 2000) links.push_back(link);
      } while (!done);
    });
  }
  std::string last = "none";
  table_of[Link(About("x")).catalog_version()] = "none";
  for (int i = 0; i < 8; ++i) {
    const std::string name = absl::StrCat("edition_", std::string(1, static_cast<char>('a' + i)));
    if (last != "none") folder_.Execute("shop.sqlite", "DROP TABLE " + last);
    folder_.Execute("shop.sqlite", "CREATE TABLE " + name + " (edition TEXT)");
    last = name;
    v1::RefreshCatalogResponse refreshed;
    const grpc::Status status = Refresh("shop", &refreshed);
    EXPECT_TRUE(status.ok()) << status.error_message();
    table_of[refreshed.info().version()] = name;
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table_of.size(), 9);
  for (const v1::LinkSchemaResponse& link : links) {
    ASSERT_TRUE(table_of.contains(link.catalog_version()));
    const std::string& expected = table_of[link.catalog_version()];
    for (const std::string& table : TablesIn(link)) {
      if (absl::StartsWith(table, "edition_")) {
        EXPECT_EQ(table, expected);
      }
    }
    if (expected != "none") {
      EXPECT_THAT(TablesIn(link), Contains(expected));
    }
  }
}

TEST_F(CatalogGatewayTest, ACatalogIsAddedReplacedAndRolledBack) {
  folder_.Write("extra.sql", "CREATE TABLE planets (name TEXT, radius_km REAL);");
  v1::PutCatalogRequest request;
  request.mutable_catalog()->set_name("extra");
  request.mutable_catalog()->set_ddl("extra.sql");
  request.set_dry_run(true);
  v1::PutCatalogResponse response;
  grpc::Status status = Put(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.version(), 2);
  EXPECT_FALSE(response.has_info());
  EXPECT_EQ(Catalogs().catalogs_size(), 1);
  request.set_dry_run(false);
  request.set_expected_version(7);
  EXPECT_EQ(Put(request, &response).error_code(), grpc::StatusCode::ABORTED);
  request.set_expected_version(1);
  status = Put(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.version(), 2);
  EXPECT_EQ(response.info().tables(), 1);
  EXPECT_EQ(response.info().source(), "ddl extra.sql");
  EXPECT_THAT(response.warnings(), Contains(HasSubstr("no node uses")));
  EXPECT_THAT(response.changes(), Not(IsEmpty()));
  v1::LinkSchemaRequest about = About("radius of planets");
  about.set_catalog("extra");
  EXPECT_THAT(TablesIn(Link(about)), ElementsAre("planets"));
  // Once more the same: nothing to do.
  request.set_expected_version(0);
  ASSERT_TRUE(Put(request, &response).ok());
  EXPECT_EQ(response.version(), 2);
  EXPECT_THAT(response.changes(), IsEmpty());
  request.mutable_catalog()->set_sqlite("shop.sqlite");
  ASSERT_TRUE(Put(request, &response).ok());
  EXPECT_EQ(response.version(), 3);
  EXPECT_EQ(response.info().source(), "sqlite shop.sqlite");
  EXPECT_EQ(response.info().database(), "sqlite");

  grpc::ClientContext context;
  v1::RollbackGraphRequest back;
  back.set_version(2);
  v1::RollbackGraphResponse rolled;
  ASSERT_TRUE(gateway_.admin()->RollbackGraph(&context, back, &rolled).ok());
  EXPECT_THAT(TablesIn(Link(about)), ElementsAre("planets"));
  grpc::ClientContext first_context;
  back.set_version(1);
  ASSERT_TRUE(gateway_.admin()->RollbackGraph(&first_context, back, &rolled).ok());
  v1::LinkSchemaResponse gone;
  EXPECT_EQ(Link(about, &gone).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(TablesIn(Link(About("orders"))), Contains("orders"));
}

TEST_F(CatalogGatewayTest, WhatCannotBeReadLeavesTheGraphAsItIs) {
  v1::PutCatalogRequest request;
  v1::PutCatalogResponse response;
  request.mutable_catalog()->set_name("shop");
  for (const bool dry_run : {true, false}) {
    request.set_dry_run(dry_run);
    request.mutable_catalog()->set_sqlite("gone.sqlite");
    grpc::Status status = Put(request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_THAT(status.error_message(), AllOf(HasSubstr("'shop'"), HasSubstr("'gone.sqlite'")));
    for (const char* path : {"/etc/passwd", "../shop.sqlite", "a/../../shop.sqlite"}) {
      request.mutable_catalog()->set_sqlite(path);
      status = Put(request, &response);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << path;
    }
    request.mutable_catalog()->clear_source();
    EXPECT_EQ(Put(request, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  }
  EXPECT_EQ(Catalogs().catalogs(0).source(), "sqlite shop.sqlite");
  EXPECT_THAT(Catalogs().catalogs(0).nodes(), ElementsAre("schema", "ask-shop"));
  EXPECT_FALSE(Link(About("orders")).tables().empty());
}

TEST_F(CatalogGatewayTest, ARefreshedCatalogStaysWhenTheGraphChanges) {
  folder_.Execute("shop.sqlite", "CREATE TABLE news (headline TEXT)");
  v1::RefreshCatalogResponse refreshed;
  ASSERT_TRUE(Refresh("shop", &refreshed).ok());
  // Not read again: the file is gone by now.
  std::filesystem::remove(folder_.path() / "shop.sqlite");
  ASSERT_TRUE(gateway_.Apply(absl::StrReplaceAll(Manifest(), {{"adds numbers", "counts"}})).ok());
  const v1::LinkSchemaResponse link = Link(About("headline"));
  EXPECT_EQ(link.catalog_version(), refreshed.info().version());
  EXPECT_TRUE(link.source_changed());
  EXPECT_EQ(Refresh("shop", &refreshed).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Link(About("headline")).catalog_version(), link.catalog_version());
}

TEST_F(CatalogGatewayTest, ChinookIsServed) {
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set: Chinook is not linked";
  std::filesystem::copy_file(std::filesystem::path(data) / "text2sql/chinook/Chinook_Sqlite.sqlite",
                             folder_.path() / "chinook.sqlite");
  v1::PutCatalogRequest request;
  request.mutable_catalog()->set_name("chinook");
  request.mutable_catalog()->set_sqlite("chinook.sqlite");
  v1::PutCatalogResponse response;
  const grpc::Status status = Put(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.info().tables(), 11);
  v1::LinkSchemaRequest about = About("Which albums did AC/DC record?");
  about.set_catalog("chinook");
  EXPECT_THAT(TablesIn(Link(about)), AllOf(Contains("Album"), Contains("Artist")));
}

}  // namespace
}  // namespace octogate::gateway

// What links of many clients, and of huge catalogs, may take of a gateway.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: logs}
spec:
  entry: schema
  models:
    - {name: stub, workers: ["WORKER"]}
  catalogs:
    - {name: logs, ddl: logs.sql}
  nodes:
    - {name: schema, retriever: {catalog: logs, settings: {mode: focused}}}
    - {name: write, model: {model: stub, grammar: {sql: {retriever: schema}}}}
    - {name: any, model: {model: stub, grammar: {sql: {catalog: logs}}}}
  edges:
    - {from: schema, to: write, on: success}
    - {from: write, to: any, on: error}
)";

class LinkBoundsTest : public testing::Test {
 protected:
  // A family of so many tables, whose names have 100 bytes.
  void WriteFamily(int tables) const {
    std::string ddl;
    for (int i = 0; i < tables; ++i)
      absl::StrAppend(&ddl, "CREATE TABLE ", Name(i), " (visitor TEXT);\n");
    folder_.Write("logs.sql", ddl);
  }
  static std::string Name(int i) { return absl::StrFormat("%s_%08d", std::string(91, 'v'), i); }

  ServerOptions Options() const {
    ServerOptions options;
    options.graph.model_root = folder_.path();
    return options;
  }
  void Apply(TestGateway* gateway) {
    const grpc::Status status =
        gateway->Apply(absl::StrReplaceAll(kGraph, {{"WORKER", worker_.address()}}));
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  static grpc::Status Link(TestGateway* gateway, const std::string& tenant,
                           v1::LinkSchemaResponse* response) {
    grpc::ClientContext context;
    v1::LinkSchemaRequest request;
    request.set_catalog("logs");
    request.set_question("how many visitors?");
    request.set_tenant(tenant);
    return gateway->gateway()->LinkSchema(&context, request, response);
  }

  const TestFolder folder_;
  StubWorker worker_;
};

TEST_F(LinkBoundsTest, AFamilyOfManyTablesIsLinkedAndItsGrammarNamesWhatIsListed) {
  WriteFamily(30'000);
  TestGateway gateway(Options());
  Apply(&gateway);
  v1::LinkSchemaResponse link;
  const grpc::Status status = Link(&gateway, "", &link);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(link.tables_size(), 1);
  EXPECT_EQ(link.tables(0).family_members_size(), 1000);
  EXPECT_THAT(link.rendered(), HasSubstr("one of 30000 tables alike"));
  EXPECT_THAT(link.allowed_identifiers(), Contains(Name(0)));
  EXPECT_THAT(link.allowed_identifiers(), Contains(Name(29'999)));
  EXPECT_THAT(link.allowed_identifiers(), Not(Contains(Name(15'000))));

  const Answer answer = gateway.Generate(Ask("how many visitors?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const v1::WorkerGenerateRequest asked = worker_.last_request();
  EXPECT_EQ(asked.grammar().sql().tables_size(), 1000);
  EXPECT_THAT(asked.grammar().sql().columns(), Contains("visitor"));

  // All tables of the catalog are too many for a grammar.
  const Answer refused = gateway.Generate(Ask("how many visitors?", "any"));
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("names of tables and columns"));
}

TEST_F(LinkBoundsTest, ATenantHasSoManyAtATime) {
  WriteFamily(10);
  ServerOptions options = Options();
  options.links.max_per_tenant = 0;
  TestGateway gateway(options);
  Apply(&gateway);
  v1::LinkSchemaResponse link;
  const grpc::Status status = Link(&gateway, "a", &link);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("tenant \"a\" has 0 links under way"));
}

TEST_F(LinkBoundsTest, ManyOfOneTenantDoNotKeepOthersOut) {
  WriteFamily(2'000);
  ServerOptions options = Options();
  options.links.max_concurrent = 1;
  options.links.max_per_tenant = 3;
  options.links.max_wait = absl::Minutes(10);
  TestGateway gateway(options);
  Apply(&gateway);
  std::atomic<bool> done{false};
  std::atomic<int> linked{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      do {
        v1::LinkSchemaResponse link;
        const grpc::Status status = Link(&gateway, "many", &link);
        if (status.ok()) {
          ++linked;
        } else {
          EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
          EXPECT_THAT(status.error_message(), HasSubstr("as many as one tenant may"));
        }
      } while (!done);
    });
  }
  for (int i = 0; i < 10; ++i) {
    v1::LinkSchemaResponse link;
    const grpc::Status status = Link(&gateway, "few", &link);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  done = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(linked, 0);
  // Every place was given back.
  for (int i = 0; i < 4; ++i) {
    v1::LinkSchemaResponse link;
    EXPECT_TRUE(Link(&gateway, "many", &link).ok());
  }
}

}  // namespace
}  // namespace octogate::gateway

// A catalog with the vectors of a sentence encoder that the gateway's own worker runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/model_gateway.h"

namespace octogate::gateway {
namespace {

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: shop}
spec:
  entry: schema
  models: [{name: sentences, path: bert}]
  catalogs: [{name: shop, sqlite: shop.sqlite, encoder: sentences}]
  nodes:
    - {name: schema, retriever: {catalog: shop, settings: {mode: focused}}}
)";

class CatalogEncoderTest : public testing::Test {
 protected:
  CatalogEncoderTest() { folder_.MakeShop("shop.sqlite"); }

  ServerOptions Options() const {
    ServerOptions options;
    options.graph.model_root = folder_.path();
    return options;
  }

  const TestFolder folder_;
  ModelGateway gateway_{FixtureEncoders(), {}, Options()};
};

float DenseSum(const v1::LinkSchemaResponse& link) {
  float sum = 0;
  for (const v1::LinkedTable& table : link.tables()) {
    for (const v1::LinkedColumn& column : table.columns()) sum += column.parts().dense();
  }
  return sum;
}

TEST_F(CatalogEncoderTest, VectorsCountInLinksAndOnlyNewTextsAreEmbedded) {
  const grpc::Status applied = gateway_.Apply(kGraph);
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  grpc::ClientContext list_context;
  v1::ListCatalogsResponse list;
  ASSERT_TRUE(gateway_.admin()->ListCatalogs(&list_context, {}, &list).ok());
  const int64_t vectors = list.catalogs(0).vectors();
  EXPECT_GT(vectors, 10);
  const Answer answer = gateway_.Generate(Ask("what do people earn in a month?"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  bool linked = false;
  for (const v1::GenerateResponse& event : answer.events) {
    if (!event.has_linked()) continue;
    linked = true;
    EXPECT_GT(DenseSum(event.linked().link()), 0);
  }
  EXPECT_TRUE(linked);
  grpc::ClientContext link_context;
  v1::LinkSchemaRequest request;
  request.set_catalog("shop");
  request.set_question("what do people earn in a month?");
  request.set_evidence("earn refers to monthly_pay");
  request.mutable_settings()->set_mode(v1::LINK_MODE_FOCUSED);
  v1::LinkSchemaResponse link;
  ASSERT_TRUE(gateway_.gateway()->LinkSchema(&link_context, request, &link).ok());
  EXPECT_GT(DenseSum(link), 0);

  folder_.Execute("shop.sqlite", "CREATE TABLE news (headline TEXT, printed_on DATE)");
  grpc::ClientContext refresh_context;
  v1::RefreshCatalogRequest refresh;
  refresh.set_name("shop");
  v1::RefreshCatalogResponse refreshed;
  ASSERT_TRUE(gateway_.admin()->RefreshCatalog(&refresh_context, refresh, &refreshed).ok());
  EXPECT_EQ(refreshed.embedded(), 2);
  EXPECT_EQ(refreshed.info().vectors(), vectors + 2);
}

}  // namespace
}  // namespace octogate::gateway

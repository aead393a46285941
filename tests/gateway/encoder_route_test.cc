// A sentence encoder in a graph, behind a running gateway: it embeds, and routes as a head.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/str_replace.h"
#include "tests/gateway/model_gateway.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models: [{name: sentences, path: bert}]
  nodes:
    - name: main
      router:
        members: [files, sums]
        fallback: sorry
        heads:
          - {threshold: 1, lexical: {}}
          - {threshold: 0, encoder: {model: sentences}}
    - name: files
      tool: {tool: reply, parameters: {text: files}}
      examples: [find the large files, list the files in a folder, delete the old files]
    - name: sums
      tool: {tool: reply, parameters: {text: sums}}
      examples: [what is 2 plus 3, 17 times 4, the square root of 16]
    - {name: sorry, tool: {tool: reply, parameters: {text: sorry}}}
)";

class EncoderRouteTest : public testing::Test {
 protected:
  v1::RouteResponse Route(const std::string& query) {
    grpc::ClientContext context;
    v1::RouteRequest request;
    *request.mutable_messages() = Ask(query).messages();
    v1::RouteResponse response;
    const grpc::Status status = gateway_.gateway()->Route(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  ModelGateway gateway_{FixtureEncoders()};
};

TEST_F(EncoderRouteTest, ExamplesGoToTheirNodes) {
  const grpc::Status applied = gateway_.Apply(kGraph);
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  for (const auto& [query, node] :
       {std::pair("list the files in a folder", "files"), std::pair("17 times 4", "sums")}) {
    const Answer answer = gateway_.Generate(Ask(query));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.text(), node) << query;
    for (const v1::GenerateResponse& event : answer.events) {
      if (!event.has_decision()) continue;
      EXPECT_EQ(event.decision().head(), "encoder");
      EXPECT_GT(event.decision().usage().prompt_tokens(), 0);
    }
  }
}

TEST_F(EncoderRouteTest, TheModelEmbedsAndIsListedAsAnEncoder) {
  ASSERT_TRUE(gateway_.Apply(kGraph).ok());
  grpc::ClientContext context;
  v1::EmbedRequest request;
  request.set_model("sentences");
  request.add_inputs("The router chooses a node.");
  v1::EmbedResponse response;
  const grpc::Status status = gateway_.gateway()->Embed(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.embeddings_size(), 1);
  EXPECT_EQ(response.embeddings(0).values_size(), 36);

  grpc::ClientContext list_context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(gateway_.gateway()->ListModels(&list_context, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).kind(), v1::MODEL_KIND_ENCODER);
  EXPECT_EQ(models.models(0).family(), "bert");
  EXPECT_EQ(models.models(0).context_length(), 128);
}

TEST_F(EncoderRouteTest, AModelNodeOnAnEncoderSaysWhyItCannotAnswer) {
  const grpc::Status applied = gateway_.Apply(absl::StrReplaceAll(
      kGraph, {{"tool: {tool: reply, parameters: {text: files}}", "model: {model: sentences}"}}));
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  const Answer answer = gateway_.Generate(Ask("list the files in a folder", "files"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("is a sentence encoder"));
}

}  // namespace
}  // namespace octogate::gateway

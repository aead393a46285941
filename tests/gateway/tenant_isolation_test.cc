// Tenants share no prefix in a worker, whichever way a query reaches it, while queries of one
// tenant do: a gateway with a real (tiny) model in its own process, and the same in a worker.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/gateway/model_gateway.h"
#include "tests/gateway/model_worker.h"

namespace octogate::gateway {
namespace {

// A router with a causal head of a model, and a node of the same model, which is entered by its
// name. The router's prompt is the query, as an embedding's is.
std::string Graph(const std::string& model) {
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: tenants}\nspec:\n  entry: main\n"
      "  models: [{name: octopus, ",
      model,
      "}]\n"
      "  nodes:\n"
      "    - name: main\n"
      "      router:\n"
      "        members: [one, two]\n"
      "        fallback: one\n"
      "        heads:\n"
      "          - threshold: 0\n"
      "            causal:\n"
      "              model: octopus\n"
      "              prompt: \"{query}\"\n"
      "              tokens: {one: \"<nexa_1>\", two: \"<nexa_2>\"}\n"
      "              endToken: \"<nexa_end>\"\n"
      "              argumentStyle: call\n"
      "              maxArgumentTokens: 4\n"
      "    - {name: one, tool: {tool: reply, parameters: {text: one}}}\n"
      "    - {name: two, tool: {tool: reply, parameters: {text: two}}}\n"
      "    - {name: talk, model: {model: octopus, maxTokens: 4}}\n"
      "  edges: [{from: one, to: talk, on: error}]\n"
      // A kept decision would cost nothing, whoever's pages there are.
      "  cache: {decisions: {maxEntries: 0}}\n");
}

enum class Place { kInProcess, kWorker };

class TenantIsolationTest : public testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    std::string model = "path: octopus";
    if (GetParam() == Place::kWorker) {
      worker_ = std::make_unique<ModelWorker>(FixtureCheckpoints() + "/octopus");
      model = worker_->manifest();
    }
    const grpc::Status applied = gateway_.Apply(Graph(model));
    ASSERT_TRUE(applied.ok()) << applied.error_message();
  }

  // Several pages long.
  static std::string LongQuery() {
    std::string query;
    for (int i = 0; i < 40; ++i) absl::StrAppend(&query, "query ", i, " ");
    return query;
  }

  // What a query of the node costs.
  v1::Usage Generate(const std::string& tenant, const std::string& node) {
    v1::GenerateRequest request = Ask(LongQuery(), node);
    request.set_tenant(tenant);
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer.events.empty() ? v1::Usage() : answer.events.back().finished().usage();
  }

  v1::Usage Route(const std::string& tenant) {
    v1::RouteRequest request;
    *request.add_messages() = Ask(LongQuery()).messages(0);
    request.set_tenant(tenant);
    grpc::ClientContext context;
    v1::RouteResponse response;
    const grpc::Status status = gateway_.gateway()->Route(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.decisions_size() == 1 ? response.decisions(0).usage() : v1::Usage();
  }

  void Embed(const std::string& tenant) {
    v1::EmbedRequest request;
    request.set_model("octopus");
    request.add_inputs(LongQuery());
    request.set_tenant(tenant);
    grpc::ClientContext context;
    v1::EmbedResponse response;
    const grpc::Status status = gateway_.gateway()->Embed(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  std::unique_ptr<ModelWorker> worker_;
  ModelGateway gateway_{FixtureCheckpoints()};
};

TEST_P(TenantIsolationTest, ModelNodes) {
  const v1::Usage first = Generate("a", "talk");
  EXPECT_GT(first.prompt_tokens(), 0);
  EXPECT_EQ(first.cached_tokens(), 0);
  EXPECT_EQ(Generate("b", "talk").cached_tokens(), 0);
  const int64_t cached = Generate("a", "talk").cached_tokens();
  EXPECT_GT(cached, 0);
  EXPECT_EQ(Generate("b", "talk").cached_tokens(), cached);
  // Who names no tenant is of the tenant "default", and nobody's else.
  EXPECT_EQ(Generate("", "talk").cached_tokens(), 0);
  EXPECT_EQ(Generate("default", "talk").cached_tokens(), cached);
}

TEST_P(TenantIsolationTest, Routers) {
  // A decision scores its query and then writes the argument behind it: the second call finds what
  // the first has left.
  const int64_t fresh = Generate("a", "main").cached_tokens();
  EXPECT_EQ(Generate("b", "main").cached_tokens(), fresh);
  EXPECT_EQ(Route("c").cached_tokens(), fresh);
  EXPECT_EQ(Route("").cached_tokens(), fresh);
  const int64_t again = Generate("a", "main").cached_tokens();
  EXPECT_GT(again, fresh);
  EXPECT_EQ(Route("b").cached_tokens(), again);
  EXPECT_EQ(Generate("c", "main").cached_tokens(), again);
  EXPECT_EQ(Generate("default", "main").cached_tokens(), again);
}

TEST_P(TenantIsolationTest, Embeddings) {
  const int64_t fresh = Route("other").cached_tokens();
  Embed("a");
  Embed("");
  EXPECT_EQ(Route("b").cached_tokens(), fresh);
  EXPECT_GT(Route("a").cached_tokens(), fresh);
  EXPECT_GT(Route("default").cached_tokens(), fresh);
}

INSTANTIATE_TEST_SUITE_P(Places, TenantIsolationTest,
                         testing::Values(Place::kInProcess, Place::kWorker), [](const auto& info) {
                           return info.param == Place::kInProcess ? "InProcess" : "Worker";
                         });

}  // namespace
}  // namespace octogate::gateway

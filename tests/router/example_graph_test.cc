// The example graph is valid, and its lexical head answers what it was not trained on.

#include <gtest/gtest.h>

#include <fstream>
#include <future>
#include <iterator>
#include <string>

#include "router/graph_manifest.h"
#include "router/router.h"

namespace octogate::router {
namespace {

v1::Graph ReadExample() {
  std::ifstream file(OCTOGATE_SOURCE_DIR "/deploy/graphs/example.yaml");
  const std::string yaml(std::istreambuf_iterator<char>(file), {});
  const auto manifest = ParseGraphManifest(yaml, "example.yaml");
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_TRUE(manifest->warnings.empty());
  return manifest->graph;
}

TEST(ExampleGraphTest, NodesHaveExamplesAndTheModelsTokens) {
  const v1::Graph graph = ReadExample();
  for (const v1::Node& node : graph.spec().nodes()) {
    EXPECT_EQ(node.token(), "<fn:" + node.name() + ">");
    EXPECT_FALSE(node.description().empty()) << node.name();
    EXPECT_TRUE(node.has_router() || node.examples_size() >= 20) << node.name();
  }
}

TEST(ExampleGraphTest, TheLexicalHeadGeneralizes) {
  v1::Graph graph = ReadExample();
  // The model is not at hand: routers keep their lexical heads, or get one.
  for (v1::Node& node : *graph.mutable_spec()->mutable_nodes()) {
    if (!node.has_router()) continue;
    v1::RouterNode& router = *node.mutable_router();
    router.clear_rewrite();
    v1::Head& head = *router.mutable_heads(0);
    head.mutable_lexical();
    ApplyDefaults(&graph);
    router.mutable_heads()->DeleteSubrange(1, router.heads_size() - 1);
  }
  const auto snapshot = RoutingSnapshot::Build(
      graph, 1, {.causal = [](std::string_view) { return absl::NotFoundError("no model"); }},
      absl::InfiniteFuture());
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const std::pair<const char*, const char*> queries[] = {
      {"delete all log files in /tmp", "shell"},
      {"how do I find big files in my home folder", "shell"},
      {"what does chmod +x run.sh do", "explain"},
      {"explain tar -czf a.tgz docs", "explain"},
      {"what is 12 * 9", "calculator"},
      {"8 percent of 1200", "calculator"},
      {"what time is it in Berlin", "clock"},
      {"how many days until 2030-05-01", "clock"},
      {"write a poem about cats", "fallback"},
      {"who was Napoleon", "fallback"},
      {"zxqv wkjh pfft", "fallback"},
      {"", "fallback"},
  };
  for (const auto& [query, node] : queries) {
    std::promise<v1::Decision> promise;
    (*snapshot)->Route("main", query, {},
                       [&](absl::StatusOr<v1::Decision> d) { promise.set_value(*std::move(d)); });
    const v1::Decision decision = promise.get_future().get();
    const auto& best = decision.heads(0).scores(0);
    const bool refused = decision.node() == "fallback" && decision.fallback();
    EXPECT_TRUE(decision.node() == node || (refused && best.node() == node))
        << query << ": " << decision.reason();
  }
}

}  // namespace
}  // namespace octogate::router

// What graphs take at most, and limits that leave parts of a graph without use.
#include "router/node_bounds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "router/graph_manifest.h"

namespace octogate::router {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

constexpr char kHeader[] = "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: x}\nspec:\n";

// Three replays behind a router, a vote over them, and a verifier.
std::string Spec(const std::string& limits) {
  return std::string(kHeader) + R"(
  entry: a
  limits: {)" +
         limits + R"(}
  nodes:
    - {name: a, replay: {recording: r, maxTokens: 100, price: {output: 10000}}}
    - {name: b, replay: {recording: r, maxTokens: 10, price: {input: 1000, output: 10000}}}
    - {name: three, vote: {members: [a, b], samples: 2, parallel: 1, enough: 2}}
    - {name: checked, verify: {answer: three, judge: b}}
    - {name: end, tool: {tool: reply}}
  edges:
    - {from: a, to: three, on: lowConfidence}
    - {from: three, to: checked, on: lowConfidence}
    - {from: checked, to: end, on: error}
)";
}

TEST(NodeBoundsTest, CountsWhatNodesTake) {
  const auto manifest = ParseGraphManifest(Spec(""), "g.yaml");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const v1::Graph& graph = manifest->graph;
  const auto node = [&](const char* name) -> const v1::Node& { return *FindNode(graph, name); };
  EXPECT_EQ(MostCalls(graph, node("a")), 1);
  EXPECT_EQ(MostCalls(graph, node("three")), 4);
  EXPECT_EQ(LeastCalls(graph, node("three")), 2);
  EXPECT_EQ(MostCalls(graph, node("checked")), 5);
  EXPECT_EQ(LeastCalls(graph, node("checked")), 3);
  EXPECT_EQ(MostCalls(graph, node("end")), 0);
  EXPECT_NEAR(MostCost(graph, node("a"), 0), 1.0, 1e-9);
  EXPECT_NEAR(MostCost(graph, node("b"), 50), 0.05 + 0.1, 1e-9);
  EXPECT_NEAR(MostCost(graph, node("three"), 0), 2 * 1.0 + 2 * 0.1, 1e-9);
  const GraphBounds bounds = WorstCase(graph);
  EXPECT_EQ(bounds.steps, 4);
  EXPECT_EQ(bounds.calls, 1 + 4 + 5);
  EXPECT_EQ(bounds.time_ms, 60'000);
  const double judge = MostCost(graph, node("checked"), 0) - MostCost(graph, node("three"), 0);
  EXPECT_NEAR(bounds.cost, 1.0 + 2.2 + 2.2 + judge, 1e-9);
}

TEST(NodeBoundsTest, LimitsBoundTheWorstCase) {
  const auto manifest =
      ParseGraphManifest(Spec("maxCalls: 7, maxCost: 5, timeoutMs: 10"), "g.yaml");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const GraphBounds bounds = WorstCase(manifest->graph);
  EXPECT_EQ(bounds.calls, 7);
  EXPECT_EQ(bounds.cost, 5);
  EXPECT_EQ(bounds.time_ms, 10);
}

TEST(NodeBoundsTest, WhatLimitsLeaveWithoutUseIsReported) {
  const auto error = [](const std::string& limits) {
    return std::string(ParseGraphManifest(Spec(limits), "g.yaml").status().message());
  };
  EXPECT_THAT(error("maxCalls: 3"), HasSubstr("needs up to 4 calls, and limits.maxCalls is 3"));
  EXPECT_THAT(error("maxCalls: 6"),
              HasSubstr("never taken: 'checked' needs up to 5 calls behind at least 2"));
  EXPECT_THAT(error("maxCost: 0.5"), HasSubstr("its answer alone may cost 1"));
  // A query that enters at `three` may take the edge; one from the entry may not.
  const auto warned = ParseGraphManifest(Spec("maxCalls: 7"), "g.yaml");
  ASSERT_TRUE(warned.ok()) << warned.status();
  ASSERT_THAT(warned->warnings, SizeIs(1));
  EXPECT_THAT(warned->warnings[0], HasSubstr("by a query from the entry"));
  EXPECT_TRUE(ParseGraphManifest(Spec("maxCalls: 8"), "g.yaml")->warnings.empty());
  const auto steps = ParseGraphManifest(Spec("maxSteps: 2"), "g.yaml");
  ASSERT_TRUE(steps.ok()) << steps.status();
  EXPECT_THAT(steps->warnings, testing::Contains(HasSubstr("limits.maxSteps is 2")));
}

TEST(NodeBoundsTest, VotesAndVerifiersAreChecked) {
  const auto error = [](const std::string& nodes) {
    return std::string(ParseGraphManifest(std::string(kHeader) + "  entry: v\n  nodes:\n" + nodes +
                                              "    - {name: a, replay: {recording: r}}\n"
                                              "    - {name: t, tool: {tool: reply}}\n"
                                              "  edges:\n    - {from: v, to: t, on: error}\n"
                                              "    - {from: t, to: a, on: error}\n",
                                          "g.yaml")
                           .status()
                           .message());
  };
  EXPECT_THAT(error("    - {name: v, vote: {members: [a, t]}}\n"),
              HasSubstr("the node 't' must be a model or replay node"));
  EXPECT_THAT(error("    - {name: v, vote: {members: [a, v]}}\n"), HasSubstr("the node 'v' must"));
  EXPECT_THAT(error("    - {name: v, vote: {members: [a, aa]}}\n"),
              HasSubstr("there is no node 'aa'; did you mean 'a'?"));
  EXPECT_THAT(error("    - {name: v, vote: {members: [a, a], samples: 9}}\n"),
              HasSubstr("are 18 answers; at most 16"));
  EXPECT_THAT(error("    - {name: v, vote: {members: [a, a], enough: 3}}\n"),
              HasSubstr("3 equal answers cannot come from 2 answers"));
  EXPECT_THAT(error("    - {name: v, verify: {answer: v, judge: a}}\n"),
              HasSubstr("the node 'v' must be a model or replay node, or a vote"));
  EXPECT_THAT(error("    - {name: v, replay: {recording: r, expected: [{upToTokens: 2, accuracy: 1}"
                    ", {upToTokens: 2, accuracy: 1}]}}\n"),
              HasSubstr("entries go up in length"));
}

TEST(NodeBoundsTest, ARetrieverTakesTheCallOfItsTableNode) {
  const std::string text = std::string(kHeader) + R"(
  entry: link
  catalogs: [{name: c, ddl: c.sql}]
  nodes:
    - {name: tables, replay: {recording: r, maxTokens: 100, price: {input: 1000, output: 10000}}}
    - {name: link, retriever: {catalog: c, tableNode: tables}}
    - {name: alone, retriever: {catalog: c}}
  edges:
    - {from: link, to: alone, on: error}
)";
  const auto manifest = ParseGraphManifest(text, "g.yaml");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const v1::Graph& graph = manifest->graph;
  EXPECT_EQ(MostCalls(graph, *FindNode(graph, "link")), 1);
  EXPECT_EQ(LeastCalls(graph, *FindNode(graph, "link")), 0);
  EXPECT_EQ(MostCalls(graph, *FindNode(graph, "alone")), 0);
  EXPECT_NEAR(MostCost(graph, *FindNode(graph, "link"), 50), 0.05 + 1.0, 1e-9);
  EXPECT_EQ(WorstCase(graph).calls, 1);
  EXPECT_NEAR(WorstCase(graph).cost, 1.0, 1e-9);
  const std::string limited = text + "  limits: {maxCost: 0.5}\n";
  EXPECT_THAT(std::string(ParseGraphManifest(limited, "g.yaml").status().message()),
              HasSubstr("never entered: its answer alone may cost 1"));
}

}  // namespace
}  // namespace octogate::router

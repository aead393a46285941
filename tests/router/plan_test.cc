#include "router/plan.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "router/graph_manifest.h"
#include "router/graph_validation.h"
#include "tests/router/random_graph.h"

namespace octogate::router {
namespace {

constexpr char kHeader[] = "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: x}\nspec:\n";

v1::Graph Parse(const std::string& spec) {
  const auto manifest = ParseGraphManifest(kHeader + spec, "g.yaml");
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  return manifest->graph;
}

std::string NameOf(const absl::StatusOr<PlanStep>& step) {
  if (!step.ok()) return step.status().ToString();
  return step->node == nullptr ? "end" : step->node->name();
}

const NodeOutcome kSuccess = {};
const NodeOutcome kError = {.status = absl::InternalError("broken")};
NodeOutcome Confident(double confidence) { return {.confidence = confidence}; }

v1::Graph Loop() {
  return Parse(R"(
  entry: a
  nodes:
    - {name: a, tool: {tool: reply}}
    - {name: b, tool: {tool: reply}}
    - {name: c, tool: {tool: reply}}
  edges:
    - {from: a, to: a, on: lowConfidence, below: 0.4, maxVisits: 2}
    - {from: a, to: b, on: lowConfidence, below: 0.8}
    - {from: a, to: c, on: success}
    - {from: a, to: b, on: error}
)");
}

TEST(PlanTest, NamesTheEdgesOfANodeThatMayStillBeTaken) {
  const v1::Graph graph = Loop();
  Plan plan(&graph);
  EXPECT_EQ(NameOf(plan.Start()), "a");
  const auto open = [&](const char* node, v1::EdgeCondition condition) {
    std::string to;
    for (const v1::Edge* edge : plan.OpenEdges(node, condition)) to += edge->to();
    return to;
  };
  EXPECT_EQ(open("a", v1::EDGE_CONDITION_LOW_CONFIDENCE), "ab");
  EXPECT_EQ(open("a", v1::EDGE_CONDITION_SUCCESS), "c");
  EXPECT_EQ(open("b", v1::EDGE_CONDITION_SUCCESS), "");
  EXPECT_EQ(NameOf(plan.Next(Confident(0.1))), "a");
  EXPECT_EQ(open("a", v1::EDGE_CONDITION_LOW_CONFIDENCE), "ab") << "once more";
  EXPECT_EQ(NameOf(plan.Next(Confident(0.1))), "a");
  EXPECT_EQ(open("a", v1::EDGE_CONDITION_LOW_CONFIDENCE), "b");
}

TEST(PlanTest, TakesTheFirstEdgeWhoseConditionHolds) {
  const v1::Graph graph = Loop();
  const auto after = [&](const NodeOutcome& outcome) {
    Plan plan(&graph);
    EXPECT_EQ(NameOf(plan.Start()), "a");
    return NameOf(plan.Next(outcome));
  };
  EXPECT_EQ(after(Confident(0.39)), "a");
  EXPECT_EQ(after(Confident(0.4)), "b") << "0.4 is not below 0.4";
  EXPECT_EQ(after(Confident(0.8)), "c");
  EXPECT_EQ(after(kError), "b");
}

TEST(PlanTest, CountsVisits) {
  const v1::Graph graph = Loop();
  Plan plan(&graph);
  EXPECT_EQ(NameOf(plan.Start()), "a");
  EXPECT_EQ(NameOf(plan.Next(Confident(0))), "a");
  EXPECT_EQ(NameOf(plan.Next(Confident(0))), "a");
  EXPECT_EQ(NameOf(plan.Next(Confident(0))), "b") << "the first edge is used up";
  EXPECT_EQ(NameOf(plan.Next(kSuccess)), "end");
}

TEST(PlanTest, StopsAtTheLimit) {
  v1::Graph graph = Loop();
  graph.mutable_spec()->mutable_limits()->set_max_steps(2);
  Plan plan(&graph);
  EXPECT_EQ(plan.Start()->number, 1);
  EXPECT_EQ(plan.Next(Confident(0))->number, 2);
  EXPECT_EQ(plan.Next(Confident(0)).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(PlanTest, EdgesOfARouterApplyToWhatItsSubGraphEndsWith) {
  const v1::Graph graph = Parse(R"(
  entry: outer
  nodes:
    - name: outer
      router: {members: [inner, other], fallback: other, heads: [{lexical: {}}]}
    - name: inner
      router: {members: [leaf], fallback: leaf, heads: [{lexical: {}}]}
    - {name: leaf, tool: {tool: reply}}
    - {name: helper, tool: {tool: reply}}
    - {name: other, tool: {tool: reply}}
    - {name: last, tool: {tool: reply}}
  edges:
    - {from: leaf, to: helper, on: lowConfidence}
    - {from: inner, to: other, on: error}
    - {from: outer, to: last, on: error}
)");
  Plan plan(&graph);
  EXPECT_EQ(NameOf(plan.Start()), "outer");
  EXPECT_EQ(NameOf(plan.HandOver("inner")), "inner");
  EXPECT_EQ(NameOf(plan.HandOver("leaf")), "leaf");
  EXPECT_EQ(plan.HandOver("other").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(NameOf(plan.Next(Confident(0.1))), "helper") << "its own edge first";
  EXPECT_EQ(NameOf(plan.Next(kError)), "other") << "then the inner router's";
  EXPECT_EQ(NameOf(plan.Next(kError)), "last") << "then the outer one's";
  EXPECT_EQ(NameOf(plan.Next(kError)), "end");
  EXPECT_EQ(plan.Start("gone").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(NameOf(plan.Start("inner")), "inner");
}

TEST(PlanTest, RendersInputsInOnePass) {
  v1::Edge edge;
  edge.set_input("{query}|{input}|{output}|{error}|{other}|{");
  EXPECT_EQ(RenderEdgeInput(edge, {"{output}", "in", "out{error}", "e"}),
            "{output}|in|out{error}|e|{other}|{");
}

TEST(PlanTest, PutsTextsOfEarlierNodesIntoInputs) {
  v1::Edge edge;
  edge.set_input(
      "{link.output}|{a-b_1.input}|{none.output}|{.output}|{Link.output}|{run.error}|{run.x}");
  const NodeTexts link = {.input = "i", .output = "{query}"};
  const NodeTexts other = {.input = "second", .error = "no such column"};
  const auto texts_of = [&](std::string_view node) -> const NodeTexts* {
    return node == "link" ? &link : node == "a-b_1" || node == "run" ? &other : nullptr;
  };
  EXPECT_EQ(RenderEdgeInput(edge, {.query = "q", .texts_of = texts_of}),
            "{query}|second||{.output}|{Link.output}|no such column|{run.x}");
  EXPECT_EQ(RenderEdgeInput(edge, {.query = "q"}), edge.input());
  EXPECT_EQ(NodesNamedIn(edge.input()), (std::vector<std::string>{"link", "a-b_1", "none", "run"}));
}

TEST(PlanTest, InputsDoNotGrowFarBeyondWhatIsWanted) {
  v1::Edge edge;
  edge.set_input("{query}{query}{query}");
  EXPECT_EQ(RenderEdgeInput(edge, {.query = "abcd", .max_bytes = 5}), "abcdabcd");
}

// Whatever nodes do, every query ends within the bound.
TEST(PlanPropertyTest, EveryWalkEndsWithinTheBound) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    v1::Graph graph = RandomGraph(&random);
    for (const GraphProblem& problem : ValidateGraph(graph)) ASSERT_TRUE(problem.warning);
    const int bound = WorstCaseSteps(graph);
    graph.mutable_spec()->mutable_limits()->set_max_steps(1'000'000);
    Plan plan(&graph);
    absl::StatusOr<PlanStep> step = plan.Start();
    int steps = 0;
    while (step.ok() && step->node != nullptr) {
      ASSERT_LE(++steps, bound) << GraphToYaml(graph);
      ASSERT_EQ(step->number, steps);
      const v1::RouterNode& router = step->node->router();
      if (step->node->has_router()) {
        const int pick = static_cast<int>(random() % (router.members_size() + 1));
        step =
            plan.HandOver(pick == router.members_size() ? router.fallback() : router.members(pick));
      } else {
        step = plan.Next(random() % 2 == 0 ? kError : Confident(random() % 11 / 10.0));
      }
    }
    ASSERT_TRUE(step.ok()) << step.status();
  }
}

}  // namespace
}  // namespace octogate::router

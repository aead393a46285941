// What manifests with choice nodes are told.
#include "router/choice_validation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "router/graph_manifest.h"
#include "router/node_bounds.h"

namespace octogate::router {
namespace {

using testing::HasSubstr;

std::string Manifest(const std::string& choice, const std::string& a = "price: {output: 1}",
                     const std::string& limits = "maxSteps: 8") {
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: g}\nspec:\n  entry: pick\n  limits: "
      "{",
      limits, "}\n  nodes:\n    - name: pick\n      choice: {", choice,
      "}\n    - {name: a, replay: {recording: r, ", a,
      "}}\n    - {name: b, replay: {recording: r, price: {output: 2}, quality: [{accuracy: "
      "0.5}]}}\n"
      "    - {name: t, tool: {tool: reply}}\n  edges:\n    - {from: pick, to: t, on: error}\n"
      "    - {from: t, to: a, on: error}\n    - {from: a, to: b, on: error}\n");
}

std::string Error(const std::string& choice, const std::string& a = "price: {output: 1}",
                  const std::string& limits = "maxSteps: 8") {
  return std::string(ParseGraphManifest(Manifest(choice, a, limits), "g.yaml").status().message());
}

TEST(ChoiceValidationTest, MembersHaveToBeThereAndAnswer) {
  const std::string rest = "policy: cheapestAbove, tolerance: 0.5, outcomes: o";
  EXPECT_EQ(Error("members: [a, b], " + rest), "");
  EXPECT_THAT(Error("members: [a, bb], " + rest),
              HasSubstr("there is no node 'bb'; did you mean 'b'?"));
  EXPECT_THAT(Error("members: [a, t], " + rest),
              HasSubstr("the node 't' must be a model or replay node, a vote or a verifier"));
  EXPECT_THAT(Error("members: [a, pick], " + rest), HasSubstr("would hand over to itself"));
  EXPECT_THAT(Error("members: [a, a], " + rest), HasSubstr("a second member 'a'"));
}

TEST(ChoiceValidationTest, APolicyNeedsItsNumberAndNoOther) {
  const std::string rest = "members: [a, b], outcomes: o, policy: ";
  EXPECT_THAT(Error(rest + "cheapestAbove"),
              HasSubstr("needs 'tolerance'; set it, e.g. 'tolerance: 0.7'"));
  EXPECT_THAT(Error(rest + "bestUnder"), HasSubstr("needs 'budget'"));
  EXPECT_THAT(Error(rest + "fastestAbove"), HasSubstr("needs 'quality'"));
  EXPECT_THAT(Error(rest + "fastestAbove, quality: 0.5, budget: 1"),
              HasSubstr("'budget' goes with 'policy: bestUnder' only"));
  EXPECT_THAT(Error(rest + "fastestAbove, quality: 0.5, sure: 0.5"),
              HasSubstr("'sure' goes with 'maxCalls: 2' only"));
  EXPECT_THAT(Error(rest + "fastestAbove, quality: 1.5"), HasSubstr("must be 0 to 1"));
}

TEST(ChoiceValidationTest, WhatAPolicyComparesHasToBeKnown) {
  EXPECT_THAT(Error("members: [a, b], outcomes: o, policy: bestUnder, budget: 1", "maxTokens: 1"),
              HasSubstr("the node 'a' has no price; give it 'price:"));
  EXPECT_THAT(Error("members: [a, b], policy: bestUnder, budget: 1"),
              HasSubstr("nothing says how often the node 'a' is right; name a file of 'outcomes'"));
  const auto warned = ParseGraphManifest(
      Manifest("members: [a, b], policy: fastestAbove, quality: 0.5, domains: [{name: math}]",
               "speed: {tokensPerSecond: 50}, quality: [{domain: mth, accuracy: 0.5}]"),
      "g.yaml");
  ASSERT_TRUE(warned.ok()) << warned.status();
  EXPECT_THAT(warned->warnings,
              testing::Contains(HasSubstr("nothing says how fast the node 'b' is")));
  EXPECT_THAT(warned->warnings, testing::Contains(HasSubstr("did you mean 'math'?")));
  EXPECT_THAT(Error("members: [a, b], outcomes: o, policy: bestUnder, budget: 1",
                    "price: {output: 1}", "tenants: [{tenant: x}, {tenant: x}]"),
              HasSubstr("a second entry for 'x'"));
}

TEST(ChoiceValidationTest, BoundsKnowWhatAChoiceMayTake) {
  const std::string rest = "members: [a, b], outcomes: o, policy: bestUnder, budget: 1";
  const auto one = ParseGraphManifest(Manifest(rest), "g.yaml");
  ASSERT_TRUE(one.ok()) << one.status();
  const v1::Node* pick = FindNode(one->graph, "pick");
  EXPECT_EQ(MostCalls(one->graph, *pick), 0);
  // `a` and then `b` on its error, and after the edge of the choice both again.
  EXPECT_EQ(WorstCase(one->graph).calls, 4);
  const auto two = ParseGraphManifest(Manifest(rest + ", maxCalls: 2"), "g.yaml");
  ASSERT_TRUE(two.ok()) << two.status();
  pick = FindNode(two->graph, "pick");
  EXPECT_EQ(MostCalls(two->graph, *pick), 2);
  EXPECT_EQ(LeastCalls(two->graph, *pick), 1);
  EXPECT_NEAR(MostCost(two->graph, *pick, 0), 3 * 256 / 1e6, 1e-12);
  EXPECT_EQ(two->graph.spec().nodes(0).choice().sure(), 1);
  // A choice of two calls makes do with one.
  EXPECT_EQ(Error(rest + ", maxCalls: 2", "price: {output: 1}", "maxCalls: 1"), "");
}

}  // namespace
}  // namespace octogate::router

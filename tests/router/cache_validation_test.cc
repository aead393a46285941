// What a manifest says of caches: defaults, bounds, and options that need each other.

#include "router/cache_validation.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "router/graph_diff.h"
#include "router/graph_manifest.h"

namespace octogate::router {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

absl::StatusOr<GraphManifest> Parse(const std::string& cache) {
  return ParseGraphManifest(
      absl::StrCat("apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: g}\nspec:\n"
                   "  entry: reply\n  models: [{name: encoder, path: minilm}]\n"
                   "  nodes: [{name: reply, tool: {tool: reply}}]\n",
                   cache),
      "g");
}

v1::GraphSpec SpecWith(const std::string& cache) {
  const auto manifest = Parse(cache);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
  return manifest.ok() ? manifest->graph.spec() : v1::GraphSpec();
}

std::string ErrorOf(const std::string& cache) {
  const auto manifest = Parse(cache);
  EXPECT_FALSE(manifest.ok()) << cache;
  return std::string(manifest.status().message());
}

TEST(CacheValidationTest, AGraphThatSaysNothingKeepsDecisionsAndNoAnswers) {
  const v1::GraphSpec spec = SpecWith("");
  EXPECT_FALSE(spec.has_cache());
  EXPECT_EQ(MaxCachedDecisions(spec), 65'536);
}

TEST(CacheValidationTest, FillsDefaultsAsTheContractStatesThem) {
  const v1::GraphSpec decisions = SpecWith("  cache: {}\n");
  EXPECT_EQ(MaxCachedDecisions(decisions), 65'536);
  EXPECT_FALSE(decisions.cache().has_answers());
  const v1::GraphSpec answers = SpecWith("  cache: {answers: {}}\n");
  EXPECT_EQ(answers.cache().decisions().max_entries(), 65'536);
  EXPECT_EQ(answers.cache().answers().max_entries(), 10'000);
  EXPECT_EQ(answers.cache().answers().expires_after_ms(), 3'600'000);
  EXPECT_EQ(answers.cache().answers().encoder(), "");
}

TEST(CacheValidationTest, NoDecisionsAreNotTheDefault) {
  EXPECT_EQ(MaxCachedDecisions(SpecWith("  cache: {decisions: {maxEntries: 0}}\n")), 0);
}

TEST(CacheValidationTest, WhatIsReadIsWrittenBackEqual) {
  const auto manifest = Parse(
      "  cache:\n    decisions: {maxEntries: 7, shared: true}\n"
      "    answers: {maxEntries: 8, expiresAfterMs: 2592000000, encoder: encoder, threshold: "
      "0.97}\n");
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  // The encoder is a use of its model.
  EXPECT_THAT(manifest->warnings, IsEmpty());
  const v1::QueryCache& cache = manifest->graph.spec().cache();
  EXPECT_EQ(cache.decisions().max_entries(), 7);
  EXPECT_TRUE(cache.decisions().shared());
  EXPECT_EQ(cache.answers().max_entries(), 8);
  EXPECT_EQ(cache.answers().expires_after_ms(), 2'592'000'000);
  EXPECT_EQ(cache.answers().threshold(), 0.97);
  const auto again = ParseGraphManifest(GraphToYaml(manifest->graph), "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(manifest->graph, again->graph));
  v1::Graph other = manifest->graph;
  other.mutable_spec()->mutable_cache()->mutable_answers()->set_threshold(0.9);
  const auto changes = DiffGraphs(manifest->graph, other);
  ASSERT_THAT(changes, SizeIs(1));
  EXPECT_EQ(changes[0].path(), "cache.answers.threshold");
}

TEST(CacheValidationTest, EveryErrorHasItsPlaceAndSaysWhatWouldBeRight) {
  EXPECT_THAT(ErrorOf("  cache: {decisions: {maxEntries: -1}}\n"),
              HasSubstr("g:8:35: 'maxEntries' is -1; it must be 0 to 1048576"));
  EXPECT_THAT(ErrorOf("  cache: {decisions: {maxEntries: 1048577}}\n"), HasSubstr("g:8:35: "));
  EXPECT_THAT(ErrorOf("  cache: {decisions: {maxEntries: 0, shared: true}}\n"),
              HasSubstr("keeps no decisions that could be shared"));
  EXPECT_THAT(ErrorOf("  cache: {answers: {maxEntries: 0}}\n"), HasSubstr("must be 1 to 1048576"));
  EXPECT_THAT(ErrorOf("  cache: {answers: {expiresAfterMs: 0}}\n"),
              HasSubstr("must be 1 to 2592000000"));
  EXPECT_THAT(ErrorOf("  cache: {answers: {expiresAfterMs: 2592000001}}\n"), HasSubstr("must be"));
  EXPECT_THAT(ErrorOf("  cache: {answers: {encoder: encoder, threshold: 0}}\n"),
              HasSubstr("must be above 0"));
  EXPECT_THAT(ErrorOf("  cache: {answers: {encoder: encoder, threshold: 1.1}}\n"),
              HasSubstr("g:8:50: 'threshold' is 1.1; it must be above 0 and at most 1"));
  EXPECT_THAT(ErrorOf("  cache: {answers: {encoder: encoder}}\n"),
              HasSubstr("'encoder' without 'threshold'"));
  EXPECT_THAT(ErrorOf("  cache: {answers: {threshold: 0.9}}\n"),
              HasSubstr("'threshold' goes with 'encoder' only"));
  EXPECT_THAT(ErrorOf("  cache: {answers: {encoder: encodr, threshold: 0.9}}\n"),
              HasSubstr("there is no model 'encodr'; did you mean 'encoder'"));
  EXPECT_THAT(ErrorOf("  cache: {answer: {}}\n"), HasSubstr("did you mean 'answers'"));
}

}  // namespace
}  // namespace octogate::router

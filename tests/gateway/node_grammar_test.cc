// Answers of model nodes that are limited to a grammar: the graph's, a request's, and what is wrong
// with either, with a real (tiny) model in the gateway's process.
#include "gateway/node_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gateway/node_generation.h"
#include "tests/gateway/model_gateway.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kHead[] = R"(apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models: [{name: tiny, path: llama3}]
  nodes:
    - name: main
      router: {members: [free, rules, schema, other], fallback: free, heads: [{lexical: {}}]}
    - {name: free, description: says anything, model: {model: tiny, maxTokens: 8}}
)";

constexpr char kGraph[] = R"(
    - name: rules
      description: says yes or no
      model:
        model: tiny
        maxTokens: 30
        grammar:
          ebnf: |
            answer ::= yes | no
            yes    ::= "yes" "!"{2}
            no     ::= "no" "!"{2}
    - name: schema
      description: names a colour
      model:
        model: tiny
        maxTokens: 60
        grammar: {jsonSchema: '{"enum": ["red", "blue"]}'}
    - {name: other, description: asks several, vote: {members: [rules, free]}}
)";

class NodeGrammarTest : public testing::Test {
 protected:
  ModelGateway gateway_{FixtureCheckpoints()};
};

TEST_F(NodeGrammarTest, AnswersAreTextsOfTheNodesGrammar) {
  const grpc::Status applied = gateway_.Apply(absl::StrCat(kHead, kGraph));
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  for (const double temperature : {0.0, 1.0, 2.0}) {
    v1::GenerateRequest request = Ask("Is it so?", "rules");
    request.mutable_sampling()->set_temperature(temperature);
    Answer answer = gateway_.Generate(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_TRUE(answer.text() == "yes!!" || answer.text() == "no!!") << answer.text();
    request.set_node("schema");
    answer = gateway_.Generate(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_TRUE(absl::StrContains(answer.text(), "\"red\"") ||
                absl::StrContains(answer.text(), "\"blue\""))
        << answer.text();
  }
}

TEST_F(NodeGrammarTest, TheRequestsOwnGrammarCountsInstead) {
  ASSERT_TRUE(gateway_.Apply(absl::StrCat(kHead, kGraph)).ok());
  for (const char* node : {"free", "rules", "schema", "other"}) {
    v1::GenerateRequest request = Ask("Is it so?", node);
    request.mutable_grammar()->set_ebnf("answer ::= \"per\" \"haps\"");
    const Answer answer = gateway_.Generate(request);
    ASSERT_TRUE(answer.status.ok()) << node << ": " << answer.status.error_message();
    EXPECT_EQ(answer.text(), "perhaps") << node;
  }
}

TEST_F(NodeGrammarTest, WhatIsWrongWithARequestsGrammarIsSaid) {
  ASSERT_TRUE(gateway_.Apply(absl::StrCat(kHead, kGraph)).ok());
  v1::GenerateRequest request = Ask("Is it so?", "free");
  request.mutable_grammar()->set_ebnf("answer ::= \"a\"\n  | )");
  Answer answer = gateway_.Generate(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("grammar:2:5:"));
  // What a worker does not know is no fault of the worker: it goes on being asked.
  for (int i = 0; i < 20; ++i) {
    request.mutable_grammar()->set_json_schema(R"({"not": {}})");
    answer = gateway_.Generate(request);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << answer.status.error_message();
  }
  EXPECT_TRUE(gateway_.Generate(Ask("Is it so?", "free")).status.ok());
}

TEST_F(NodeGrammarTest, AGraphWithAWrongGrammarIsNotApplied) {
  const grpc::Status status = gateway_.Apply(absl::StrCat(kHead, R"(
    - name: rules
      description: says yes or no
      model:
        model: tiny
        grammar:
          ebnf: |
            answer ::= "a" |
              * "b"
    - name: schema
      description: names a colour
      model: {model: tiny, grammar: {jsonSchema: '{"type": "objekt"}'}}
    - name: other
      description: says nothing
      model: {model: tiny, grammar: {ebnf: 'answer ::= answer "a"'}}
)"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("test.yaml:17:17: grammar:2:3:"));
  EXPECT_THAT(status.error_message(), HasSubstr("test.yaml:22:50: JSON Schema"));
  EXPECT_THAT(status.error_message(), HasSubstr("test.yaml:25:44: no text matches"));
}

}  // namespace
}  // namespace octogate::gateway

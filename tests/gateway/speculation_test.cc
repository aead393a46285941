// Speculation from the graph's options to what clients are told: a gateway with real (tiny) models
// in its own process. They verify whatever is drafted, so that nothing depends on time.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/gateway/catalog/test_database.h"
#include "tests/gateway/model_gateway.h"
#include "tests/gateway/verify_all.h"

namespace octogate::gateway {
namespace {

// Every pass that chose tokens chose one, and what was accepted.
void ExpectToAddUp(const v1::SpeculationUsage& usage, const v1::Usage& tokens) {
  EXPECT_GT(usage.steps(), 0);
  EXPECT_EQ(usage.steps() + usage.accepted_tokens(), tokens.completion_tokens());
  EXPECT_GT(usage.draft_us(), 0);
  int64_t drafted = 0;
  int64_t accepted = 0;
  for (const v1::DepthUsage& depth : usage.depths()) {
    drafted += depth.drafted_tokens();
    accepted += depth.accepted_tokens();
  }
  EXPECT_EQ(drafted, usage.drafted_tokens());
  EXPECT_EQ(accepted, usage.accepted_tokens());
}

void ExpectAccepted(const v1::SpeculationUsage& usage, const v1::Usage& tokens) {
  ExpectToAddUp(usage, tokens);
  EXPECT_GT(usage.drafted_tokens(), 0);
  EXPECT_GT(usage.accepted_tokens(), 0);
  EXPECT_GT(usage.verify_us(), 0);
}

class SpeculationTest : public testing::Test {
 protected:
  SpeculationTest() : gateway_(kDeployedModels, VerifyAll(), Options(folder_)) {
    folder_.MakeShop("shop.sqlite");
    const grpc::Status applied = gateway_.Apply(R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models:
    - {name: plain, path: octogate-mini}
    - {name: drafting, path: octogate-mini, speculation: {}}
    - {name: recycling, path: octogate-mini, speculation: {drafters: [recycling]}}
  catalogs: [{name: shop, sqlite: shop.sqlite}]
  nodes:
    - name: main
      router:
        members: [plain, talk, first, vote, check, choose, schema]
        fallback: talk
        heads: [{threshold: 1, lexical: {}}]
    - {name: plain, model: {model: plain, system: route, maxTokens: 80}}
    - {name: talk, model: {model: drafting, system: route, maxTokens: 80}}
    - {name: first, model: {model: recycling, system: route, maxTokens: 60}}
    - {name: second, model: {model: drafting, system: route, maxTokens: 40}}
    - {name: vote, vote: {members: [first, second, plain]}}
    - {name: check, verify: {answer: first, judge: second, prompt: "{output}", judgement: score}}
    - {name: choose, choice: {members: [good, bad], policy: cheapestAbove, tolerance: 0.5, maxCalls: 2}}
    - name: good
      model:
        model: drafting
        system: route
        maxTokens: 40
        price: {output: 1}
        quality: [{accuracy: 0.9}]
    - {name: bad, model: {model: plain, price: {output: 2}, quality: [{accuracy: 0.1}]}}
    - {name: schema, retriever: {catalog: shop, tableNode: second}}
    - {name: reply, tool: {tool: reply, parameters: {text: done}}}
  edges:
    - {from: first, to: second, on: success}
    - {from: schema, to: reply, on: success}
)");
    EXPECT_TRUE(applied.ok()) << applied.error_message();
  }

  static ServerOptions Options(const TestFolder& folder) {
    ServerOptions options;
    options.graph.model_root = folder.path();
    return options;
  }

  Answer AskNode(const std::string& node, v1::EventLevel level = v1::EVENT_LEVEL_ALL) {
    v1::GenerateRequest request = Ask(kRepetitiveQuery, node);
    request.set_events(level);
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_TRUE(!answer.events.empty() && answer.events.back().has_finished());
    return answer;
  }
  static std::vector<v1::NodeLeft> Left(const Answer& answer) {
    std::vector<v1::NodeLeft> left;
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.has_node_left()) left.push_back(event.node_left());
    }
    return left;
  }

  const TestFolder folder_;
  ModelGateway gateway_;
};

TEST_F(SpeculationTest, IsToldOfTheNodeAndOfTheAnswerWhichIsTheSame) {
  const Answer plain = AskNode("plain");
  EXPECT_FALSE(Left(plain).at(0).has_speculation());
  EXPECT_FALSE(plain.events.back().finished().has_speculation());

  const Answer drafted = AskNode("talk");
  EXPECT_EQ(drafted.text(), plain.text());
  const v1::NodeLeft left = Left(drafted).at(0);
  ExpectAccepted(left.speculation(), left.usage());
  ASSERT_EQ(left.speculation().drafters_size(), 2);
  EXPECT_EQ(left.speculation().drafters(0).drafter(), "recycling");
  EXPECT_EQ(left.speculation().drafters(1).drafter(), "suffix");
  const v1::Finished& finished = drafted.events.back().finished();
  EXPECT_EQ(finished.usage().completion_tokens(), left.usage().completion_tokens());
  EXPECT_EQ(finished.speculation().SerializeAsString(), left.speculation().SerializeAsString());
}

TEST_F(SpeculationTest, IsToldWhereNoNodesAreShown) {
  for (const v1::EventLevel level : {v1::EVENT_LEVEL_TOKENS, v1::EVENT_LEVEL_RESULT}) {
    const Answer answer = AskNode("talk", level);
    EXPECT_TRUE(Left(answer).empty());
    const v1::Finished& finished = answer.events.back().finished();
    ExpectAccepted(finished.speculation(), finished.usage());
  }
}

TEST_F(SpeculationTest, OfSeveralNodesIsAddedUp) {
  const Answer answer = AskNode("first");
  const std::vector<v1::NodeLeft> left = Left(answer);
  ASSERT_EQ(left.size(), 2u);
  ExpectToAddUp(left[0].speculation(), left[0].usage());
  ExpectToAddUp(left[1].speculation(), left[1].usage());
  const v1::Finished& finished = answer.events.back().finished();
  const v1::SpeculationUsage& sum = finished.speculation();
  ExpectAccepted(sum, finished.usage());
  const auto both = [&](int64_t (v1::SpeculationUsage::*value)() const) {
    return (left[0].speculation().*value)() + (left[1].speculation().*value)();
  };
  EXPECT_EQ(sum.drafted_tokens(), both(&v1::SpeculationUsage::drafted_tokens));
  EXPECT_EQ(sum.draft_us(), both(&v1::SpeculationUsage::draft_us));
  EXPECT_EQ(sum.verify_us(), both(&v1::SpeculationUsage::verify_us));
  EXPECT_EQ(sum.plain_us(), both(&v1::SpeculationUsage::plain_us));
  // The first node has but one drafter, which the second has, too.
  ASSERT_EQ(sum.drafters_size(), 2);
  EXPECT_EQ(sum.drafters(0).drafter(), "recycling");
  EXPECT_EQ(sum.drafters(0).accepted_tokens(),
            left[0].speculation().drafters(0).accepted_tokens() +
                left[1].speculation().drafters(0).accepted_tokens());
  EXPECT_EQ(sum.drafters(1).SerializeAsString(),
            left[1].speculation().drafters(1).SerializeAsString());
}

// Votes, verifiers, choices and retrievers ask for answers themselves.
TEST_F(SpeculationTest, OfAnswersThatANodeAskedForIsTheNodes) {
  for (const std::string node : {"check", "choose", "schema"}) {
    SCOPED_TRACE(node);
    const Answer answer = AskNode(node);
    const v1::NodeLeft left = Left(answer).at(0);
    EXPECT_EQ(left.node(), node);
    ExpectToAddUp(left.speculation(), left.usage());
    EXPECT_EQ(answer.events.back().finished().speculation().SerializeAsString(),
              left.speculation().SerializeAsString());
  }
  const Answer vote = AskNode("vote");
  const v1::NodeLeft left = Left(vote).at(0);
  // A third member does not speculate.
  v1::Usage speculating = left.usage();
  speculating.set_completion_tokens(0);
  for (const v1::GenerateResponse& event : vote.events) {
    for (const v1::Ballot& ballot : event.judged().ballots()) {
      if (ballot.node() == "plain") continue;
      speculating.set_completion_tokens(speculating.completion_tokens() +
                                        ballot.usage().completion_tokens());
    }
  }
  ExpectToAddUp(left.speculation(), speculating);
}

}  // namespace
}  // namespace octogate::gateway

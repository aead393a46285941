// A checkpoint with the spelling of Octopus v4, mapped in the graph, behind a running gateway: the
// decisions are those of the checkpoint's own logits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "tests/gateway/model_gateway.h"
#include "workers/engine/model_runner.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

constexpr int kTokens = 17;  // <nexa_0> to <nexa_16>
constexpr char kPrompt[] =
    "<|system|>You are a router. Below is the query from the users, please call the correct "
    "function and generate the parameters to call the function.<|end|><|user|>{query}<|end|>"
    "<|assistant|>";

std::string TokenOf(int i) { return absl::StrCat("<nexa_", i, ">"); }

// A router over 17 nodes, node-I behind <nexa_I>, that answer with their names.
std::string Graph(const std::string& first_token = TokenOf(0)) {
  std::string members;
  std::string tokens;
  std::string nodes;
  for (int i = 0; i < kTokens; ++i) {
    absl::StrAppend(&members, i == 0 ? "" : ", ", "node-", i);
    absl::StrAppend(&tokens, i == 0 ? "" : ", ", "node-", i, ": \"",
                    i == 0 ? first_token : TokenOf(i), "\"");
    absl::StrAppend(&nodes, "    - {name: node-", i,
                    ", tool: {tool: reply, parameters: {text: ", "\"this is node-", i, "\"}}}\n");
  }
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: octopus}\nspec:\n  entry: main\n"
      "  models: [{name: octopus, path: octopus}]\n  nodes:\n    - name: main\n      router:\n"
      "        members: [",
      members,
      "]\n        fallback: node-0\n        heads:\n          - threshold: 0\n"
      "            causal:\n              model: octopus\n              prompt: \"",
      kPrompt, "\"\n              tokens: {", tokens,
      "}\n              endToken: \"<nexa_end>\"\n              argumentStyle: call\n"
      "              maxArgumentTokens: 8\n",
      nodes);
}

class OctopusTest : public testing::Test {
 protected:
  ModelGateway gateway_{FixtureCheckpoints()};
};

TEST_F(OctopusTest, QueriesGoWhereTheCheckpointsLogitsSay) {
  const grpc::Status applied = gateway_.Apply(Graph());
  ASSERT_TRUE(applied.ok()) << applied.error_message();

  // The same checkpoint, asked directly.
  workers::LoadOptions load;
  load.device.threads = 1;
  auto model = workers::LoadModel(FixtureCheckpoints() + "/octopus", load);
  ASSERT_TRUE(model.ok()) << model.status();
  const workers::Tokenizer& tokenizer = *(*model)->tokenizer;
  std::vector<int32_t> ids;
  for (int i = 0; i < kTokens; ++i) ids.push_back(*tokenizer.TokenId(TokenOf(i)));

  std::set<std::string> chosen;
  for (int i = 0; i < 30; ++i) {
    const std::string query = absl::StrCat("Query number ", i, ": what is ", i * i, " good for?");
    SCOPED_TRACE(query);
    const auto prompt = tokenizer.Encode(absl::StrReplaceAll(kPrompt, {{"{query}", query}}),
                                         {.add_special_tokens = true, .parse_special = true});
    ASSERT_TRUE(prompt.ok()) << prompt.status();
    const auto scores =
        (*model)->engine->NextTokenLogits(*prompt, ids, absl::Now() + absl::Seconds(60));
    ASSERT_TRUE(scores.ok()) << scores.status();
    double total = 0;
    for (const float logit : scores->logits) total += std::exp(logit - scores->log_sum_exp);

    const Answer answer = gateway_.Generate(Ask(query));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    const auto event =
        std::find_if(answer.events.begin(), answer.events.end(),
                     [](const v1::GenerateResponse& event) { return event.has_decision(); });
    ASSERT_NE(event, answer.events.end());
    const v1::Decision& decision = event->decision();
    EXPECT_EQ(decision.head(), "causal");
    EXPECT_FALSE(decision.fallback());
    ASSERT_EQ(decision.heads_size(), 1);
    EXPECT_NEAR(decision.heads(0).live_probability(), total, 1e-4 * total);
    ASSERT_GT(decision.heads(0).scores_size(), 0);
    for (const v1::TokenScore& score : decision.heads(0).scores()) {
      const int number = std::stoi(score.node().substr(5));
      EXPECT_EQ(score.token(), TokenOf(number));
      const double probability =
          std::exp(scores->logits[static_cast<size_t>(number)] - scores->log_sum_exp) / total;
      EXPECT_NEAR(score.probability(), probability, 1e-4 * probability);
    }
    EXPECT_EQ(decision.node(), decision.heads(0).scores(0).node());
    EXPECT_EQ(decision.token(), decision.heads(0).scores(0).token());
    EXPECT_EQ(answer.text(), absl::StrCat("this is ", decision.node()));
    chosen.insert(decision.node());

    // Reading the prompt, and writing the argument after it.
    EXPECT_GE(decision.usage().prompt_tokens(), static_cast<int64_t>(prompt->size()));
    EXPECT_LE(decision.usage().completion_tokens(), 8 + 1);
    const v1::Finished& finished = answer.events.back().finished();
    EXPECT_EQ(finished.routing_usage().SerializeAsString(), decision.usage().SerializeAsString());
    EXPECT_EQ(finished.usage().SerializeAsString(), decision.usage().SerializeAsString());
  }
  EXPECT_GT(chosen.size(), 1u);
}

TEST_F(OctopusTest, ATokenThatTheCheckpointLacksIsNamed) {
  const grpc::Status applied = gateway_.Apply(Graph("<nexa_99>"));
  EXPECT_EQ(applied.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(applied.error_message(), HasSubstr("'<nexa_99>' of the node 'node-0'"));
}

}  // namespace
}  // namespace octogate::gateway

#include "gateway/request_validation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

namespace octogate::gateway {
namespace {

using testing::StartsWith;

v1::GenerateRequest ValidGenerate() {
  v1::GenerateRequest request;
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content("hello");
  return request;
}

// `change` makes the request wrong in `field`, and the error names it.
void ExpectInvalid(const std::string& field,
                   const std::function<void(v1::GenerateRequest&)>& change) {
  v1::GenerateRequest request = ValidGenerate();
  change(request);
  const absl::Status status = ValidateRequest(request);
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << field;
  EXPECT_THAT(std::string(status.message()), StartsWith(field + ": "));
}

void ExpectValid(const std::function<void(v1::GenerateRequest&)>& change) {
  v1::GenerateRequest request = ValidGenerate();
  change(request);
  EXPECT_EQ(ValidateRequest(request), absl::OkStatus());
}

TEST(RequestValidation, AcceptsWhatTheContractAllows) {
  ExpectValid([](auto&) {});
  ExpectValid([](auto& r) { r.set_max_tokens(32768); });
  ExpectValid([](auto& r) { r.set_top_logprobs(20); });
  ExpectValid([](auto& r) { r.mutable_messages(0)->set_content(std::string(1 << 20, 'x')); });
  ExpectValid([](auto& r) { r.mutable_sampling()->set_top_p(1); });
  ExpectValid([](auto& r) { r.mutable_sampling()->set_temperature(100); });
  ExpectValid([](auto& r) {
    for (int i = 0; i < 16; ++i) r.add_stop("x");
  });
}

TEST(RequestValidation, GrammarsOfRequestsAreWhatARequestCanSay) {
  ExpectValid([](auto& r) { r.mutable_grammar()->mutable_json(); });
  ExpectValid([](auto& r) { r.mutable_grammar()->set_json_schema("{}"); });
  ExpectValid([](auto& r) { r.mutable_grammar()->set_ebnf(std::string(256 << 10, ' ')); });
  ExpectInvalid("grammar", [](auto& r) { r.mutable_grammar(); });
  ExpectInvalid("grammar.sql", [](auto& r) { r.mutable_grammar()->mutable_sql(); });
  ExpectInvalid("grammar.ebnf", [](auto& r) { r.mutable_grammar()->set_ebnf(""); });
  ExpectInvalid("grammar.ebnf",
                [](auto& r) { r.mutable_grammar()->set_ebnf(std::string((256 << 10) + 1, ' ')); });
  ExpectInvalid("grammar.json_schema", [](auto& r) {
    r.mutable_grammar()->set_json_schema(std::string((256 << 10) + 1, ' '));
  });
}

TEST(RequestValidation, NamesTheFieldThatIsWrong) {
  ExpectInvalid("messages", [](auto& r) { r.clear_messages(); });
  ExpectInvalid("messages", [](auto& r) {
    for (int i = 0; i < 1024; ++i) *r.add_messages() = r.messages(0);
  });
  ExpectInvalid("messages", [](auto& r) {
    r.mutable_messages(0)->set_content(std::string((1 << 20) + 1, 'x'));
  });
  ExpectInvalid("messages[0].role", [](auto& r) { r.mutable_messages(0)->set_role("robot"); });
  ExpectInvalid("messages[0].role", [](auto& r) { r.mutable_messages(0)->set_role("assistant"); });
  ExpectInvalid("messages[0].content", [](auto& r) { r.mutable_messages(0)->clear_content(); });
  ExpectInvalid("node", [](auto& r) { r.set_node(std::string(64, 'n')); });
  ExpectInvalid("max_tokens", [](auto& r) { r.set_max_tokens(-1); });
  ExpectInvalid("max_tokens", [](auto& r) { r.set_max_tokens(32769); });
  ExpectInvalid("sampling.temperature",
                [](auto& r) { r.mutable_sampling()->set_temperature(-0.1); });
  ExpectInvalid("sampling.temperature", [](auto& r) {
    r.mutable_sampling()->set_temperature(std::numeric_limits<double>::quiet_NaN());
  });
  ExpectInvalid("sampling.top_k", [](auto& r) { r.mutable_sampling()->set_top_k(-1); });
  ExpectInvalid("sampling.top_p", [](auto& r) { r.mutable_sampling()->set_top_p(0); });
  ExpectInvalid("sampling.top_p", [](auto& r) {
    r.mutable_sampling()->set_top_p(std::numeric_limits<double>::quiet_NaN());
  });
  ExpectInvalid("sampling.min_p", [](auto& r) { r.mutable_sampling()->set_min_p(1.5); });
  ExpectInvalid("sampling.repetition_penalty",
                [](auto& r) { r.mutable_sampling()->set_repetition_penalty(0); });
  ExpectInvalid("sampling.presence_penalty",
                [](auto& r) { r.mutable_sampling()->set_presence_penalty(2.1); });
  ExpectInvalid("sampling.frequency_penalty",
                [](auto& r) { r.mutable_sampling()->set_frequency_penalty(-3); });
  ExpectInvalid("stop", [](auto& r) {
    for (int i = 0; i < 17; ++i) r.add_stop("x");
  });
  ExpectInvalid("stop[0]", [](auto& r) { r.add_stop(""); });
  ExpectInvalid("stop[1]", [](auto& r) {
    r.add_stop("x");
    r.add_stop(std::string(257, 'x'));
  });
  ExpectInvalid("top_logprobs", [](auto& r) { r.set_top_logprobs(21); });
  ExpectInvalid("events", [](auto& r) { r.set_events(static_cast<v1::EventLevel>(99)); });
  ExpectInvalid("tenant", [](auto& r) { r.set_tenant(std::string(129, 't')); });
}

TEST(RequestValidation, ChecksTheOtherRequests) {
  EXPECT_FALSE(ValidateRequest(v1::RouteRequest()).ok());
  v1::EmbedRequest embed;
  embed.set_model("m");
  EXPECT_THAT(std::string(ValidateRequest(embed).message()), StartsWith("inputs: "));
  for (int i = 0; i < 256; ++i) embed.add_inputs("x");
  EXPECT_EQ(ValidateRequest(embed), absl::OkStatus());
  embed.add_inputs("x");
  EXPECT_FALSE(ValidateRequest(embed).ok());

  v1::ApplyGraphRequest apply;
  EXPECT_THAT(std::string(ValidateRequest(apply).message()), StartsWith("manifest: "));
  apply.set_manifest("x");
  EXPECT_EQ(ValidateRequest(apply), absl::OkStatus());
  apply.set_manifest(std::string((4 << 20) + 1, 'x'));
  EXPECT_FALSE(ValidateRequest(apply).ok());

  v1::DiffGraphRequest diff;
  EXPECT_FALSE(ValidateRequest(diff).ok());
  diff.set_to_version(1);
  EXPECT_EQ(ValidateRequest(diff), absl::OkStatus());
  diff.set_manifest("x");
  EXPECT_FALSE(ValidateRequest(diff).ok());

  v1::ListTracesRequest traces;
  traces.set_limit(1001);
  EXPECT_FALSE(ValidateRequest(traces).ok());
  v1::ListGraphVersionsRequest versions;
  versions.set_limit(-1);
  EXPECT_FALSE(ValidateRequest(versions).ok());
  v1::DescribeModelsRequest models;
  EXPECT_EQ(ValidateRequest(models), absl::OkStatus());
  models.set_name(std::string(64, 'm'));
  EXPECT_FALSE(ValidateRequest(models).ok());
  EXPECT_FALSE(ValidateRequest(v1::DrainNodeRequest()).ok());
  EXPECT_FALSE(ValidateRequest(v1::GetTraceRequest()).ok());
}

TEST(RequestValidation, BoundsWhatTokensAreLearnedFromAndMeasuredOn) {
  v1::LearnTokenRequest learn;
  learn.set_node("music");
  EXPECT_FALSE(ValidateRequest(learn).ok()) << "no examples";
  learn.add_examples(std::string(16 << 10, 'x'));
  EXPECT_EQ(ValidateRequest(learn), absl::OkStatus());
  learn.mutable_examples(0)->push_back('x');
  EXPECT_THAT(std::string(ValidateRequest(learn).message()), StartsWith("examples[0]: "));
  learn.clear_examples();
  for (int i = 0; i < 1024; ++i) learn.add_examples(std::string(1 << 10, 'x'));
  EXPECT_EQ(ValidateRequest(learn), absl::OkStatus());
  learn.mutable_examples(5)->push_back('x');
  EXPECT_THAT(std::string(ValidateRequest(learn).message()), StartsWith("examples: "));
  learn.mutable_examples(5)->clear();
  EXPECT_THAT(std::string(ValidateRequest(learn).message()), StartsWith("examples[5]: "));
  learn.mutable_examples(5)->push_back('x');
  learn.add_examples("x");
  EXPECT_THAT(std::string(ValidateRequest(learn).message()), StartsWith("examples: "));

  v1::ForgetTokenRequest forget;
  EXPECT_FALSE(ValidateRequest(forget).ok());
  forget.set_node("music");
  EXPECT_EQ(ValidateRequest(forget), absl::OkStatus());
  forget.set_expected_version(-1);
  EXPECT_FALSE(ValidateRequest(forget).ok());

  v1::EvaluateTokensRequest evaluate;
  EXPECT_FALSE(ValidateRequest(evaluate).ok());
  v1::LabelledQuery& query = *evaluate.add_queries();
  query.set_query("play a song");
  EXPECT_THAT(std::string(ValidateRequest(evaluate).message()), StartsWith("queries[0].node: "));
  query.set_node("music");
  EXPECT_EQ(ValidateRequest(evaluate), absl::OkStatus());
  query.clear_query();
  EXPECT_THAT(std::string(ValidateRequest(evaluate).message()), StartsWith("queries[0].query: "));
  query.set_query("x");
  while (evaluate.queries_size() < 20'000) *evaluate.add_queries() = evaluate.queries(0);
  EXPECT_EQ(ValidateRequest(evaluate), absl::OkStatus());
  *evaluate.add_queries() = evaluate.queries(0);
  EXPECT_THAT(std::string(ValidateRequest(evaluate).message()), StartsWith("queries: "));
}

}  // namespace
}  // namespace octogate::gateway

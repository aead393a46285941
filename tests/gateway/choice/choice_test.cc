// Choices among recorded models under each policy, seen by a client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kHead[] = "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: chosen}\nspec:\n";
constexpr char kMath[] = "add the numbers in this sum of integers";
constexpr char kLaw[] = "which court hears an appeal against the verdict";

// Three members: `small` is cheap and right on sums, `large` is dear and right on everything,
// `fast` is fast and right on law. What they answer is recorded; what they got right is an outcome.
class ChoiceTest : public testing::Test {
 protected:
  ChoiceTest() : root_(Root()), gateway_(Options(root_)) {
    for (const auto& [name, math, law, latency] :
         {std::tuple("small", "A", "no idea", 30), std::tuple("large", "A", "B", 60),
          std::tuple("fast", "C", "B", 5)}) {
      std::ofstream out(root_ / absl::StrCat(name, ".jsonl"));
      out << Recorded(kMath, math, latency) << Recorded(kLaw, law, latency);
    }
    std::ofstream out(root_ / "outcomes.jsonl");
    for (int i = 0; i < 120; ++i) {
      const bool is_math = i % 2 == 0;
      const std::string query = absl::StrCat(is_math ? kMath : kLaw, " number ", i / 2, "x");
      // A few exceptions, so that nothing is certain.
      const bool odd = i % 20 < 2;
      out << "{\"query\": \"" << query << "\", \"domain\": \"" << (is_math ? "math" : "law")
          << "\", \"outcomes\": {" << Outcome("small", is_math != odd, is_math ? "A" : "D", 30)
          << ", " << Outcome("large", !odd, is_math ? "A" : "B", 60) << ", "
          << Outcome("fast", !is_math && !odd, is_math ? "C" : "B", 5.0005) << "}}\n";
    }
  }
  ~ChoiceTest() override { std::filesystem::remove_all(root_); }

  static std::string Recorded(const char* query, const char* answer, int latency) {
    return absl::StrCat("{\"query\": \"", query, "\", \"answer\": \"The answer is ", answer,
                        ".\", \"output_tokens\": 100, \"latency_ms\": ", latency, "}\n");
  }
  static std::string Outcome(const char* member, bool correct, const char* answer, double latency) {
    return absl::StrCat("\"", member, "\": {\"correct\": ", correct ? "true" : "false",
                        ", \"answer\": \"", correct ? answer : "E",
                        "\", \"output_tokens\": 100, \"latency_ms\": ", latency, "}");
  }
  static std::filesystem::path Root() {
    const std::filesystem::path root = absl::StrCat(testing::TempDir(), "/choice_test_", getpid());
    std::filesystem::remove_all(root);
    std::filesystem::create_directories(root);
    return root;
  }
  static ServerOptions Options(const std::filesystem::path& root) {
    ServerOptions options;
    options.graph.model_root = root;
    return options;
  }

  grpc::Status Apply(const std::string& choice, const std::string& rest = "") {
    return gateway_.Apply(absl::StrCat(kHead, rest, R"(  entry: pick
  nodes:
    - name: pick
      choice: {members: [small, large, fast], )",
                                       choice, R"(}
    - {name: small, replay: {recording: small.jsonl, price: {output: 10}}}
    - {name: large, replay: {recording: large.jsonl, price: {output: 100}}}
    - {name: fast, replay: {recording: fast.jsonl, price: {output: 50}}}
)"));
  }

  // The node that answered.
  std::string From(const v1::GenerateRequest& request) {
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    if (!answer.status.ok() || answer.events.empty()) return "";
    const std::string node = answer.events.back().finished().node();
    if (node != "pick") return node;
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.has_judged()) return event.judged().answer_from();
    }
    return node;
  }

  const std::filesystem::path root_;
  TestGateway gateway_;
};

TEST_F(ChoiceTest, TheCheapestThatIsProbablyRightAnswers) {
  const grpc::Status applied =
      Apply("policy: cheapestAbove, tolerance: 0.6, outcomes: outcomes.jsonl, same: choice");
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  const Answer answer = gateway_.Generate(Ask(kMath));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text(), "The answer is A.");
  EXPECT_THAT(answer.kinds(), ElementsAre("started", "node_entered", "decision", "node_left",
                                          "node_entered", "tokens", "node_left", "finished"));
  const v1::Decision& decision = answer.events[2].decision();
  EXPECT_EQ(decision.router(), "pick");
  EXPECT_EQ(decision.node(), "small");
  EXPECT_EQ(decision.head(), "outcomes");
  EXPECT_FALSE(decision.fallback());
  EXPECT_GT(decision.probability(), 0.6);
  ASSERT_EQ(decision.members_size(), 3);
  EXPECT_LT(decision.members(2).probability(), 0.4);
  EXPECT_GT(decision.members(1).cost(), 5 * decision.members(0).cost());
  EXPECT_THAT(decision.reason(), HasSubstr("cheapest of 3 members"));
  EXPECT_EQ(answer.events.back().finished().calls(), 1);
  EXPECT_EQ(From(Ask(kLaw)), "fast");
}

TEST_F(ChoiceTest, TheBestUnderABudgetAnswers) {
  ASSERT_TRUE(Apply("policy: bestUnder, budget: 0.006, outcomes: outcomes.jsonl").ok());
  EXPECT_EQ(From(Ask(kMath)), "small");
  EXPECT_EQ(From(Ask(kLaw)), "fast");
  ASSERT_TRUE(Apply("policy: bestUnder, budget: 0.0001, outcomes: outcomes.jsonl").ok());
  const Answer answer = gateway_.Generate(Ask(kLaw));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("may be asked costs 0.001"));
}

TEST_F(ChoiceTest, TheFastestThatIsProbablyRightAnswers) {
  ASSERT_TRUE(Apply("policy: fastestAbove, quality: 0.6, outcomes: outcomes.jsonl").ok());
  EXPECT_EQ(From(Ask(kLaw)), "fast");
  EXPECT_EQ(From(Ask(kMath)), "small");
}

TEST_F(ChoiceTest, SpeedIsMeasuredOnceThereAreAnswers) {
  ASSERT_TRUE(Apply("policy: fastestAbove, quality: 0, outcomes: outcomes.jsonl").ok());
  const auto expected = [&] {
    return gateway_.Generate(Ask(kLaw)).events[2].decision().members(2).duration_ms();
  };
  // No whole number of microseconds, as measured times are.
  EXPECT_NEAR(expected(), 5.0005, 1e-9);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(From(Ask(kLaw, "fast")), "fast");
  // Without keepTime a recorded answer comes when it comes, and that is what is measured.
  const double measured = expected();
  EXPECT_GT(std::abs(measured - 5.0005), 1e-4);
  EXPECT_GT(measured, 0);
}

TEST_F(ChoiceTest, RequestsAndTenantsSayWhatTheyWant) {
  ASSERT_TRUE(Apply("policy: cheapestAbove, tolerance: 0.01, outcomes: outcomes.jsonl",
                    "  limits:\n    tenants:\n      - {tenant: gold, quality: 0.6}\n"
                    "      - {tenant: thrifty, maxCost: 0.004}\n"
                    "      - {tenant: mute, maxCalls: 1, maxCost: 0}\n")
                  .ok());
  EXPECT_EQ(From(Ask(kLaw)), "small");
  v1::GenerateRequest request = Ask(kLaw);
  request.set_quality(0.6);
  EXPECT_EQ(From(request), "fast");
  request = Ask(kLaw);
  request.set_tenant("gold");
  EXPECT_EQ(From(request), "fast");
  request.set_quality(0);
  EXPECT_EQ(From(request), "small");
  // At their worst, with 256 tokens each, `small` costs 0.00256 and `fast` 0.0128.
  request = Ask(kLaw);
  request.set_quality(0.6);
  request.set_max_cost(0.004);
  EXPECT_EQ(From(request), "small");
  request.clear_max_cost();
  request.set_tenant("thrifty");
  const Answer thrifty = gateway_.Generate(request);
  EXPECT_EQ(thrifty.events.back().finished().node(), "small");
  EXPECT_TRUE(thrifty.events[2].decision().fallback());
  EXPECT_THAT(thrifty.events[2].decision().members(2).excluded(), HasSubstr("(maxCost)"));
  request.set_tenant("mute");
  const Answer mute = gateway_.Generate(request);
  EXPECT_EQ(mute.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(mute.status.error_message(), HasSubstr("no member may be asked"));
  request.set_quality(1.5);
  EXPECT_EQ(gateway_.Generate(request).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(ChoiceTest, ADoubtfulAnswerIsLookedUpWithAnotherMember) {
  const grpc::Status applied = Apply(
      "policy: cheapestAbove, tolerance: 0.05, sure: 0.7, maxCalls: 2, same: choice, "
      "outcomes: outcomes.jsonl");
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  const Answer sure = gateway_.Generate(Ask(kMath));
  ASSERT_TRUE(sure.status.ok()) << sure.status.error_message();
  EXPECT_THAT(sure.kinds(), ElementsAre("started", "node_entered", "decision", "judged", "tokens",
                                        "node_left", "finished"));
  EXPECT_EQ(sure.events.back().finished().calls(), 1);
  EXPECT_GT(sure.events[3].judged().confidence(), 0.7);
  const Answer doubtful = gateway_.Generate(Ask(kLaw));
  ASSERT_TRUE(doubtful.status.ok()) << doubtful.status.error_message();
  const v1::Judged& judged = doubtful.events[3].judged();
  ASSERT_EQ(judged.ballots_size(), 2);
  EXPECT_EQ(judged.ballots(0).node(), "small");
  EXPECT_EQ(judged.ballots(0).answer(), "");
  EXPECT_EQ(doubtful.text(), "The answer is B.");
  const v1::Finished& finished = doubtful.events.back().finished();
  EXPECT_EQ(finished.calls(), 2);
  EXPECT_EQ(finished.usage().completion_tokens(), 200);
  // One call left: the second member is not asked.
  v1::GenerateRequest request = Ask(kLaw);
  request.set_max_calls(1);
  const Answer poor = gateway_.Generate(request);
  ASSERT_TRUE(poor.status.ok()) << poor.status.error_message();
  EXPECT_EQ(poor.events.back().finished().calls(), 1);
  EXPECT_EQ(poor.text(), "The answer is no idea.");
}

TEST_F(ChoiceTest, AMemberThatFailsOrIsDrainedIsNotTheEnd) {
  ASSERT_TRUE(
      Apply("policy: cheapestAbove, tolerance: 0.5, maxCalls: 2, outcomes: outcomes.jsonl").ok());
  std::ofstream(root_ / "small.jsonl") << Recorded("another query", "A", 1);
  ASSERT_TRUE(Apply("policy: cheapestAbove, tolerance: 0.5, maxCalls: 2, outcomes: outcomes.jsonl, "
                    "same: choice")
                  .ok());
  const Answer answer = gateway_.Generate(Ask(kMath));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.events[3].judged().ballots(0).code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(answer.events[3].judged().answer_from(), "large");
  grpc::ClientContext context;
  v1::DrainNodeRequest drain;
  drain.set_name("small");
  v1::DrainNodeResponse drained;
  ASSERT_TRUE(gateway_.admin()->DrainNode(&context, drain, &drained).ok());
  const Answer without = gateway_.Generate(Ask(kMath));
  EXPECT_EQ(without.events[2].decision().node(), "large");
  EXPECT_EQ(without.events[2].decision().members(0).excluded(), "draining");
}

TEST_F(ChoiceTest, QualityMayBeStatedByDomain) {
  const grpc::Status applied = gateway_.Apply(absl::StrCat(kHead, R"(  entry: pick
  nodes:
    - name: pick
      choice:
        members: [small, fast]
        policy: cheapestAbove
        tolerance: 0.5
        domains:
          - {name: math, examples: [add the numbers in a sum, multiply these integers,
                                    the sum of two numbers, subtract the integers]}
          - {name: law, examples: [which court decides, an appeal against a verdict,
                                   the court hears the case, what the verdict means]}
    - name: small
      replay:
        recording: small.jsonl
        price: {output: 10}
        quality: [{domain: math, accuracy: 0.9}, {accuracy: 0.1}]
    - {name: fast, replay: {recording: fast.jsonl, price: {output: 50}, quality: [{accuracy: 0.7}]}}
)"));
  ASSERT_TRUE(applied.ok()) << applied.error_message();
  const Answer math = gateway_.Generate(Ask(kMath));
  EXPECT_EQ(math.events[2].decision().node(), "small") << math.events[2].ShortDebugString();
  EXPECT_EQ(math.events[2].decision().head(), "quality");
  EXPECT_EQ(From(Ask(kLaw)), "fast");
}

TEST_F(ChoiceTest, RouteSaysWhoWouldBeAsked) {
  ASSERT_TRUE(Apply("policy: fastestAbove, quality: 0.6, outcomes: outcomes.jsonl").ok());
  grpc::ClientContext context;
  v1::RouteRequest request;
  *request.mutable_messages() = Ask(kLaw).messages();
  v1::RouteResponse response;
  const grpc::Status status = gateway_.gateway()->Route(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.node(), "fast");
  ASSERT_EQ(response.decisions_size(), 1);
  EXPECT_EQ(response.decisions(0).members_size(), 3);
}

TEST_F(ChoiceTest, OutcomesThatAreWrongAreRefusedWithTheirPlace) {
  const auto refused = [&](const std::string& content) {
    std::ofstream(root_ / "bad.jsonl") << content;
    return Apply("policy: fastestAbove, quality: 0.6, outcomes: bad.jsonl").error_message();
  };
  EXPECT_THAT(Apply("policy: fastestAbove, quality: 0.6, outcomes: none.jsonl").error_message(),
              HasSubstr("none.jsonl"));
  EXPECT_THAT(Apply("policy: fastestAbove, quality: 0.6, outcomes: ../out.jsonl").error_message(),
              HasSubstr("leads out of"));
  EXPECT_THAT(refused("{\"query\": \"q\"}\n"), HasSubstr("bad.jsonl:1: the key \"outcomes\""));
  EXPECT_THAT(refused("{\"query\": \"q\", \"outcomes\": {\"small\": 1}}\n"),
              HasSubstr("must be true, false or an object"));
  EXPECT_THAT(refused("\n{\"query\": \"q\", \"outcomes\": {\"small\": {}}}\n"),
              HasSubstr("bad.jsonl:2: the outcome of 'small': the key \"correct\" is missing"));
  EXPECT_THAT(refused("{\"query\": \"q\", \"outcomes\": {\"smal\": true}}\n"),
              HasSubstr("no outcome of any member: small, large, fast"));
  EXPECT_THAT(refused("{\"query\": \"q\", \"outcomes\": {\"small\": true}}\n"
                      "{\"query\": \"q\", \"outcomes\": {\"small\": true}}\n"),
              HasSubstr("bad.jsonl:2: the query is that of line 1"));
  EXPECT_THAT(refused("{\"query\": \"q\", \"outcomes\": {\"small\": true"), HasSubstr("cut off"));
  EXPECT_THAT(refused("{\"query\": \"q\", \"outcomes\": {\"small\": {\"correct\": true, "
                      "\"output_tokens\": -1}}}\n"),
              HasSubstr("\"output_tokens\" must be"));
  // Outcomes of one member are not those of the others.
  EXPECT_THAT(refused("{\"query\": \"q\", \"outcomes\": {\"small\": true}}\n"),
              HasSubstr("nothing says how often 'large' is right"));
}

}  // namespace
}  // namespace octogate::gateway

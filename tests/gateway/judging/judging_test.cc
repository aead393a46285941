// Votes, verifiers and budgets in graphs of recorded and stub answers, seen by a client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gateway/judging/verify_call.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kHead[] =
    "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: judged}\nspec:\n"
    "  models: [{name: stub, workers: [\"WORKER\"]}]\n";

class JudgingTest : public testing::Test {
 protected:
  JudgingTest() : root_(Root()), gateway_(Options(root_)) {
    for (const auto& [name, answer, tokens] :
         {std::tuple("a", "The answer is (A).", 10), std::tuple("b", "It must be (B)", 20),
          std::tuple("c", "so (B) it is", 40)}) {
      std::ofstream(root_ / absl::StrCat(name, ".jsonl"))
          << "{\"query\": \"q\", \"answer\": \"" << answer << "\", \"output_tokens\": " << tokens
          << "}\n";
    }
  }
  ~JudgingTest() override { std::filesystem::remove_all(root_); }

  static std::filesystem::path Root() {
    const std::filesystem::path root = testing::TempDir() + "/judging_test";
    std::filesystem::remove_all(root);
    std::filesystem::create_directories(root);
    return root;
  }
  static ServerOptions Options(const std::filesystem::path& root) {
    ServerOptions options;
    options.graph.model_root = root;
    return options;
  }
  grpc::Status Apply(const std::string& spec) {
    return gateway_.Apply(
        absl::StrReplaceAll(absl::StrCat(kHead, spec), {{"WORKER", worker_.address()}}));
  }

  static const v1::GenerateResponse* Find(const Answer& answer,
                                          v1::GenerateResponse::EventCase which) {
    for (const auto& event : answer.events) {
      if (event.event_case() == which) return &event;
    }
    return nullptr;
  }

  StubWorker worker_;
  const std::filesystem::path root_;
  TestGateway gateway_;
};

constexpr char kNodes[] = R"(
    - {name: a, replay: {recording: a.jsonl, price: {input: 1, output: 10}}}
    - {name: b, replay: {recording: b.jsonl, price: {output: 10}}}
    - {name: c, replay: {recording: c.jsonl, price: {output: 10}}}
)";

TEST_F(JudgingTest, TheAnswerOfMostMembersWins) {
  ASSERT_TRUE(
      Apply(absl::StrCat("  entry: all\n  nodes:\n    - {name: talk, model: {model: stub}}\n"
                         "    - {name: all, vote: {members: [a, b, c], same: choice}}\n",
                         kNodes, "  edges:\n    - {from: all, to: talk, on: error}\n"))
          .ok());
  const Answer answer = gateway_.Generate(Ask("q"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text(), "It must be (B)");
  EXPECT_THAT(answer.kinds(),
              ElementsAre("started", "node_entered", "judged", "tokens", "node_left", "finished"));
  const v1::Judged& judged = answer.events[2].judged();
  EXPECT_EQ(judged.node(), "all");
  EXPECT_EQ(judged.answer_from(), "b");
  EXPECT_NEAR(judged.confidence(), 2.0 / 3, 1e-9);
  ASSERT_EQ(judged.ballots_size(), 3);
  EXPECT_EQ(judged.ballots(0).answer(), "A");
  EXPECT_EQ(judged.ballots(2).answer(), "B");
  const v1::Finished& finished = answer.events.back().finished();
  EXPECT_EQ(finished.usage().completion_tokens(), 70);
  EXPECT_EQ(finished.calls(), 3);
  EXPECT_NEAR(finished.cost(), (70 * 10 + 1) / 1e6, 1e-12);
  EXPECT_NEAR(answer.events[4].node_left().confidence(), 2.0 / 3, 1e-9);
}

TEST_F(JudgingTest, LittleAgreementEscalates) {
  ASSERT_TRUE(
      Apply(absl::StrCat("  entry: pair\n  nodes:\n    - {name: talk, model: {model: stub}}\n"
                         "    - {name: pair, vote: {members: [a, b], same: choice}}\n",
                         kNodes,
                         "  edges:\n    - {from: pair, to: c, on: lowConfidence, below: 0.9}\n"
                         "    - {from: pair, to: talk, on: error}\n"))
          .ok());
  const Answer answer = gateway_.Generate(Ask("q"));
  EXPECT_EQ(answer.text(), "so (B) it is");
  const auto* edge = Find(answer, v1::GenerateResponse::kEdgeTaken);
  ASSERT_NE(edge, nullptr);
  EXPECT_EQ(edge->edge_taken().reason(), "confidence 0.5 < 0.9");
}

TEST_F(JudgingTest, EnoughAgreementSavesCalls) {
  ASSERT_TRUE(
      Apply(absl::StrCat("  entry: all\n  nodes:\n    - {name: talk, model: {model: stub}}\n"
                         "    - name: all\n      vote: {members: [b, c, a], same: choice, "
                         "parallel: 2, enough: 2}\n",
                         kNodes, "  edges:\n    - {from: all, to: talk, on: error}\n"))
          .ok());
  const Answer answer = gateway_.Generate(Ask("q"));
  EXPECT_EQ(answer.text(), "It must be (B)");
  EXPECT_EQ(answer.events.back().finished().calls(), 2);
  EXPECT_THAT(gateway_.server().metrics().Text(),
              HasSubstr("octogate_votes_total{outcome=\"answered\"} 1\n"));
}

TEST_F(JudgingTest, ExpectedAccuracyWeighs) {
  ASSERT_TRUE(Apply(R"(  entry: all
  nodes:
    - {name: talk, model: {model: stub}}
    - name: all
      vote: {members: [a, b], same: choice, weight: expectedAccuracy}
    - name: a
      replay:
        recording: a.jsonl
        expected: [{upToTokens: 10, accuracy: 0.3}, {upToTokens: 20, accuracy: 0.9}]
    - name: b
      replay:
        recording: b.jsonl
        expected: [{upToTokens: 10, accuracy: 0.1}, {upToTokens: 11, accuracy: 0.5}]
  edges:
    - {from: all, to: talk, on: error}
    - {from: a, to: b, on: lowConfidence, measure: expectedAccuracy, below: 0.4}
)")
                  .ok());
  const Answer answer = gateway_.Generate(Ask("q"));
  EXPECT_EQ(answer.text(), "It must be (B)") << "0.5 beats 0.3";
  EXPECT_NEAR(Find(answer, v1::GenerateResponse::kJudged)->judged().confidence(), 0.5 / 0.8, 1e-9);
  const Answer edge = gateway_.Generate(Ask("q", "a"));
  EXPECT_EQ(edge.text(), "It must be (B)");
  EXPECT_EQ(Find(edge, v1::GenerateResponse::kEdgeTaken)->edge_taken().reason(),
            "confidence 0.3 < 0.4 (expected accuracy of 10 tokens)");
}

TEST_F(JudgingTest, MembersThatFailAgreeWithNobody) {
  ASSERT_TRUE(
      Apply(absl::StrCat("  entry: all\n  nodes:\n    - {name: talk, model: {model: stub}}\n"
                         "    - {name: all, vote: {members: [a, talk], samples: 2}}\n",
                         kNodes,
                         "  edges:\n    - {from: all, to: b, on: error}\n"
                         "    - {from: b, to: c, on: error}\n"))
          .ok());
  // The recording does not know the query; the stub does.
  const Answer half = gateway_.Generate(Ask("stub tokens=2 text=x"));
  EXPECT_EQ(half.text(), "xx");
  const v1::Judged& judged = Find(half, v1::GenerateResponse::kJudged)->judged();
  EXPECT_NEAR(judged.confidence(), 0.5, 1e-9);
  EXPECT_EQ(judged.ballots(0).code(), static_cast<int>(grpc::StatusCode::NOT_FOUND));
  const Answer none = gateway_.Generate(Ask("stub fail_after=0 code=13"));
  EXPECT_EQ(none.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_NE(Find(none, v1::GenerateResponse::kEdgeTaken), nullptr) << "error edges apply";
}

TEST_F(JudgingTest, CancellationAndDeadlinesReachTheMembers) {
  ASSERT_TRUE(Apply("  entry: all\n  nodes:\n    - {name: talk, model: {model: stub}}\n"
                    "    - {name: all, vote: {members: [talk], samples: 3}}\n")
                  .ok());
  const Answer late =
      gateway_.Generate(Ask("stub tokens=200 delay_us=20000"), absl::Milliseconds(200));
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  while (worker_.cancelled() < 3) absl::SleepFor(absl::Milliseconds(1));
  grpc::ClientContext context;
  auto reader = gateway_.gateway()->Generate(&context, Ask("stub tokens=200 delay_us=20000"));
  v1::GenerateResponse event;
  while (reader->Read(&event) && !event.has_node_entered()) {
  }
  while (worker_.started() < 6) absl::SleepFor(absl::Milliseconds(1));
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  while (worker_.cancelled() < 6) absl::SleepFor(absl::Milliseconds(1));
  while (gateway_.Nodes().nodes(0).in_flight() > 0) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(JudgingTest, AJudgeSaysHowSureToBe) {
  ASSERT_TRUE(
      Apply(absl::StrCat("  entry: checked\n  nodes:\n    - {name: judge, model: {model: stub}}\n"
                         "    - name: checked\n      verify: {answer: a, judge: judge, judgement: "
                         "score, prompt: \"stub tokens=1 text=PROMPT\"}\n",
                         kNodes,
                         "  edges:\n    - {from: checked, to: b, on: lowConfidence, below: 0.5}\n"
                         "    - {from: b, to: c, on: error}\n"))
          .ok());
  const Answer unread = gateway_.Generate(Ask("q"));
  EXPECT_EQ(unread.text(), "It must be (B)") << "a judge that states no number";
  EXPECT_THAT(Find(unread, v1::GenerateResponse::kJudged)->judged().reason(),
              HasSubstr("says nothing that counts: 'PROMPT'"));
  ASSERT_TRUE(
      Apply(absl::StrCat("  entry: checked\n  nodes:\n    - {name: judge, model: {model: stub}}\n"
                         "    - name: checked\n      verify: {answer: a, judge: judge, judgement: "
                         "score, prompt: \"stub tokens=1 text=0.75\"}\n",
                         kNodes,
                         "  edges:\n    - {from: checked, to: b, on: lowConfidence, below: 0.5}\n"
                         "    - {from: b, to: c, on: error}\n"))
          .ok());
  const Answer sure = gateway_.Generate(Ask("q"));
  EXPECT_EQ(sure.text(), "The answer is (A).");
  EXPECT_NEAR(Find(sure, v1::GenerateResponse::kJudged)->judged().confidence(), 0.75, 1e-9);
  EXPECT_EQ(sure.events.back().finished().calls(), 2);
}

TEST(JudgementTest, Reads) {
  EXPECT_EQ(ReadJudgement(" **Yes**, it is", v1::JUDGEMENT_YES_NO, 0), 1.0);
  EXPECT_EQ(ReadJudgement("no.", v1::JUDGEMENT_YES_NO, 0), 0.0);
  EXPECT_EQ(ReadJudgement("Yesterday", v1::JUDGEMENT_YES_NO, 0), std::nullopt);
  EXPECT_EQ(ReadJudgement("", v1::JUDGEMENT_YES_NO, 0), std::nullopt);
  EXPECT_EQ(ReadJudgement("yes", v1::JUDGEMENT_PROBABILITY, 0.75), 0.75);
  EXPECT_EQ(ReadJudgement("no", v1::JUDGEMENT_PROBABILITY, 0.75), 0.25);
  EXPECT_EQ(ReadJudgement("yes", v1::JUDGEMENT_PROBABILITY, std::nan("")), std::nullopt);
  EXPECT_EQ(ReadJudgement("I give it 0.4", v1::JUDGEMENT_SCORE, 0), 0.4);
  EXPECT_EQ(ReadJudgement("7 of 10", v1::JUDGEMENT_SCORE, 0), std::nullopt);
}

TEST_F(JudgingTest, MeasuresSeeSingleTokens) {
  ASSERT_TRUE(
      Apply(absl::StrCat("  entry: talk\n  nodes:\n    - {name: talk, model: {model: stub}}\n",
                         kNodes,
                         "  edges:\n    - {from: talk, to: a, on: lowConfidence, measure: "
                         "minimum, below: 0.5, input: q}\n"
                         "    - {from: a, to: b, on: error}\n"
                         "    - {from: b, to: c, on: error}\n"))
          .ok());
  const Answer answer = gateway_.Generate(Ask("stub tokens=3 text=% logprob=-2"));
  EXPECT_EQ(answer.text(), "The answer is (A).");
  EXPECT_THAT(Find(answer, v1::GenerateResponse::kEdgeTaken)->edge_taken().reason(),
              HasSubstr("(minimum of 3 tokens)"));
}

TEST_F(JudgingTest, BudgetsRefuseEdgesAndNodes) {
  const std::string graph = absl::StrCat(
      "  entry: talk\n  nodes:\n    - {name: talk, model: {model: stub}}\n"
      "    - {name: all, vote: {members: [a, b, c]}}\n",
      kNodes,
      "  edges:\n    - {from: talk, to: all, on: lowConfidence, below: 0.9, input: q}\n"
      "    - {from: talk, to: a, on: lowConfidence, below: 0.9, input: q}\n"
      "    - {from: all, to: b, on: lowConfidence, below: 0.9, input: q}\n");
  ASSERT_TRUE(Apply(absl::StrCat(graph, "  limits: {maxCalls: 4}\n")).ok());
  v1::GenerateRequest request = Ask("stub tokens=1 text=unsure logprob=-2");
  const Answer four = gateway_.Generate(request);
  EXPECT_EQ(four.events.back().finished().calls(), 4);
  EXPECT_THAT(Find(four, v1::GenerateResponse::kEdgeRefused)->edge_refused().reason(),
              HasSubstr("it needs up to 1 call, and 0 of 4 are left (maxCalls); confidence 0."));

  request.set_max_calls(2);
  const Answer two = gateway_.Generate(request);
  EXPECT_EQ(two.text(), "The answer is (A).") << "the vote does not fit, the next edge does";
  request.set_max_calls(1);
  const Answer one = gateway_.Generate(request);
  EXPECT_TRUE(one.status.ok());
  EXPECT_EQ(one.text(), "unsure") << "no edge fits: the answer stands";
  request.set_max_calls(100);
  EXPECT_EQ(gateway_.Generate(request).events.back().finished().calls(), 4) << "only lower counts";

  v1::GenerateRequest vote = Ask("q", "all");
  vote.set_max_calls(2);
  const Answer refused = gateway_.Generate(vote);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("it needs up to 3 calls, and 2 of 2"));

  v1::GenerateRequest cheap = Ask("q", "a");
  cheap.set_max_cost(0.001);
  const Answer costly = gateway_.Generate(cheap);
  EXPECT_EQ(costly.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
      << "256 tokens at 10 per million may cost 0.00256";
  cheap.set_max_cost(0.003);
  EXPECT_TRUE(gateway_.Generate(cheap).status.ok());
  cheap.set_max_cost(-1);
  EXPECT_EQ(gateway_.Generate(cheap).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace octogate::gateway

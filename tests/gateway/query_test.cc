// The course of queries through graphs, seen by a client: which events come, in which order, and
// where an answer comes from.
#include "gateway/query.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>

#include "absl/strings/str_replace.h"
#include "tests/gateway/stub_worker.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// One router over two models and a tool, with edges of every kind. WORKER is replaced.
constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models:
    - name: stub
      workers: ["WORKER"]
  nodes:
    - name: main
      router:
        members: [talk, sum, careful, draft, fragile, opening, doubtful, strict, lenient]
        fallback: talk
        heads:
          - threshold: 0.5
            lexical: {}
    - name: talk
      description: talks about anything
      examples: ["tell me a story", "say something nice", "stub tokens", "stub echo"]
      model: {model: stub, system: sys}
    - name: sum
      description: adds numbers
      examples: ["1 + 1", "12 * 3", "add 4 and 5", "7 / 2"]
      tool: {tool: calculator}
    - name: careful
      description: the node named careful
      model: {model: stub}
    - name: second
      model: {model: stub, system: second}
    - name: draft
      description: the node named draft
      model: {model: stub, system: draft}
    - name: polish
      model: {model: stub, system: polish}
    - name: fragile
      description: the node named fragile
      model: {model: stub}
    - name: opening
      description: the node named opening
      model: {model: stub}
    - name: doubtful
      description: the node named doubtful
      model: {model: stub}
    - name: middle
      model: {model: stub, system: middle}
    - name: strict
      description: the node named strict
      model: {model: stub, grammar: {json: {}}}
    - name: lenient
      description: the node named lenient
      model: {model: stub}
    - name: closing
      model: {model: stub, system: closing}
    - name: rescue
      tool: {tool: reply, parameters: {text: "rescued"}}
  edges:
    - {from: careful, to: second, on: lowConfidence, below: 0.5, input: "stub echo=1"}
    - {from: draft, to: polish, on: success, input: "stub echo=1 {output}"}
    - {from: fragile, to: rescue, on: error}
    - {from: doubtful, to: closing, on: error, input: "stub echo=1 [{doubtful.output}]{doubtful.error}"}
    - {from: strict, to: closing, on: success, input: "stub echo=1 {output}"}
    - {from: strict, to: closing, on: error, input: "stub echo=1 [{error}]"}
    - {from: lenient, to: closing, on: success, input: "stub echo=1 {output}"}
    - {from: opening, to: middle, on: success, input: "stub tokens=1 text=m"}
    - {from: middle, to: closing, on: success,
       input: "stub echo=1 {opening.output}/{output}/{polish.output}/{opening.output}"}
)";

class QueryTest : public testing::Test {
 protected:
  QueryTest() {
    const grpc::Status status =
        gateway_.Apply(absl::StrReplaceAll(kGraph, {{"WORKER", worker_.address()}}));
    EXPECT_TRUE(status.ok()) << status.error_message();
    if (!status.ok()) std::abort();
  }

  StubWorker worker_;
  TestGateway gateway_;
};

TEST_F(QueryTest, EventsComeInTheirOrder) {
  const Answer answer = gateway_.Generate(Ask("stub tokens=3 text=%; tell me a story"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(answer.kinds(), ElementsAre("started", "node_entered", "decision", "node_left",
                                          "node_entered", "tokens", "node_left", "finished"));
  EXPECT_EQ(answer.text(), "1;2;3;");
  const v1::Finished& finished = answer.events.back().finished();
  EXPECT_EQ(finished.node(), "talk");
  EXPECT_EQ(finished.text(), "");
  EXPECT_EQ(finished.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(finished.usage().completion_tokens(), 3);
  EXPECT_EQ(finished.trace_id(), answer.events[0].started().trace_id());
  EXPECT_EQ(answer.events[0].started().graph_version(), 1);
  EXPECT_EQ(answer.events[4].node_entered().replica(), worker_.address());
}

TEST_F(QueryTest, LevelsLeaveOutEvents) {
  v1::GenerateRequest request = Ask("stub tokens=2 text=%;", "talk");
  request.set_events(v1::EVENT_LEVEL_TOKENS);
  EXPECT_THAT(gateway_.Generate(request).kinds(), ElementsAre("tokens", "finished"));
  request.set_events(v1::EVENT_LEVEL_RESULT);
  const Answer result = gateway_.Generate(request);
  EXPECT_THAT(result.kinds(), ElementsAre("finished"));
  EXPECT_EQ(result.events[0].finished().text(), "1;2;");
}

TEST_F(QueryTest, ATool) {
  v1::GenerateRequest request = Ask("12 * 12");
  const Answer answer = gateway_.Generate(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.events.back().finished().node(), "sum");
  EXPECT_THAT(answer.text(), HasSubstr("144"));
}

TEST_F(QueryTest, LowConfidenceHoldsTokensUntilItIsKnown) {
  const Answer sure = gateway_.Generate(Ask("stub tokens=3 text=% logprob=-0.1", "careful"));
  EXPECT_EQ(sure.text(), "123");
  const Answer unsure = gateway_.Generate(Ask("stub tokens=3 text=% logprob=-2", "careful"));
  EXPECT_THAT(unsure.kinds(), ElementsAre("started", "node_entered", "node_left", "edge_taken",
                                          "node_entered", "tokens", "node_left", "finished"));
  EXPECT_EQ(unsure.text(), "second|stub echo=1");
  EXPECT_EQ(unsure.events[3].edge_taken().on(), v1::EDGE_CONDITION_LOW_CONFIDENCE);
  EXPECT_NEAR(unsure.events[2].node_left().confidence(), std::exp(-2), 1e-9);
}

TEST_F(QueryTest, SuccessHandsTheOutputOn) {
  const Answer answer = gateway_.Generate(Ask("stub tokens=2 text=%", "draft"));
  EXPECT_EQ(answer.text(), "polish|stub echo=1 12");
  EXPECT_EQ(answer.events.back().finished().node(), "polish");
}

TEST_F(QueryTest, WhereTheBudgetRefusesTheNextNodeTheOutputIsTheAnswer) {
  v1::GenerateRequest request = Ask("stub tokens=2 text=%", "draft");
  request.set_max_calls(1);
  const Answer all = gateway_.Generate(request);
  ASSERT_TRUE(all.status.ok()) << all.status.error_message();
  EXPECT_THAT(all.kinds(), ElementsAre("started", "node_entered", "edge_refused", "tokens",
                                       "node_left", "finished"));
  EXPECT_EQ(all.text(), "12");
  EXPECT_EQ(all.events.back().finished().node(), "draft");

  grpc::ClientContext context;
  v1::GetTraceRequest get;
  get.set_trace_id(all.events.back().finished().trace_id());
  v1::GetTraceResponse trace;
  ASSERT_TRUE(gateway_.admin()->GetTrace(&context, get, &trace).ok());
  std::string traced;
  for (const auto& event : trace.trace().events()) traced += event.event().tokens().text();
  EXPECT_EQ(traced, "12");

  request.set_events(v1::EVENT_LEVEL_TOKENS);
  EXPECT_EQ(gateway_.Generate(request).text(), "12");
  request.set_events(v1::EVENT_LEVEL_RESULT);
  const Answer result = gateway_.Generate(request);
  EXPECT_THAT(result.kinds(), ElementsAre("finished"));
  EXPECT_EQ(result.events.back().finished().text(), "12");
}

TEST_F(QueryTest, EdgesAskForTheOutputsOfEarlierNodes) {
  const Answer answer = gateway_.Generate(Ask("stub tokens=2 text=%", "opening"));
  EXPECT_EQ(answer.text(), "closing|stub echo=1 12/m//12");

  const Answer failed = gateway_.Generate(Ask("stub fail_after=0 code=13", "doubtful"));
  EXPECT_THAT(failed.text(), testing::MatchesRegex("closing.stub echo=1 \\[\\].+"));
}

// What is cut off may be a text of the grammar that says something else.
TEST_F(QueryTest, TheBeginningOfATextOfAGrammarIsNoOutput) {
  EXPECT_EQ(gateway_.Generate(Ask("stub tokens=2 text=%", "strict")).text(),
            "closing|stub echo=1 12");
  const Answer cut = gateway_.Generate(Ask("stub tokens=2 text=% length=1", "strict"));
  EXPECT_TRUE(cut.status.ok()) << cut.status.error_message();
  EXPECT_THAT(cut.text(), HasSubstr("before it was a whole text of its grammar"));
  EXPECT_EQ(gateway_.Generate(Ask("stub tokens=2 text=% length=1", "lenient")).text(),
            "closing|stub echo=1 12");
  // Whoever asks for one gets what there is of it, and is told.
  const Answer last = gateway_.Generate(Ask("stub tokens=2 text=% length=1", "closing"));
  EXPECT_EQ(last.text(), "12");
  EXPECT_EQ(last.events.back().finished().finish_reason(), v1::FINISH_REASON_LENGTH);
}

TEST_F(QueryTest, ErrorsTakeTheirEdgeUnlessTheClientHasTokens) {
  const Answer early = gateway_.Generate(Ask("stub fail_after=0 code=13", "fragile"));
  EXPECT_TRUE(early.status.ok()) << early.status.error_message();
  EXPECT_THAT(early.text(), HasSubstr("rescued"));

  const Answer late = gateway_.Generate(Ask("stub fail_after=2 code=14 text=%", "fragile"));
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(late.text(), "12");
  EXPECT_THAT(late.status.error_message(), HasSubstr(worker_.address()));
  EXPECT_THAT(late.status.error_message(), HasSubstr("2 tokens"));

  v1::GenerateRequest request = Ask("stub fail_after=2 code=14", "fragile");
  request.set_events(v1::EVENT_LEVEL_RESULT);
  EXPECT_THAT(gateway_.Generate(request).events.at(0).finished().text(), HasSubstr("rescued"));
}

TEST_F(QueryTest, CancellationReachesTheWorker) {
  grpc::ClientContext context;
  auto reader =
      gateway_.gateway()->Generate(&context, Ask("stub tokens=900 delay_us=20000", "talk"));
  v1::GenerateResponse event;
  while (reader->Read(&event) && !event.has_tokens()) {
  }
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  while (worker_.cancelled() == 0) absl::SleepFor(absl::Milliseconds(1));
  while (gateway_.Nodes().nodes(1).in_flight() > 0) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(QueryTest, TheDeadlineReachesTheWorker) {
  const Answer answer =
      gateway_.Generate(Ask("stub tokens=900 delay_us=20000", "talk"), absl::Milliseconds(300));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  while (worker_.cancelled() == 0) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(QueryTest, UnknownNodesAndBadFieldsAreRefused) {
  EXPECT_EQ(gateway_.Generate(Ask("hello", "nobody")).status.error_code(),
            grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(gateway_.Generate(Ask("")).status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::GenerateRequest request = Ask("hello");
  request.set_max_tokens(-1);
  const Answer answer = gateway_.Generate(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("max_tokens"));
}

TEST_F(QueryTest, AHugeRequestIsRefused) {
  EXPECT_EQ(gateway_.Generate(Ask(std::string(2 << 20, 'x'))).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(gateway_.Generate(Ask(std::string(6 << 20, 'x'))).status.error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
}

// A client that does not read holds back its own query, and gets everything when it reads.
TEST_F(QueryTest, ASlowReaderLosesNothing) {
  grpc::ClientContext context;
  v1::GenerateRequest request = Ask("stub tokens=256 text=" + std::string(4000, 'x'), "talk");
  request.set_events(v1::EVENT_LEVEL_TOKENS);
  auto reader = gateway_.gateway()->Generate(&context, request);
  absl::SleepFor(absl::Milliseconds(300));
  size_t bytes = 0;
  int ids = 0;
  v1::GenerateResponse event;
  while (reader->Read(&event)) {
    bytes += event.tokens().text().size();
    ids += event.tokens().ids_size();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(bytes, 256 * 4000);
  EXPECT_EQ(ids, 256);
}

TEST_F(QueryTest, TracesKeepWhatHappened) {
  const Answer answer = gateway_.Generate(Ask("stub tokens=3 text=% logprob=-2", "careful"));
  grpc::ClientContext context;
  v1::GetTraceRequest request;
  request.set_trace_id(answer.events[0].started().trace_id());
  v1::GetTraceResponse response;
  ASSERT_TRUE(gateway_.admin()->GetTrace(&context, request, &response).ok());
  const v1::Trace& trace = response.trace();
  EXPECT_EQ(trace.query(), "stub tokens=3 text=% logprob=-2");
  EXPECT_EQ(trace.tenant(), "default");
  EXPECT_EQ(trace.graph_version(), 1);
  // The tokens that were held back and dropped are there, too.
  ASSERT_GE(trace.events_size(), 3);
  EXPECT_EQ(trace.events(2).event().tokens().text(), "123");
  EXPECT_TRUE(trace.events(trace.events_size() - 1).event().has_finished());
}

TEST_F(QueryTest, RouteRunsNothing) {
  grpc::ClientContext context;
  v1::RouteRequest request;
  *request.add_messages() = Ask("12 * 12").messages(0);
  v1::RouteResponse response;
  ASSERT_TRUE(gateway_.gateway()->Route(&context, request, &response).ok());
  ASSERT_EQ(response.decisions_size(), 1);
  EXPECT_EQ(response.node(), "sum");
  EXPECT_EQ(response.decisions(0).head(), "lexical");
  EXPECT_EQ(worker_.started(), 0);
}

TEST_F(QueryTest, EmbedsAndListsModels) {
  grpc::ClientContext context;
  v1::EmbedRequest request;
  request.set_model("stub");
  request.add_inputs("a");
  request.add_inputs("b");
  v1::EmbedResponse response;
  ASSERT_TRUE(gateway_.gateway()->Embed(&context, request, &response).ok());
  EXPECT_EQ(response.embeddings_size(), 2);
  grpc::ClientContext list_context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(gateway_.gateway()->ListModels(&list_context, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).replicas_ready(), 1);
  EXPECT_EQ(models.models(0).family(), "stub");
  EXPECT_EQ(models.models(0).nodes_size(), 12);
}

}  // namespace
}  // namespace octogate::gateway

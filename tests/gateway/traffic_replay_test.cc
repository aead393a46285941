// Recorded decisions explained and decided again by another graph, which is not applied.
#include "gateway/traffic_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "common/cancellation.h"
#include "common/memory_store.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  nodes:
    - name: main
      router: {members: [work, sums], fallback: sorry, heads: [{threshold: 0.3, lexical: {}}]}
    - name: work
      router: {members: [files], fallback: sorry, heads: [{threshold: 0.1, lexical: {}}]}
    - name: files
      tool: {tool: reply, parameters: {text: files}}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: sums
      tool: {tool: reply, parameters: {text: sums}}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - {name: sorry, tool: {tool: reply, parameters: {text: sorry}}}
)";

// A node for songs, and another entry.
std::string WithMusic() {
  return absl::StrReplaceAll(kGraph, {{"entry: main", "entry: front"},
                                      {"name: main", "name: front"},
                                      {"members: [work, sums]", "members: [work, sums, music]"},
                                      {"    - {name: sorry", R"(    - name: music
      tool: {tool: reply, parameters: {text: music}}
      examples: [play a song, play some jazz, play the next song, turn up the music,
                 skip this song, put on my favourite song, play music from 1999, stop the music]
    - {name: sorry)"}});
}

class TrafficReplayTest : public testing::Test {
 protected:
  TrafficReplayTest() { EXPECT_TRUE(gateway_.Apply(kGraph).ok()); }

  // The trace.
  std::string Say(const std::string& query, const std::string& tenant = "",
                  const std::string& node = "") {
    v1::GenerateRequest request = Ask(query, node);
    request.set_tenant(tenant);
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer.events.empty() ? "" : answer.events.front().started().trace_id();
  }
  void GiveFeedback(const std::string& trace, v1::Verdict verdict, const std::string& better = "") {
    grpc::ClientContext context;
    v1::FeedbackRequest request;
    request.set_trace_id(trace);
    request.set_verdict(verdict);
    request.set_better_node(better);
    v1::FeedbackResponse response;
    const grpc::Status status = gateway_.gateway()->Feedback(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  grpc::Status Replay(const v1::ReplayTrafficRequest& request,
                      v1::ReplayTrafficResponse* response) {
    grpc::ClientContext context;
    return gateway_.admin()->ReplayTraffic(&context, request, response);
  }
  v1::ReplayTrafficResponse Replay(const v1::ReplayTrafficRequest& request) {
    v1::ReplayTrafficResponse response;
    const grpc::Status status = Replay(request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  static v1::ReplayTrafficRequest By(const std::string& manifest) {
    v1::ReplayTrafficRequest request;
    request.set_manifest(manifest);
    return request;
  }
  static std::vector<std::string> Moves(const v1::ReplayTrafficResponse& response) {
    std::vector<std::string> moves;
    for (const v1::ReplayMove& move : response.moves()) {
      moves.push_back(absl::StrCat(move.from(), ">", move.to(), ":", move.queries()));
    }
    return moves;
  }
  grpc::Status Explain(const v1::ExplainDecisionRequest& request,
                       v1::ExplainDecisionResponse* response) {
    grpc::ClientContext context;
    return gateway_.admin()->ExplainDecision(&context, request, response);
  }

  TestGateway gateway_;
};

TEST_F(TrafficReplayTest, ReplayingWhatIsAppliedChangesNothing) {
  for (const char* query : {"find large files", "what is 9 minus 3", "good morning, sunshine"}) {
    Say(query);
  }
  const v1::ReplayTrafficResponse response = Replay(By(kGraph));
  EXPECT_EQ(response.queries(), 3);
  EXPECT_EQ(response.changed(), 0);
  EXPECT_THAT(response.changes(), IsEmpty());
  EXPECT_THAT(response.warnings(), IsEmpty());
  EXPECT_EQ(response.applied_version(), 1);
  EXPECT_EQ(response.before().worst_cost(), 0) << "nothing has a price";
}

TEST_F(TrafficReplayTest, SaysWhatAnotherGraphChangesAndAppliesNothing) {
  Say("what is 9 minus 3");
  const std::string song = Say("play the next song by the band");
  Say("find all large files");
  Say("play a song", "", "sorry");  // Past the router.
  const v1::ReplayTrafficResponse response = Replay(By(WithMusic()));
  EXPECT_EQ(response.queries(), 3);
  EXPECT_EQ(response.skipped(), 1);
  EXPECT_THAT(Moves(response), ElementsAre("files>files:1", "sorry>music:1", "sums>sums:1"));
  ASSERT_EQ(response.changed(), 1);
  ASSERT_THAT(response.changes(), SizeIs(1));
  const v1::ReplayChange& change = response.changes(0);
  EXPECT_EQ(change.query(), "play the next song by the band");
  EXPECT_EQ(change.trace_id(), song);
  EXPECT_EQ(change.from(), "sorry");
  EXPECT_EQ(change.to(), "music");
  EXPECT_GT(change.to_probability(), change.from_probability());
  EXPECT_THAT(change.reason(), HasSubstr("sure of 'music'"));
  // Deterministic, but for its time.
  v1::ReplayTrafficResponse again = Replay(By(WithMusic()));
  again.set_duration_us(response.duration_us());
  EXPECT_EQ(again.SerializeAsString(), response.SerializeAsString());
  EXPECT_EQ(gateway_.Nodes().graph_version(), 1);
  EXPECT_EQ(gateway_.Nodes().nodes_size(), 5);
}

TEST_F(TrafficReplayTest, AStoredVersionIsAsGoodAsAManifest) {
  Say("play the next song by the band");
  ASSERT_TRUE(gateway_.Apply(WithMusic()).ok());
  Say("play the next song by the band");
  v1::ReplayTrafficRequest request;
  request.set_version(1);
  const v1::ReplayTrafficResponse back = Replay(request);
  EXPECT_EQ(back.other_version(), 1);
  EXPECT_THAT(Moves(back), ElementsAre("music>sorry:1", "sorry>sorry:1"))
      << "each trace as it was recorded, by two versions";
  request.set_version(2);
  EXPECT_THAT(Moves(Replay(request)), ElementsAre("music>music:1", "sorry>music:1"));
  request.set_version(9);
  v1::ReplayTrafficResponse none;
  EXPECT_EQ(Replay(request, &none).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(TrafficReplayTest, FeedbackSaysWhatIsBetter) {
  // What no router chooses yet.
  const std::string before = absl::StrCat(
      absl::StrReplaceAll(WithMusic(), {{"members: [work, sums, music]", "members: [work, sums]"}}),
      "  edges: [{from: sorry, to: music, on: error}]\n");
  ASSERT_TRUE(gateway_.Apply(before).ok());
  GiveFeedback(Say("play the next song"), v1::VERDICT_WRONG, "music");
  GiveFeedback(Say("what is 9 minus 3"), v1::VERDICT_RIGHT);
  GiveFeedback(Say("play some more jazz"), v1::VERDICT_WRONG);
  Say("find large files");
  const v1::ReplayTrafficResponse response = Replay(By(WithMusic()));
  EXPECT_EQ(response.queries(), 4);
  EXPECT_EQ(response.before().labelled(), 2);
  EXPECT_EQ(response.before().right(), 1);
  EXPECT_EQ(response.after().labelled(), 2);
  EXPECT_EQ(response.after().right(), 2);
  EXPECT_EQ(response.wrong(), 1);
  EXPECT_EQ(response.wrong_moved(), 1);
}

TEST_F(TrafficReplayTest, TracesAreChosenByTenantAndNumber) {
  for (int i = 0; i < 3; ++i) Say("what is 9 minus 3", "a");
  Say("find large files", "b");
  v1::ReplayTrafficRequest request = By(WithMusic());
  request.set_tenant("a");
  EXPECT_THAT(Moves(Replay(request)), ElementsAre("sums>sums:3"));
  request.set_limit(2);
  EXPECT_THAT(Moves(Replay(request)), ElementsAre("sums>sums:2"));
  request.clear_tenant();
  EXPECT_THAT(Moves(Replay(request)), ElementsAre("files>files:1", "sums>sums:1"));
}

TEST_F(TrafficReplayTest, QueriesOfTheRequestAreDecidedByBoth) {
  v1::ReplayTrafficRequest request = By(WithMusic());
  const std::vector<std::pair<std::string, std::string>> queries = {
      {"play the next song", "music"},
      {"what is 9 minus 3", "sums"},
      {"find large files", "work"},
      {"good morning, sunshine", "none"},
      {"play some jazz", ""}};
  for (const auto& [query, node] : queries) {
    v1::ReplayQuery& added = *request.add_queries();
    added.set_query(query);
    added.set_node(node);
  }
  request.set_changes_limit(1);
  const v1::ReplayTrafficResponse response = Replay(request);
  EXPECT_EQ(response.queries(), 5);
  EXPECT_EQ(response.changed(), 2);
  ASSERT_THAT(response.changes(), SizeIs(1)) << "the first of them";
  EXPECT_EQ(response.changes(0).query(), "play the next song");
  EXPECT_EQ(response.changes(0).expected(), "music");
  EXPECT_EQ(response.before().labelled(), 4);
  EXPECT_EQ(response.before().right(), 3);
  EXPECT_EQ(response.after().right(), 4);
}

TEST_F(TrafficReplayTest, WhatIsNotValidIsRefused) {
  v1::ReplayTrafficResponse response;
  EXPECT_EQ(Replay(By("no graph"), &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(Replay({}, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::ReplayTrafficRequest both = By(kGraph);
  both.set_version(1);
  EXPECT_EQ(Replay(both, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(TrafficReplayTest, ATraceIsExplainedByItsOwnVersion) {
  const std::string trace = Say("find the large files");
  ASSERT_TRUE(gateway_.Apply(WithMusic()).ok());
  v1::ExplainDecisionRequest request;
  request.set_trace_id(trace);
  v1::ExplainDecisionResponse response;
  grpc::Status status = Explain(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.graph_version(), 1);
  EXPECT_THAT(response.warnings(), IsEmpty());
  ASSERT_EQ(response.decisions_size(), 2);
  EXPECT_EQ(response.decisions(0).recorded_node(), "work");
  EXPECT_EQ(response.decisions(0).decision().node(), "work");
  EXPECT_EQ(response.decisions(1).recorded_node(), "files");
  ASSERT_EQ(response.decisions(0).heads_size(), 1);
  EXPECT_EQ(response.decisions(0).heads(0).node(), "work");
  EXPECT_GT(response.decisions(0).heads(0).log_ratio(), 0);
  EXPECT_EQ(response.decisions(0).heads(0).features(0).text(), "files");
  // By another version where one asks for it: its entry has another name.
  request.set_graph_version(2);
  EXPECT_EQ(Explain(request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

// However many want an explanation at once, what cannot be had is refused with what to do, and
// other calls get through.
TEST_F(TrafficReplayTest, ManyExplanationsAtOnceHoldUpNothingElse) {
  constexpr int kCallers = 60;
  std::atomic<int> explained = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] {
      v1::ExplainDecisionRequest request;
      request.set_query("find the large files");
      v1::ExplainDecisionResponse response;
      const grpc::Status status = Explain(request, &response);
      if (status.ok()) {
        ++explained;
      } else {
        EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
        EXPECT_THAT(status.error_message(),
                    HasSubstr("16 decisions wait to be explained; try again when some have been"));
      }
    });
  }
  EXPECT_TRUE(gateway_.Apply(WithMusic()).ok());
  for (std::thread& caller : callers) caller.join();
  EXPECT_GE(explained, 1);
  v1::ExplainDecisionRequest request;
  request.set_query("find the large files");
  v1::ExplainDecisionResponse response;
  EXPECT_TRUE(Explain(request, &response).ok());
}

TEST_F(TrafficReplayTest, AQueryIsExplainedWithoutATrace) {
  v1::ExplainDecisionRequest request;
  request.set_query("find the large files");
  request.set_limit(3);
  v1::ExplainDecisionResponse response;
  grpc::Status status = Explain(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.decisions_size(), 2);
  EXPECT_EQ(response.decisions(0).recorded_node(), "");
  EXPECT_THAT(response.decisions(0).heads(0).features(), SizeIs(3));
  request.set_router("work");
  ASSERT_TRUE(Explain(request, &response).ok());
  ASSERT_EQ(response.decisions_size(), 1);
  request.set_router("files");
  EXPECT_EQ(Explain(request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(TrafficReplayTest, ATraceWithoutADecisionHasNothingToExplain) {
  v1::ExplainDecisionRequest request;
  request.set_trace_id(Say("find the large files", "", "files"));
  v1::ExplainDecisionResponse response;
  EXPECT_EQ(Explain(request, &response).error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  request.set_trace_id("nobody's");
  EXPECT_EQ(Explain(request, &response).error_code(), grpc::StatusCode::NOT_FOUND);
  request.clear_trace_id();
  EXPECT_EQ(Explain(request, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(TrafficReplayTest, CostsAreCountedByTheirPrices) {
  const std::string priced = absl::StrReplaceAll(
      kGraph, {{"tool: {tool: reply, parameters: {text: sums}}",
                "replay: {recording: none.jsonl, price: {input: 1000000, output: 1000000}, "
                "maxTokens: 10}"}});
  v1::ReplayTrafficRequest request = By(priced);
  request.add_queries()->set_query("what is 9 minus 3");
  const v1::ReplayTrafficResponse response = Replay(request);
  EXPECT_EQ(response.changed(), 0);
  EXPECT_EQ(response.before().worst_cost(), 0);
  EXPECT_DOUBLE_EQ(response.after().worst_cost(), 17 + 10) << "a token per byte, and the answer";
}

TEST(TrafficReplayCallTest, EndsWhenNobodyWaitsAnyMore) {
  const std::unique_ptr<Store> memory = MakeMemoryStore();
  router::GraphStore store(memory.get(), {});
  GraphBuilder builder(/*loops=*/nullptr, /*loader=*/nullptr, {});
  DrainList drained;
  Metrics metrics;
  GraphManager graphs(&store, &builder, &drained, &metrics);
  TraceStore traces({});
  FeedbackStore feedback(memory.get(), {});
  v1::ReplayTrafficRequest request;
  request.set_manifest(WithMusic());
  request.add_queries()->set_query("what is 9 minus 3");
  const absl::Time later = absl::Now() + absl::Minutes(5);
  EXPECT_EQ(ReplayTraffic(request, later, nullptr, traces, &feedback, &graphs).status().code(),
            absl::StatusCode::kFailedPrecondition)
      << "no graph is applied";
  v1::ApplyGraphRequest apply;
  apply.set_manifest(kGraph);
  ASSERT_TRUE(graphs.Apply(apply, later).ok());
  EXPECT_TRUE(ReplayTraffic(request, later, nullptr, traces, &feedback, &graphs).ok());
  const auto cancellation = std::make_shared<Cancellation>();
  cancellation->Cancel();
  EXPECT_EQ(ReplayTraffic(request, later, cancellation, traces, &feedback, &graphs).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_EQ(ReplayTraffic(request, absl::InfinitePast(), nullptr, traces, &feedback, &graphs)
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace octogate::gateway

// Graphs whose answers are recorded, from the manifest to the client.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: recorded}
spec:
  entry: small
  nodes:
    - {name: small, replay: {recording: small.jsonl}}
    - {name: large, replay: {recording: large.jsonl, keepTime: true}}
    - {name: sorry, tool: {tool: reply, parameters: {text: "not recorded"}}}
  edges:
    - {from: small, to: large, on: lowConfidence, below: 0.5}
    - {from: small, to: sorry, on: error}
)";

class ReplayNodeTest : public testing::Test {
 protected:
  ReplayNodeTest() : root_(Root()), gateway_(Options(root_)) {
    Write("small.jsonl",
          R"({"query": "easy", "answer": "one two three", "output_tokens": 3, "confidence": 0.9})"
          "\n"
          R"({"query": "hard", "answer": "wrong", "output_tokens": 1000, "confidence": 0.2})"
          "\n"
          R"({"query": "only small", "answer": "lost", "output_tokens": 1, "confidence": 0.1})"
          "\n");
    Write("large.jsonl",
          R"({"query": "hard", "answer": "right", "output_chars": 40, "latency_ms": 50})"
          "\n"
          R"({"query": "slow", "answer": "late", "output_chars": 4, "latency_ms": 3000000})"
          "\n");
  }
  ~ReplayNodeTest() override { std::filesystem::remove_all(root_); }

  static std::filesystem::path Root() {
    const std::filesystem::path root = testing::TempDir() + "/replay_node_test";
    std::filesystem::remove_all(root);
    std::filesystem::create_directories(root);
    return root;
  }
  static ServerOptions Options(const std::filesystem::path& root) {
    ServerOptions options;
    options.graph.model_root = root;
    return options;
  }
  void Write(const std::string& name, const std::string& text) {
    std::ofstream(root_ / name, std::ios::binary) << text;
  }

  const std::filesystem::path root_;
  TestGateway gateway_;
};

TEST_F(ReplayNodeTest, AnswersComeWithTheirRecordedLength) {
  ASSERT_TRUE(gateway_.Apply(kGraph).ok());
  const Answer answer = gateway_.Generate(Ask(" easy\n"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text(), "one two three");
  EXPECT_THAT(answer.kinds(),
              ElementsAre("started", "node_entered", "tokens", "node_left", "finished"));
  EXPECT_EQ(answer.events[1].node_entered().kind(), "replay");
  const v1::NodeLeft& left = answer.events[answer.events.size() - 2].node_left();
  EXPECT_NEAR(left.confidence(), 0.9, 1e-9);
  EXPECT_EQ(left.usage().completion_tokens(), 3);
  EXPECT_EQ(answer.events.back().finished().usage().completion_tokens(), 3);
}

TEST_F(ReplayNodeTest, LowConfidenceEscalatesAndCountsBoth) {
  ASSERT_TRUE(gateway_.Apply(kGraph).ok());
  const absl::Time begin = absl::Now();
  const Answer answer = gateway_.Generate(Ask("hard"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text(), "right");
  EXPECT_EQ(answer.events.back().finished().usage().completion_tokens(), 1010);
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(50)) << "keepTime";
}

TEST_F(ReplayNodeTest, AnUnknownQueryIsAnErrorOfTheNode) {
  ASSERT_TRUE(gateway_.Apply(kGraph).ok());
  EXPECT_THAT(gateway_.Generate(Ask("never seen")).text(), HasSubstr("not recorded"));
  const Answer lost = gateway_.Generate(Ask("only small"));
  EXPECT_EQ(lost.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(lost.status.error_message(), HasSubstr("'large.jsonl' has no answer to the query"));
}

TEST_F(ReplayNodeTest, WaitingEndsWithTheDeadlineAndTheClient) {
  ASSERT_TRUE(gateway_.Apply(kGraph).ok());
  const Answer late = gateway_.Generate(Ask("slow", "large"), absl::Milliseconds(100));
  EXPECT_EQ(late.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  grpc::ClientContext context;
  auto reader = gateway_.gateway()->Generate(&context, Ask("slow", "large"));
  v1::GenerateResponse event;
  while (reader->Read(&event) && !event.has_node_entered()) {
  }
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  while (gateway_.Nodes().nodes(1).in_flight() > 0) absl::SleepFor(absl::Milliseconds(1));
}

TEST_F(ReplayNodeTest, BadRecordingsRefuseTheGraph) {
  Write("small.jsonl", "{\"query\": \"a\", \"answer\": \"b\", \"output_tokens\": 1}\n{\"que");
  const grpc::Status truncated = gateway_.Apply(kGraph);
  EXPECT_EQ(truncated.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(truncated.error_message(), HasSubstr("node \"small\": small.jsonl:2: "));
  grpc::ClientContext context;
  v1::ApplyGraphRequest dry;
  dry.set_manifest(kGraph);
  dry.set_dry_run(true);
  v1::ApplyGraphResponse response;
  EXPECT_THAT(gateway_.admin()->ApplyGraph(&context, dry, &response).error_message(),
              HasSubstr("small.jsonl:2: "));
  std::filesystem::remove(root_ / "small.jsonl");
  EXPECT_EQ(gateway_.Apply(kGraph).error_code(), grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace octogate::gateway

// Conversations stay where they are: per tenant and session, for a time, and never into a node that
// cannot take them. Through a gateway as clients see it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/strings/str_replace.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  nodes:
    - name: main
      router: {members: [work, music], fallback: sorry, hysteresis: 1,
               heads: [{threshold: 0.4, lexical: {}}]}
    - name: work
      router: {members: [files, sums], fallback: sorry, heads: [{threshold: 0.3, lexical: {}}]}
    - name: files
      tool: {tool: reply, parameters: {text: files}}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: sums
      tool: {tool: reply, parameters: {text: sums}}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - name: music
      tool: {tool: reply, parameters: {text: music}}
      examples: [play a song, play some jazz, play the next song, turn up the music,
                 skip this song, put on my favourite song, play music from 1999, stop the music]
    - {name: sorry, tool: {tool: reply, parameters: {text: sorry}}}
)";

class SessionAffinityTest : public testing::Test {
 protected:
  SessionAffinityTest() { EXPECT_TRUE(gateway_.Apply(kGraph).ok()); }

  ServerOptions Options() {
    ServerOptions options;
    options.sessions.clock = [this] { return absl::FromUnixSeconds(now_.load()); };
    return options;
  }
  static v1::GenerateRequest In(const std::string& session, const std::string& query,
                                const std::string& tenant = "") {
    v1::GenerateRequest request = Ask(query);
    request.set_session(session);
    request.set_tenant(tenant);
    return request;
  }
  std::string Text(const v1::GenerateRequest& request) {
    const Answer answer = gateway_.Generate(request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    decision_.Clear();
    for (const v1::GenerateResponse& event : answer.events) {
      if (event.has_decision() && event.decision().router() == "main") decision_ = event.decision();
    }
    return answer.text();
  }
  std::string Say(const std::string& session, const std::string& query,
                  const std::string& tenant = "") {
    return Text(In(session, query, tenant));
  }

  std::atomic<int64_t> now_ = 1'000'000;
  TestGateway gateway_{Options()};
  v1::Decision decision_;  // of the outer router, of the last answer
};

TEST_F(SessionAffinityTest, AConversationStaysAndSaysWhereItWouldHaveGone) {
  EXPECT_EQ(Say("s", "play some jazz"), "music");
  EXPECT_EQ(decision_.kept_from(), "");
  EXPECT_EQ(Say("s", "what is 2 plus 3"), "music");
  EXPECT_EQ(decision_.kept_from(), "work");
  EXPECT_THAT(decision_.reason(), HasSubstr("kept by the session"));
  EXPECT_EQ(Say("", "what is 2 plus 3"), "sums") << "without a session";
  EXPECT_EQ(Say("t", "what is 2 plus 3"), "sums") << "another session";
  EXPECT_EQ(Say("t", "find large files"), "files") << "the inner router has no hysteresis";
  EXPECT_EQ(Say("s", "find large files"), "music");
  EXPECT_THAT(gateway_.server().metrics().Text(), HasSubstr("octogate_sessions_kept_total 2\n"));
}

TEST_F(SessionAffinityTest, TwoTenantsWithOneNameHaveTwoSessions) {
  EXPECT_EQ(Say("s", "play some jazz", "a"), "music");
  EXPECT_EQ(Say("s", "what is 2 plus 3", "b"), "sums");
  EXPECT_EQ(Say("s", "find large files", "a"), "music");
  EXPECT_EQ(Say("s", "play some jazz", "b"), "sorry")
      << "the outer router keeps it among work, where nobody plays jazz";
}

TEST_F(SessionAffinityTest, ASessionIsForgottenAfterItsTime) {
  EXPECT_EQ(Say("s", "play some jazz"), "music");
  now_ += 59 * 60;
  EXPECT_EQ(Say("s", "what is 2 plus 3"), "music") << "and that is its last query now";
  now_ += 59 * 60;
  EXPECT_EQ(Say("s", "what is 2 plus 3"), "music");
  now_ += 60 * 60;
  EXPECT_EQ(Say("s", "what is 2 plus 3"), "sums");
}

TEST_F(SessionAffinityTest, ADrainedNodeIsLeft) {
  EXPECT_EQ(Say("s", "play some jazz"), "music");
  grpc::ClientContext context;
  v1::DrainNodeRequest request;
  request.set_name("music");
  v1::DrainNodeResponse response;
  ASSERT_TRUE(gateway_.admin()->DrainNode(&context, request, &response).ok());
  EXPECT_EQ(Say("s", "what is 2 plus 3"), "sums");
}

TEST_F(SessionAffinityTest, ANodeThatANewVersionLacksIsLeft) {
  EXPECT_EQ(Say("s", "play some jazz"), "music");
  const grpc::Status status = gateway_.Apply(absl::StrReplaceAll(
      kGraph,
      {{"members: [work, music]", "members: [work, songs]"}, {"name: music", "name: songs"}}));
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Say("s", "what is 2 plus 3"), "sums");
}

TEST_F(SessionAffinityTest, RouteLooksAtASessionAndDoesNotMoveIt) {
  EXPECT_EQ(Say("s", "play some jazz"), "music");
  const auto route = [&](const std::string& session, const std::string& query) {
    grpc::ClientContext context;
    v1::RouteRequest request;
    *request.mutable_messages() = Ask(query).messages();
    request.set_session(session);
    v1::RouteResponse response;
    const grpc::Status status = gateway_.gateway()->Route(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.node();
  };
  EXPECT_EQ(route("s", "what is 2 plus 3"), "music");
  EXPECT_EQ(route("t", "what is 2 plus 3"), "sums");
  EXPECT_EQ(Say("t", "play some jazz"), "music") << "it was not the session's query";
}

TEST_F(SessionAffinityTest, AToolLoopIsNeverMoved) {
  // Here no router has a hysteresis.
  ASSERT_TRUE(gateway_.Apply(absl::StrReplaceAll(kGraph, {{"hysteresis: 1,", ""}})).ok());
  EXPECT_EQ(Say("s", "find large files"), "files");
  v1::GenerateRequest loop = In("s", "play some jazz");
  const auto add = [&](const std::string& role, const std::string& content) {
    v1::Message& message = *loop.add_messages();
    message.set_role(role);
    message.set_content(content);
  };
  add("assistant", "ls");
  add("tool", "what is 2 plus 3");
  EXPECT_EQ(Text(loop), "files") << "at both routers";
  EXPECT_EQ(decision_.kept_from(), "music") << "it is the user's query that is scored";
  EXPECT_EQ(decision_.argument(), "what is 2 plus 3") << "the result goes on as it came";
  // A tool's result without a session goes where the user's query goes.
  loop.clear_session();
  EXPECT_EQ(Text(loop), "music");
  EXPECT_EQ(Say("s", "play some jazz"), "music") << "the next query moves as ever";
  // Somebody has to have asked.
  loop.mutable_messages()->DeleteSubrange(0, 1);
  const Answer refused = gateway_.Generate(loop);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("needs a query of \"user\""));
}

TEST_F(SessionAffinityTest, ASessionsNameHasALimit) {
  const Answer answer = gateway_.Generate(In(std::string(257, 's'), "play some jazz"));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("session"));
}

}  // namespace
}  // namespace octogate::gateway

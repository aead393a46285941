// Tokens that are learned, forgotten and measured while the gateway runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "tests/gateway/test_gateway.h"

namespace octogate::gateway {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Le;

// A router in a router, so that one Route makes two decisions.
constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  nodes:
    - name: main
      router: {members: [work, music], fallback: sorry, heads: [{threshold: 0.5, lexical: {}}]}
    - name: work
      router: {members: [files, sums], fallback: sorry, heads: [{threshold: 0.3, lexical: {}}]}
    - name: files
      tool: {tool: reply, parameters: {text: files}}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: sums
      tool: {tool: calculator}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - {name: music, tool: {tool: reply, parameters: {text: music}}}
    - {name: other, tool: {tool: reply, parameters: {text: other}}}
    - {name: sorry, tool: {tool: reply, parameters: {text: sorry}}}
  edges: [{from: sorry, to: other, on: error}]
)";

const std::vector<std::string>& Songs() {
  static const auto* const songs = new std::vector<std::string>{"play a song by the beatles",
                                                                "play some jazz",
                                                                "put on my favourite song",
                                                                "play the next song",
                                                                "turn up the music",
                                                                "play a relaxing song",
                                                                "skip this song",
                                                                "play music from 1999",
                                                                "play my party songs"};
  return *songs;
}

class TokenLearningTest : public testing::Test {
 protected:
  TokenLearningTest() {
    const grpc::Status status = gateway_.Apply(kGraph);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }

  grpc::Status Learn(const v1::LearnTokenRequest& request, v1::LearnTokenResponse* response) {
    grpc::ClientContext context;
    return gateway_.admin()->LearnToken(&context, request, response);
  }
  static v1::LearnTokenRequest Lesson(const std::string& node,
                                      const std::vector<std::string>& examples) {
    v1::LearnTokenRequest request;
    request.set_node(node);
    *request.mutable_examples() = {examples.begin(), examples.end()};
    return request;
  }
  v1::LearnTokenResponse LearnOrFail(const v1::LearnTokenRequest& request) {
    v1::LearnTokenResponse response;
    const grpc::Status status = Learn(request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  v1::ForgetTokenResponse Forget(const std::string& node) {
    grpc::ClientContext context;
    v1::ForgetTokenRequest request;
    request.set_node(node);
    v1::ForgetTokenResponse response;
    const grpc::Status status = gateway_.admin()->ForgetToken(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  static grpc::Status Route(v1::Gateway::Stub* stub, const std::string& query,
                            v1::RouteResponse* response) {
    grpc::ClientContext context;
    v1::RouteRequest request;
    *request.mutable_messages() = Ask(query).messages();
    return stub->Route(&context, request, response);
  }
  v1::RouteResponse Route(const std::string& query) {
    v1::RouteResponse response;
    const grpc::Status status = Route(gateway_.gateway(), query, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  const std::unique_ptr<Store> store_ = MakeMemoryStore();
  TestGateway gateway_{{}, store_.get()};
};

TEST_F(TokenLearningTest, ANodeIsChosenOnceItHasLearned) {
  EXPECT_EQ(Route("play another song").node(), "sorry");
  const v1::LearnTokenResponse response = LearnOrFail(Lesson("music", Songs()));
  EXPECT_EQ(response.version(), 2);
  EXPECT_EQ(response.learned(), static_cast<int>(Songs().size()));
  EXPECT_EQ(response.learned_total(), static_cast<int>(Songs().size()));
  EXPECT_THAT(response.warnings(), IsEmpty());
  EXPECT_GT(response.duration_us(), 0);
  EXPECT_EQ(Route("play another song").node(), "music");
  EXPECT_EQ(Route("list the old files in a folder").node(), "files");

  grpc::ClientContext context;
  v1::GetGraphResponse graph;
  ASSERT_TRUE(gateway_.admin()->GetGraph(&context, {}, &graph).ok());
  EXPECT_THAT(graph.manifest(), HasSubstr("learnedExamples:"));

  EXPECT_EQ(Forget("music").forgotten(), static_cast<int>(Songs().size()));
  EXPECT_EQ(Route("play another song").node(), "sorry");
  EXPECT_EQ(Forget("music").version(), 3) << "nothing to forget, no version";
}

TEST_F(TokenLearningTest, WhatItKnowsIsNotLearnedAgain) {
  LearnOrFail(Lesson("music", {Songs()[0], Songs()[0], Songs()[1]}));
  const v1::LearnTokenResponse again = LearnOrFail(Lesson("music", {Songs()[1]}));
  EXPECT_EQ(again.version(), 2);
  EXPECT_EQ(again.learned(), 0);
  EXPECT_EQ(again.learned_total(), 2);
  EXPECT_THAT(again.changes(), IsEmpty());
  EXPECT_THAT(again.warnings(), ElementsAre(HasSubstr("has 2 examples")));
  EXPECT_EQ(LearnOrFail(Lesson("files", {"copy a file"})).learned(), 0);
}

TEST_F(TokenLearningTest, ADryRunAndARefusalChangeNothing) {
  v1::LearnTokenRequest request = Lesson("music", Songs());
  request.set_dry_run(true);
  EXPECT_EQ(LearnOrFail(request).version(), 2);
  request.set_dry_run(false);
  request.set_expected_version(7);
  v1::LearnTokenResponse response;
  EXPECT_EQ(Learn(request, &response).error_code(), grpc::StatusCode::ABORTED);
  EXPECT_EQ(Learn(Lesson("nobody", Songs()), &response).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Learn(Lesson("music", {}), &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const grpc::Status status = Learn(Lesson("other", Songs()), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("name a router"));
  EXPECT_EQ(gateway_.Nodes().graph_version(), 1);
  EXPECT_EQ(Route("play another song").node(), "sorry");
}

TEST_F(TokenLearningTest, ANodeBecomesAMemberByTheWay) {
  v1::LearnTokenRequest request = Lesson("other", Songs());
  request.set_router("main");
  LearnOrFail(request);
  EXPECT_EQ(Route("play another song").node(), "other");
  request.set_router("files");
  v1::LearnTokenResponse response;
  EXPECT_EQ(Learn(request, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(TokenLearningTest, ARestartedGatewayDecidesEqually) {
  LearnOrFail(Lesson("music", {Songs().begin(), Songs().begin() + 4}));
  LearnOrFail(Lesson("sums", {"integral of the sine", "derivative of a polynomial"}));
  LearnOrFail(Lesson("music", Songs()));
  TestGateway other({}, store_.get());
  for (const char* query :
       {"play another song", "find files", "derivative of the sine", "2 plus 3", "hello", "jazz"}) {
    const v1::RouteResponse here = Route(query);
    v1::RouteResponse there;
    ASSERT_TRUE(Route(other.gateway(), query, &there).ok());
    ASSERT_EQ(here.decisions_size(), there.decisions_size());
    for (int i = 0; i < here.decisions_size(); ++i) {
      EXPECT_EQ(here.decisions(i).node(), there.decisions(i).node());
      EXPECT_EQ(here.decisions(i).probability(), there.decisions(i).probability());
      EXPECT_EQ(here.decisions(i).graph_version(), there.decisions(i).graph_version());
    }
  }
}

// While versions come and go no query fails, and all decisions of one query are those of one
// version, which is never older than one that a query before it saw.
TEST_F(TokenLearningTest, NoQueryFailsWhileTokensAreLearned) {
  constexpr int kThreads = 3;
  constexpr int kLearns = 36;
  using Known =
      std::map<std::tuple<int64_t, std::string, std::string>, std::pair<std::string, double>>;
  std::atomic<bool> stop = false;
  std::atomic<int> routed = 0;
  absl::Mutex mutex;
  Known known;  // What every version says of a query, guarded by `mutex`.
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const auto stub = v1::Gateway::NewStub(gateway_.NewChannel());
      const std::vector<std::string> queries = {"play another song", "find the files", "2 plus 3",
                                                "song number 7", "hello there"};
      int64_t last = 0;
      for (size_t i = static_cast<size_t>(t); !stop; ++i) {
        const std::string& query = queries[i % queries.size()];
        v1::RouteResponse response;
        const grpc::Status status = Route(stub.get(), query, &response);
        ASSERT_TRUE(status.ok()) << status.error_message();
        ASSERT_GT(response.decisions_size(), 0);
        const int64_t version = response.decisions(0).graph_version();
        ASSERT_GE(version, last);
        last = version;
        absl::MutexLock lock(&mutex);
        for (const v1::Decision& decision : response.decisions()) {
          ASSERT_EQ(decision.graph_version(), version);
          const std::pair said(decision.node(), decision.probability());
          const auto [entry, added] = known.try_emplace({version, decision.router(), query}, said);
          ASSERT_EQ(entry->second, said) << query << " in version " << version;
        }
        ++routed;
      }
    });
  }
  for (int i = 0; i < kLearns; ++i) {
    if (i % 9 == 8) {
      EXPECT_EQ(Forget("music").version(), i + 2);
      continue;
    }
    const std::string node = i % 3 == 2 ? "sums" : "music";
    const auto response = LearnOrFail(Lesson(node, {absl::StrCat("song or sum number ", i)}));
    EXPECT_EQ(response.version(), i + 2);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(routed, kLearns);
  std::map<int64_t, int> versions;
  for (const auto& entry : known) ++versions[std::get<0>(entry.first)];
  EXPECT_GT(versions.size(), size_t{3}) << "queries went on while tokens were learned";
}

TEST_F(TokenLearningTest, AnEvaluationCountsWhatRouteDoes) {
  LearnOrFail(Lesson("music", Songs()));
  v1::EvaluateTokensRequest request;
  const std::vector<std::pair<std::string, std::string>> queries = {
      {"music", "play another song"},    {"music", "skip the next song"},
      {"music", "find the large files"}, {"work", "list the files in a folder"},
      {"work", "what is 2 plus 5"},      {"none", "who wrote hamlet"},
      {"sorry", "tell me a joke"},       {"elsewhere", "delete old files"}};
  int in_scope_right = 0;
  int refused = 0;
  for (const auto& [node, query] : queries) {
    v1::LabelledQuery& labelled = *request.add_queries();
    labelled.set_node(node);
    labelled.set_query(query);
    const v1::Decision decision = Route(query).decisions(0);
    if (node == "music" || node == "work") {
      in_scope_right += decision.node() == node ? 1 : 0;
    } else {
      refused += decision.fallback() ? 1 : 0;
    }
  }
  EXPECT_THAT(in_scope_right, AllOf(Ge(3), Le(4))) << "one label is wrong";

  grpc::ClientContext context;
  v1::EvaluateTokensResponse response;
  const grpc::Status status = gateway_.admin()->EvaluateTokens(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.router(), "main");
  EXPECT_EQ(response.graph_version(), 2);
  EXPECT_EQ(response.in_scope(), 5);
  EXPECT_EQ(response.out_of_scope(), 3);
  EXPECT_DOUBLE_EQ(response.accuracy(), in_scope_right / 5.0);
  EXPECT_DOUBLE_EQ(response.out_of_scope_recall(), refused / 3.0);
  EXPECT_THAT(response.calibration_error(), AllOf(Ge(0), Le(1)));
  ASSERT_EQ(response.heads_size(), 1);
  EXPECT_EQ(response.heads(0).head(), "lexical");
  EXPECT_EQ(response.heads(0).asked(), 8);
  EXPECT_EQ(response.heads(0).errors(), 0);
  EXPECT_DOUBLE_EQ(response.heads(0).threshold(), 0.5);
  EXPECT_THAT(response.warnings(), ElementsAre(HasSubstr("'elsewhere'")));
  std::vector<std::string> confusions;
  int confused = 0;
  for (const v1::Confusion& confusion : response.confusions()) {
    confusions.push_back(absl::StrCat(confusion.expected(), " ", confusion.actual()));
    confused += confusion.queries();
  }
  EXPECT_EQ(confused, 8 - in_scope_right - refused);
  EXPECT_THAT(confusions, testing::IsSupersetOf({"music work", "none work"}));
  EXPECT_LE(response.p50_us(), response.p99_us());
  EXPECT_GT(response.mean_us(), 0);

  request.set_router("music");
  grpc::ClientContext again;
  EXPECT_EQ(gateway_.admin()->EvaluateTokens(&again, request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace octogate::gateway

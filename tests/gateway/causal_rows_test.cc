// Tokens whose rows are learned on the hidden states of the model in the tree, behind a running
// gateway that has the model in its own process or in a worker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "tests/gateway/model_gateway.h"
#include "tests/gateway/model_worker.h"
#include "tests/gateway/stub_worker.h"

namespace octogate::gateway {
namespace {

using testing::HasSubstr;

// The model knows the tokens of `shell`, `calculator` and `clock`, but none of `music`, which is no
// member yet.
constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models: [{name: mini, MODEL}]
  nodes:
    - name: main
      router:
        members: [shell, calculator, clock]
        fallback: sorry
        heads:
          - threshold: 0.5
            causal: {model: mini, learnedRows: true, argumentStyle: none}
    - name: shell
      tool: {tool: reply, parameters: {text: shell}}
      examples: [list all pdf files in my home folder, show how much disk space is free,
                 kill the process with pid 4242, restart the nginx service]
    - name: calculator
      tool: {tool: reply, parameters: {text: calculator}}
      examples: [what is 17 * 23, 1250 plus 375, square root of 2, 100 fahrenheit in celsius]
    - name: clock
      tool: {tool: reply, parameters: {text: clock}}
      examples: [what time is it, what day is it today, how many days until christmas]
    - {name: music, tool: {tool: reply, parameters: {text: music}}}
    - name: sorry
      tool: {tool: reply, parameters: {text: sorry}}
      examples: [tell me a joke, how do I bake bread, who won the world cup in 2010]
  edges: [{from: sorry, to: music, on: error}]
)";

const std::vector<std::string>& Songs() {
  static const auto* const songs = new std::vector<std::string>{"play a song by the beatles",
                                                                "play some jazz",
                                                                "put on my favourite song",
                                                                "play the next song",
                                                                "turn up the music",
                                                                "play a relaxing song",
                                                                "skip this song",
                                                                "play music from the 90s",
                                                                "play my party playlist",
                                                                "pause the music",
                                                                "put on some rock",
                                                                "play the album thriller",
                                                                "shuffle my songs",
                                                                "play that song again",
                                                                "start my workout playlist",
                                                                "I want to hear classical music"};
  return *songs;
}

// Held out.
const std::vector<std::string>& MoreSongs() {
  static const auto* const songs =
      new std::vector<std::string>{"play another song", "play the playlist", "put on some music",
                                   "play a song from the 80s", "skip to the next song"};
  return *songs;
}

const std::map<std::string, std::string>& OtherQueries() {
  static const auto* const queries =
      new std::map<std::string, std::string>{{"find files larger than 100 MB under /var", "shell"},
                                             {"delete all empty folders below /tmp", "shell"},
                                             {"what is 12 plus 30", "calculator"},
                                             {"what time is it in Tokyo?", "clock"}};
  return *queries;
}

enum class Place { kInProcess, kWorker };

// A gateway with the graph.
class Installation {
 public:
  explicit Installation(Place place) {
    std::string model = "path: octogate-mini";
    if (place == Place::kWorker) {
      worker_ = std::make_unique<ModelWorker>(Root() + "/octogate-mini");
      model = worker_->manifest();
    }
    const grpc::Status applied = gateway_.Apply(absl::StrReplaceAll(kGraph, {{"MODEL", model}}));
    EXPECT_TRUE(applied.ok()) << applied.error_message();
  }

  v1::LearnTokenResponse Learn(const std::vector<std::string>& examples) {
    grpc::ClientContext context;
    v1::LearnTokenRequest request;
    request.set_node("music");
    request.set_router("main");
    *request.mutable_examples() = {examples.begin(), examples.end()};
    v1::LearnTokenResponse response;
    const grpc::Status status = gateway_.admin()->LearnToken(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  static grpc::Status Route(v1::Gateway::Stub* stub, const std::string& query,
                            v1::Decision* decision) {
    grpc::ClientContext context;
    v1::RouteRequest request;
    *request.mutable_messages() = Ask(query).messages();
    v1::RouteResponse response;
    const grpc::Status status = stub->Route(&context, request, &response);
    if (status.ok() && response.decisions_size() > 0) *decision = response.decisions(0);
    return status;
  }
  v1::Decision Route(const std::string& query) {
    v1::Decision decision;
    const grpc::Status status = Route(gateway_.gateway(), query, &decision);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return decision;
  }

  TestGateway& gateway() { return gateway_; }

 private:
  static std::string Root() { return std::string(OCTOGATE_FIXTURES) + "/../../deploy/models"; }

  std::unique_ptr<ModelWorker> worker_;
  ModelGateway gateway_{Root()};
};

std::map<std::string, double> ProbabilitiesOf(const v1::Decision& decision) {
  std::map<std::string, double> probabilities;
  for (const v1::HeadScore& head : decision.heads()) {
    for (const v1::TokenScore& score : head.scores()) {
      probabilities[score.node()] = score.probability();
    }
  }
  return probabilities;
}

class CausalRowsTest : public testing::TestWithParam<Place> {
 protected:
  Installation installation_{GetParam()};
};

TEST_P(CausalRowsTest, ANodeWithoutATokenInTheVocabularyIsChosenOnceItHasLearned) {
  std::map<std::string, v1::Decision> before;
  for (const auto& [query, node] : OtherQueries()) {
    before[query] = installation_.Route(query);
    EXPECT_EQ(before[query].node(), node) << before[query].DebugString();
  }
  const v1::LearnTokenResponse learned = installation_.Learn(Songs());
  EXPECT_EQ(learned.version(), 2);
  EXPECT_EQ(learned.learned(), static_cast<int>(Songs().size()));
  EXPECT_GT(learned.duration_us(), 0);

  for (const std::string& song : MoreSongs()) {
    const v1::Decision decision = installation_.Route(song);
    EXPECT_EQ(decision.node(), "music") << decision.DebugString();
    EXPECT_EQ(decision.token(), "<fn:music>");
    EXPECT_EQ(decision.head(), "causal");
    EXPECT_EQ(decision.argument(), song);
  }
  for (const auto& [query, node] : OtherQueries()) {
    const v1::Decision after = installation_.Route(query);
    EXPECT_EQ(after.node(), node) << after.DebugString();
    // Among the others, all is as it was: only their sum has a further part.
    const auto old_ones = ProbabilitiesOf(before[query]);
    const auto new_ones = ProbabilitiesOf(after);
    ASSERT_TRUE(old_ones.contains(node) && new_ones.contains(node));
    const double ratio = new_ones.at(node) / old_ones.at(node);
    for (const auto& [other, probability] : old_ones) {
      EXPECT_NEAR(new_ones.at(other), ratio * probability, 1e-4 * probability) << other;
    }
  }
}

TEST_P(CausalRowsTest, NoCallFailsWhileTokensAreLearned) {
  constexpr int kThreads = 3;
  std::atomic<bool> stop = false;
  std::atomic<int> routed = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      const auto stub = v1::Gateway::NewStub(installation_.gateway().NewChannel());
      int64_t last = 0;
      do {
        for (const auto& [query, node] : OtherQueries()) {
          v1::Decision decision;
          const grpc::Status status = Installation::Route(stub.get(), query, &decision);
          ASSERT_TRUE(status.ok()) << status.error_message();
          ASSERT_EQ(decision.node(), node) << decision.DebugString();
          ASSERT_GE(decision.graph_version(), last);
          last = decision.graph_version();
          ++routed;
        }
      } while (!stop);
    });
  }
  for (size_t i = 0; i + 4 <= Songs().size(); i += 4) {
    const auto first = Songs().begin() + static_cast<ptrdiff_t>(i);
    EXPECT_EQ(installation_.Learn({first, first + 4}).version(), 2 + static_cast<int>(i / 4));
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(routed, 0);
  EXPECT_EQ(installation_.Route(MoreSongs()[0]).node(), "music");
}

INSTANTIATE_TEST_SUITE_P(Places, CausalRowsTest, testing::Values(Place::kInProcess, Place::kWorker),
                         [](const testing::TestParamInfo<Place>& info) {
                           return info.param == Place::kWorker ? "Worker" : "InProcess";
                         });

// Equal graphs and examples give equal probabilities, wherever the model is and whatever ran beside
// it.
TEST(CausalRowsPlacesTest, RowsAreTheSameEverywhere) {
  Installation here(Place::kInProcess);
  Installation there(Place::kWorker);
  here.Learn(Songs());
  there.Learn(Songs());
  std::vector<std::string> queries = MoreSongs();
  for (const auto& [query, node] : OtherQueries()) queries.push_back(query);
  for (const std::string& query : queries) {
    EXPECT_EQ(ProbabilitiesOf(here.Route(query)), ProbabilitiesOf(there.Route(query))) << query;
  }
}

TEST(CausalRowsOldWorkerTest, AWorkerWithoutHiddenStatesIsNamedWhenTheGraphIsApplied) {
  StubWorker worker;
  TestGateway gateway;
  const grpc::Status applied = gateway.Apply(absl::StrReplaceAll(
      kGraph, {{"MODEL", absl::StrCat("workers: [\"", worker.address(), "\"]")}}));
  EXPECT_EQ(applied.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(applied.error_message(), HasSubstr("'mini' returns no hidden state"));
  EXPECT_THAT(applied.error_message(), HasSubstr("replace it by a worker of this release"));
}

}  // namespace
}  // namespace octogate::gateway

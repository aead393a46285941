// Node.learned_examples: what a version of the graph learns beyond the one before it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>

#include "absl/strings/str_replace.h"
#include "router/graph_manifest.h"
#include "router/router.h"
#include "tests/router/bag_of_words_model.h"

namespace octogate::router {
namespace {

// HEAD stands for the head that learns.
constexpr char kManifest[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models: [{name: minilm, path: minilm}]
  nodes:
    - name: main
      router:
        members: [files, music, sums]
        fallback: sorry
        heads: [HEAD]
    - name: files
      tool: {tool: reply}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: music
      tool: {tool: reply}
    - name: sums
      tool: {tool: calculator}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - {name: sorry, tool: {tool: reply}}
)";

std::string WithMusic(const std::string& fields) {
  return absl::StrReplaceAll(kManifest,
                             {{"- name: music\n", "- name: music\n      " + fields + "\n"}});
}

std::string Learned() {
  return WithMusic(
      "learnedExamples: [play a song by the beatles, play some jazz, put on my favourite song,\n"
      "                        play the next song, turn up the music, play a relaxing song,\n"
      "                        which song is playing now, skip this song]");
}

constexpr char kLexical[] = "{threshold: 0.5, lexical: {}}";
constexpr char kEncoder[] = "{threshold: 0.4, encoder: {model: minilm}}";

v1::Graph GraphOf(const std::string& manifest, const std::string& head) {
  const auto parsed =
      ParseGraphManifest(absl::StrReplaceAll(manifest, {{"HEAD", head}}), "test.yaml");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  // As a gateway keeps it, and reads it again when it starts.
  const auto again = ParseGraphManifest(GraphToYaml(parsed->graph), "again.yaml");
  EXPECT_TRUE(again.ok()) << again.status();
  return again->graph;
}

class LearnedExamplesTest : public testing::TestWithParam<const char*> {
 protected:
  absl::StatusOr<std::shared_ptr<const RoutingSnapshot>> Build(
      const std::string& manifest, const RoutingSnapshot* previous = nullptr,
      absl::Time deadline = absl::InfiniteFuture()) {
    const std::string head = GetParam() == std::string("lexical") ? kLexical : kEncoder;
    return RoutingSnapshot::Build(GraphOf(manifest, head), 1,
                                  {.embedding = [this](std::string_view) { return model_; }},
                                  deadline, previous);
  }
  v1::Decision Route(const RoutingSnapshot& snapshot, const std::string& query,
                     std::vector<std::string> excluded = {}) const {
    RouteOptions options;
    options.excluded = std::move(excluded);
    std::promise<absl::StatusOr<v1::Decision>> decision;
    snapshot.Route("main", query, std::move(options), [&](absl::StatusOr<v1::Decision> result) {
      decision.set_value(std::move(result));
    });
    const auto result = decision.get_future().get();
    EXPECT_TRUE(result.ok()) << result.status();
    return *result;
  }
  void ExpectSameDecisions(const RoutingSnapshot& a, const RoutingSnapshot& b,
                           const std::vector<std::string>& excluded = {}) const {
    for (const char* query :
         {"find files", "2 plus 3", "play a song", "hello there", "", "\xff\xfe", "漢字",
          "turn the volume of the song down", "list 3 files", "skip it"}) {
      const v1::Decision of_a = Route(a, query, excluded);
      const v1::Decision of_b = Route(b, query, excluded);
      ASSERT_EQ(of_a.node(), of_b.node()) << query;
      ASSERT_EQ(of_a.probability(), of_b.probability()) << query;
    }
  }

  std::shared_ptr<BagOfWordsModel> model_ = std::make_shared<BagOfWordsModel>();
};

TEST_P(LearnedExamplesTest, ANodeWithoutExamplesLearnsItsToken) {
  const auto before = *Build(kManifest);
  EXPECT_NE(Route(*before, "play another song").node(), "music");
  const auto after = *Build(Learned(), before.get());
  const v1::Decision decision = Route(*after, "play another song");
  EXPECT_EQ(decision.node(), "music") << decision.reason();
  EXPECT_EQ(decision.token(), "<fn:music>");
  EXPECT_EQ(Route(*after, "list the old files in a folder").node(), "files");
  EXPECT_EQ(Route(*after, "what is 17 plus 4").node(), "sums");
}

// Where the new node cannot be chosen, all is as it was.
TEST_P(LearnedExamplesTest, TheOthersDecideAmongThemselvesAsEver) {
  const auto before = *Build(kManifest);
  const auto after = *Build(Learned(), before.get());
  for (const char* query : {"find files", "2 plus 3", "list 3 files", "what is in the folder"}) {
    const v1::Decision of_before = Route(*before, query, {"music"});
    const v1::Decision of_after = Route(*after, query, {"music"});
    ASSERT_EQ(of_before.heads(0).scores_size(), of_after.heads(0).scores_size());
    for (int i = 0; i < of_before.heads(0).scores_size(); ++i) {
      EXPECT_EQ(of_before.heads(0).scores(i).token(), of_after.heads(0).scores(i).token());
      EXPECT_EQ(of_before.heads(0).scores(i).probability(),
                of_after.heads(0).scores(i).probability());
    }
  }
}

TEST_P(LearnedExamplesTest, ARestartASecondGatewayAndARollbackDecideEqually) {
  const auto before = *Build(kManifest);
  const auto step =
      *Build(WithMusic("learnedExamples: [play a song by the beatles]"), before.get());
  const auto after = *Build(Learned(), step.get());
  const auto restarted = *Build(Learned());
  ExpectSameDecisions(*after, *restarted);
  ExpectSameDecisions(*before, **Build(kManifest, after.get()));
  ExpectSameDecisions(*step, **Build(WithMusic("learnedExamples: [play a song by the beatles]")));
}

// Without any time only what is kept can be had.
TEST_P(LearnedExamplesTest, OnlyWhatIsNewIsTrained) {
  const auto before = *Build(kManifest);
  const auto after = *Build(Learned(), before.get());
  const auto now = absl::Now();
  EXPECT_TRUE(Build(Learned(), after.get(), now).ok());
  EXPECT_TRUE(Build(kManifest, after.get(), now).ok()) << "the head from before it has learned";
  EXPECT_EQ(Build(Learned(), before.get(), now).status().code(),
            absl::StatusCode::kDeadlineExceeded)
      << "the test must be able to fail";
}

TEST_P(LearnedExamplesTest, ANodeWithExamplesLearnsMore) {
  const std::string more = absl::StrReplaceAll(
      kManifest, {{"- name: sums\n",
                   "- name: sums\n      learnedExamples: [derivative of the sine, "
                   "derivative of a polynomial, integrate the cosine, integral of the sine]\n"}});
  const auto before = *Build(kManifest);
  const auto after = *Build(more, before.get());
  const auto probability = [&](const RoutingSnapshot& snapshot) {
    const v1::Decision decision = Route(snapshot, "derivative of the cosine");
    for (const v1::TokenScore& score : decision.heads(0).scores()) {
      if (score.token() == "<fn:sums>") {
        return score.probability() * decision.heads(0).live_probability();
      }
    }
    return 0.0;
  };
  EXPECT_GT(probability(*after), probability(*before));
}

TEST_P(LearnedExamplesTest, TheFallbackLearnsWhatIsNobodys) {
  const std::string more =
      absl::StrReplaceAll(kManifest, {{"- {name: sorry, tool",
                                       "- {name: sorry, learnedExamples: [find a flat in town, "
                                       "find a room to let, find me a house], tool"}});
  const auto before = *Build(kManifest);
  const auto after = *Build(more, before.get());
  EXPECT_LT(Route(*after, "find a house in town").heads(0).live_probability(),
            Route(*before, "find a house in town").heads(0).live_probability());
}

INSTANTIATE_TEST_SUITE_P(Heads, LearnedExamplesTest, testing::Values("lexical", "encoder"),
                         [](const auto& info) { return std::string(info.param); });

// A description alone: the encoder knows what is like it.
TEST(LearnedDescriptionTest, ANewMemberIsReachedByItsDescriptionAndChangesNothingElse) {
  const auto model = std::make_shared<BagOfWordsModel>();
  const auto build = [&](const std::string& manifest, const RoutingSnapshot* previous) {
    return *RoutingSnapshot::Build(GraphOf(manifest, kEncoder), 1,
                                   {.embedding = [&](std::string_view) { return model; }},
                                   absl::InfiniteFuture(), previous);
  };
  const auto route = [](const RoutingSnapshot& snapshot, const std::string& query) {
    v1::Decision decision;
    snapshot.Route("main", query, {}, [&](auto result) { decision = *std::move(result); });
    return decision;
  };
  const auto before = build(kManifest, nullptr);
  const auto after = build(WithMusic("description: play a song or other music"), before.get());
  EXPECT_EQ(route(*after, "play a song").heads(0).scores(0).token(), "<fn:music>");
  EXPECT_EQ(route(*after, "list the files in a folder").node(), "files");
}

// A threshold that keeps a risk is chosen on what is trained together; a pool of words, vectors and
// neighbours is trained anew.
TEST(LearnedEnsembleTest, LearnsTooAndKeepsItsThreshold) {
  const auto model = std::make_shared<BagOfWordsModel>();
  const auto build = [&](const std::string& manifest, const RoutingSnapshot* previous) {
    return *RoutingSnapshot::Build(
        GraphOf(manifest, "{risk: 0.2, encoder: {model: minilm, ensemble: true}}"), 1,
        {.embedding = [&](std::string_view) { return model; }}, absl::InfiniteFuture(), previous);
  };
  const auto route = [](const RoutingSnapshot& snapshot, const std::string& query) {
    v1::Decision decision;
    snapshot.Route("main", query, {}, [&](auto result) { decision = *std::move(result); });
    return decision;
  };
  const auto before = build(kManifest, nullptr);
  const auto after = build(Learned(), before.get());
  const auto restarted = build(Learned(), nullptr);
  const v1::Decision decision = route(*after, "play a song");
  EXPECT_EQ(decision.heads(0).scores(0).token(), "<fn:music>");
  EXPECT_EQ(decision.heads(0).threshold(), route(*before, "play a song").heads(0).threshold());
  EXPECT_EQ(decision.probability(), route(*restarted, "play a song").probability());
}

}  // namespace
}  // namespace octogate::router

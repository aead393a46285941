// A session stays at its node unless the scores say otherwise by more than the hysteresis.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/graph_manifest.h"
#include "router/router.h"

namespace octogate::router {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::shared_ptr<const RoutingSnapshot> Build(const std::string& hysteresis) {
  const auto parsed = ParseGraphManifest(absl::StrCat(R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  nodes:
    - name: main
      router:
        members: [files, sums]
        fallback: sorry
        hysteresis: )",
                                                      hysteresis, R"(
        heads: [{threshold: 0.4, lexical: {}}]
    - name: files
      tool: {tool: reply}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: sums
      tool: {tool: calculator}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - {name: sorry, tool: {tool: reply}}
)"),
                                         "test.yaml");
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  const auto snapshot = RoutingSnapshot::Build(parsed->graph, 1, {}, absl::InfiniteFuture());
  EXPECT_TRUE(snapshot.ok()) << snapshot.status();
  return *snapshot;
}

absl::StatusOr<v1::Decision> Route(const RoutingSnapshot& snapshot, const std::string& query,
                                   RouteOptions options = {}) {
  absl::StatusOr<v1::Decision> result = absl::UnknownError("not called");
  snapshot.Route("main", query, std::move(options),
                 [&](absl::StatusOr<v1::Decision> decision) { result = std::move(decision); });
  return result;
}

v1::Decision At(const RoutingSnapshot& snapshot, const std::string& query, const std::string& node,
                bool stay = false, std::vector<std::string> excluded = {}) {
  RouteOptions options;
  options.session_node = node;
  options.stay = stay;
  options.excluded = std::move(excluded);
  const auto decision = Route(snapshot, query, std::move(options));
  EXPECT_TRUE(decision.ok()) << decision.status();
  return decision.ok() ? *decision : v1::Decision();
}

// Of a node, by the one head.
double ProbabilityOf(const v1::Decision& decision, const std::string& node) {
  const v1::HeadScore& head = decision.heads(0);
  for (const v1::TokenScore& score : head.scores()) {
    if (score.node() == node) return score.probability() * head.live_probability();
  }
  return 1 - head.live_probability();
}

TEST(SessionTest, MovesExactlyWhereAnotherNodeIsMoreProbableByMoreThanTheHysteresis) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const std::vector<std::string> words = {"find", "files", "plus", "2",    "what", "is",
                                          "the",  "hello", "add",  "copy", "word", "zebra"};
  int kept = 0;
  int moved = 0;
  for (const double hysteresis : {0.05, 0.3, 0.8}) {
    const auto snapshot = Build(absl::StrCat(hysteresis));
    for (int round = 0; round < 200; ++round) {
      std::string query;
      for (size_t n = 1 + random() % 5; n > 0; --n) {
        absl::StrAppend(&query, words[random() % words.size()], " ");
      }
      const std::string at = std::vector<std::string>{"files", "sums", "sorry"}[random() % 3];
      SCOPED_TRACE(absl::StrCat(query, "at ", at, ", ", hysteresis));
      const v1::Decision alone = *Route(*snapshot, query);
      const v1::Decision decision = At(*snapshot, query, at);
      const double margin = ProbabilityOf(alone, alone.node()) - ProbabilityOf(alone, at);
      if (alone.node() == at || margin > hysteresis) {
        EXPECT_EQ(decision.node(), alone.node());
        EXPECT_EQ(decision.reason(), alone.reason());
        EXPECT_EQ(decision.kept_from(), "");
        moved += alone.node() == at ? 0 : 1;
        continue;
      }
      ++kept;
      EXPECT_EQ(decision.node(), at);
      EXPECT_EQ(decision.kept_from(), alone.node());
      EXPECT_EQ(decision.fallback(), at == "sorry");
      EXPECT_EQ(decision.token(), absl::StrCat("<fn:", at, ">"));
      EXPECT_NEAR(decision.probability(), ProbabilityOf(alone, at), 1e-9);
      EXPECT_THAT(decision.reason(), AllOf(StartsWith("kept by the session: lexical gave"),
                                           HasSubstr(absl::StrCat("'", at, "'")),
                                           HasSubstr(absl::StrCat("'", alone.node(), "'"))));
      EXPECT_EQ(decision.argument(), query);
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(moved, 0);
}

TEST(SessionTest, WithoutHysteresisOnlyToolResultsStay) {
  const auto snapshot = Build("0");
  EXPECT_EQ(At(*snapshot, "what is 2 plus 3", "files").node(), "sums");
  const v1::Decision stays = At(*snapshot, "what is 2 plus 3", "files", true);
  EXPECT_EQ(stays.node(), "files");
  EXPECT_EQ(stays.kept_from(), "sums");
  EXPECT_THAT(stays.reason(), HasSubstr("a tool's result is never moved"));
}

TEST(SessionTest, ANodeThatCannotTakeItIsLeft) {
  const auto snapshot = Build("1");
  EXPECT_EQ(At(*snapshot, "what is 2 plus 3", "files").node(), "files");
  for (const bool stay : {false, true}) {
    // Drained, and gone with an earlier version of the graph.
    EXPECT_EQ(At(*snapshot, "what is 2 plus 3", "files", stay, {"files"}).node(), "sums");
    EXPECT_EQ(At(*snapshot, "what is 2 plus 3", "gone", stay).node(), "sums");
    EXPECT_EQ(At(*snapshot, "what is 2 plus 3", "sorry", stay, {"sorry"}).node(), "sums");
  }
}

TEST(SessionTest, TheHysteresisIsAMarginOfProbability) {
  const auto parsed = ParseGraphManifest(R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  nodes:
    - {name: main, router: {members: [a], fallback: a, hysteresis: 1.5, heads: [{lexical: {}}]}}
    - {name: a, description: a, tool: {tool: reply}}
)",
                                         "test.yaml");
  EXPECT_THAT(std::string(parsed.status().message()),
              AllOf(HasSubstr("hysteresis"), HasSubstr("0 to 1")));
}

}  // namespace
}  // namespace octogate::router

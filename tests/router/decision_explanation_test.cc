// What heads say for their choice adds up to the choice, and is in the query.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "router/background_queries.h"
#include "router/graph_manifest.h"
#include "router/lexical_features.h"
#include "router/lexical_head.h"
#include "router/router.h"
#include "tests/router/bag_of_words_model.h"

namespace octogate::router {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// The members' examples, one head or another. `sorry` learns one that it is told later, so that
// heads have columns of their own for it.
std::string Manifest(const std::string& heads) {
  return absl::StrCat(R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models: [{name: enc, path: enc}]
  nodes:
    - name: main
      router: {members: [files, sums, music], fallback: sorry, heads: [)",
                      heads, R"(]}
    - name: files
      tool: {tool: reply}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: sums
      tool: {tool: calculator}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - name: music
      tool: {tool: reply}
      learnedExamples: [play a song, play some jazz, play the next song, turn up the music]
    - {name: sorry, tool: {tool: reply}, learnedExamples: [who will win the election]}
)");
}

class DecisionExplanationTest : public testing::Test {
 protected:
  std::shared_ptr<const RoutingSnapshot> Build(const std::string& heads) {
    const auto parsed = ParseGraphManifest(Manifest(heads), "test.yaml");
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    const auto find = [this](std::string_view) { return model_; };
    const auto snapshot =
        RoutingSnapshot::Build(parsed->graph, 7, {.embedding = find}, absl::InfiniteFuture());
    EXPECT_TRUE(snapshot.ok()) << snapshot.status();
    return *snapshot;
  }

  // Words of the examples, others, and signs.
  std::string RandomQuery() {
    static const auto* const kWords = new std::vector<std::string>{
        "find", "Files", "files", "large",  "the",   "what",  "is",   "2",     "plus",
        "play", "song",  "jazz",  "music",  "of",    "win",   "add",  "Größe", "fileserver",
        "?",    "!",     "一",    "folder", "xyzzy", "minus", "copy", "zip",   "playing"};
    std::vector<std::string> words(1 + random_() % 8);
    for (std::string& word : words) word = (*kWords)[random_() % kWords->size()];
    return absl::StrJoin(words, " ");
  }

  // The logarithm of the ratio of the two probabilities that the explanation is about.
  static double LogRatio(const v1::HeadScore& score, const v1::HeadExplanation& head) {
    const double live = score.live_probability();
    const double other = head.against() == "none" ? 1 - live : score.scores(1).probability() * live;
    return std::log(score.scores(0).probability() * live / other);
  }

  const unsigned seed_ = std::random_device()();
  std::mt19937 random_{seed_};
  testing::ScopedTrace trace_{__FILE__, __LINE__, absl::StrCat("seed ", seed_)};
  std::shared_ptr<BagOfWordsModel> model_ = std::make_shared<BagOfWordsModel>();
};

TEST_F(DecisionExplanationTest, ContributionsAddUpToTheRatioOfTheProbabilities) {
  const auto snapshot = Build(
      "{lexical: {}}, {encoder: {model: enc}}, "
      "{encoder: {model: enc, ensemble: true}}");
  for (int round = 0; round < 30; ++round) {
    const std::string query = RandomQuery();
    SCOPED_TRACE(query);
    const auto explained = snapshot->Explain("main", query, 1000, {});
    ASSERT_TRUE(explained.ok()) << explained.status();
    ASSERT_EQ(explained->heads_size(), 3);
    for (int h = 0; h < 3; ++h) {
      const v1::HeadExplanation& head = explained->heads(h);
      const v1::HeadScore& score = explained->decision().heads(h);
      EXPECT_EQ(head.node(), score.scores(0).node());
      const double ratio = LogRatio(score, head);
      // Probabilities are floats: close to 1 they say little of what is left to "none".
      const double tolerance = score.live_probability() > 0.999 ? 0.5 : 0.01;
      EXPECT_NEAR(head.log_ratio(), ratio, tolerance) << head.ShortDebugString();
      double parts = 0;
      for (const v1::EvidencePart& part : head.parts()) parts += part.contribution();
      EXPECT_NEAR(parts, head.log_ratio(), 1e-9);
      if (h == 1) continue;
      double features = 0;
      double words = 0;
      for (const v1::FeatureContribution& feature : head.features()) {
        features += feature.contribution();
      }
      for (const v1::EvidencePart& part : head.parts()) {
        if (part.source() == "words") words = part.contribution();
      }
      // The ensemble's words are a log-probability with a floor.
      if (h == 0) {
        EXPECT_NEAR(features, words, 1e-6);
      }
      EXPECT_EQ(head.further_features(), 0);
    }
  }
}

TEST_F(DecisionExplanationTest, FeaturesAreWordsOfTheQueryTheStrongestFirst) {
  const auto snapshot = Build("{lexical: {}}");
  const auto explained = snapshot->Explain("main", "Find LARGE files, fileservers", 1000, {});
  ASSERT_TRUE(explained.ok()) << explained.status();
  const v1::HeadExplanation& head = explained->heads(0);
  EXPECT_EQ(head.node(), "files");
  std::vector<std::string> words;
  std::vector<std::string> pairs;
  std::vector<std::string> runs;
  for (const v1::FeatureContribution& feature : head.features()) {
    (feature.kind() == v1::FEATURE_KIND_WORD   ? words
     : feature.kind() == v1::FEATURE_KIND_PAIR ? pairs
                                               : runs)
        .push_back(feature.text());
  }
  EXPECT_THAT(words, AllOf(Contains("find"), Contains("large"), Contains("files"),
                           Not(Contains("fileservers"))))
      << "no example has the last word";
  EXPECT_THAT(pairs, AllOf(Contains("^ find"), Contains("find large"), Contains("large files")));
  EXPECT_THAT(runs, AllOf(Contains(" fil"), Contains("file")));
  for (int i = 1; i < head.features_size(); ++i) {
    EXPECT_GE(std::abs(head.features(i - 1).contribution()),
              std::abs(head.features(i).contribution()));
  }
  const auto few = snapshot->Explain("main", "Find LARGE files, fileservers", 3, {});
  ASSERT_TRUE(few.ok());
  EXPECT_THAT(few->heads(0).features(), SizeIs(3));
  EXPECT_EQ(few->heads(0).further_features(), head.features_size() - 3);
  EXPECT_EQ(few->heads(0).features(0).text(), head.features(0).text());
}

TEST_F(DecisionExplanationTest, NamesOfTermsAreWhatWasRead) {
  LexicalFeatureExtractor extractor;
  std::vector<uint32_t> words;
  std::vector<std::string> names;
  std::vector<std::string> runs;
  for (const LexicalTerm& term : extractor.Extract("Ab ab-Ä", &words)) {
    names.push_back(extractor.NameOf(term, words));
    if (term.length == 2) runs = extractor.RunNames(term);
    EXPECT_EQ(extractor.RunNames(term).size(), extractor.Runs(term).size());
  }
  EXPECT_THAT(names, ElementsAre("ab", "^ ab", "ab ab", "-", "ab -", "ä", "- ä"));
  EXPECT_THAT(runs, ElementsAre(" ab", " ab ", "ab "));
}

TEST_F(DecisionExplanationTest, ExamplesAreTheNearestOfAll) {
  const auto snapshot = Build("{encoder: {model: enc}}");
  const auto explained = snapshot->Explain("main", "play some old jazz", 1000, {});
  ASSERT_TRUE(explained.ok()) << explained.status();
  const v1::HeadExplanation& head = explained->heads(0);
  ASSERT_GE(head.examples_size(), 2);
  EXPECT_EQ(head.examples(0).text(), "play some jazz");
  EXPECT_EQ(head.examples(0).node(), "music");
  EXPECT_NEAR(head.examples(0).distance(), 1 - 3 / std::sqrt(12), 1e-4);
  for (int i = 1; i < head.examples_size(); ++i) {
    EXPECT_LE(head.examples(i - 1).distance(), head.examples(i).distance());
  }
  // Every example there is, "none" included.
  EXPECT_EQ(head.examples_size(), 8 + 8 + 4 + 1 + static_cast<int>(BackgroundQueries().size()));
  EXPECT_GT(head.temperature(), 0);
}

TEST_F(DecisionExplanationTest, ADecisionIsExplainedAsItIsMade) {
  const auto snapshot = Build("{risk: 0.2, lexical: {}}");
  for (int round = 0; round < 10; ++round) {
    const std::string query = RandomQuery();
    const auto explained = snapshot->Explain("main", query, 5, {});
    ASSERT_TRUE(explained.ok()) << explained.status();
    snapshot->Route("main", query, {}, [&](absl::StatusOr<v1::Decision> decision) {
      ASSERT_TRUE(decision.ok());
      EXPECT_EQ(explained->decision().node(), decision->node());
      EXPECT_EQ(explained->decision().probability(), decision->probability());
      EXPECT_EQ(explained->heads(0).threshold(), decision->heads(0).threshold());
    });
    EXPECT_EQ(explained->heads(0).risk(), 0.2);
  }
}

TEST_F(DecisionExplanationTest, AnEncoderThatFailsIsNoReasonToSayNothing) {
  const auto snapshot = Build("{threshold: 1, lexical: {}}, {encoder: {model: enc}}");
  model_->status = absl::UnavailableError("gone");
  const auto explained = snapshot->Explain("main", "find files", 5, {});
  ASSERT_TRUE(explained.ok()) << explained.status();
  EXPECT_THAT(explained->heads(0).features(), Not(IsEmpty()));
  EXPECT_EQ(explained->heads(1).node(), "");
  EXPECT_THAT(explained->decision().heads(1).error(), HasSubstr("gone"));
  EXPECT_EQ(snapshot->Explain("other", "find files", 5, {}).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace octogate::router

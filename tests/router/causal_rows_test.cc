// Rows of functional tokens on the hidden state of a frozen language model: what they are, what is
// left as it was, and how a graph has them learned.
#include "router/causal_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "router/causal_head.h"
#include "router/causal_vectors.h"
#include "router/encoder_head.h"
#include "router/graph_manifest.h"
#include "router/router.h"
#include "tests/router/bag_of_words_language_model.h"

namespace octogate::router {
namespace {

using testing::HasSubstr;

constexpr size_t kInVocabulary = 3;
constexpr size_t kTrained = 5;  // those included
constexpr size_t kLearned = 2;
constexpr size_t kHidden = BagOfWordsModel::kDimension;

bool SameBits(float a, float b) { return std::memcmp(&a, &b, sizeof(float)) == 0; }

// Subjects whose texts share few words. The first word of each text of a subject in the vocabulary
// is the one that the model knows.
std::vector<std::string> TextsOfSubject(size_t subject, int count, std::mt19937* random) {
  constexpr const char* kCommon[] = {"please", "what", "is", "the", "show", "me", "of", "a"};
  std::vector<std::string> texts;
  for (int i = 0; i < count; ++i) {
    std::string text = subject < kInVocabulary ? absl::StrCat("subject", subject) : "some";
    for (int w = 0; w < 8; ++w) {
      absl::StrAppend(&text, " ",
                      (*random)() % 2 == 0
                          ? std::string(kCommon[(*random)() % 8])
                          : absl::StrCat("w", std::string(1, static_cast<char>('a' + subject)),
                                         (*random)() % 12));
    }
    texts.push_back(std::move(text));
  }
  return texts;
}

class CausalRowsTest : public testing::TestWithParam<bool> {
 protected:
  CausalRowsTest() {
    std::vector<std::string> tokens;
    if (GetParam()) {
      for (size_t t = 0; t < kInVocabulary; ++t) {
        tokens.push_back(absl::StrCat("<fn:", t, ">"));
        model_->vocabulary[tokens.back()] = absl::StrCat("subject", t);
      }
    }
    v1::CausalHead settings;
    settings.set_prompt("{query}");
    vectors_of_ = std::make_unique<CausalVectors>(settings, tokens, model_);
    for (size_t c = 0; c < kTrained; ++c) {
      native_.push_back(c < tokens.size() ? static_cast<int>(c) : CausalRows::kNoToken);
      examples_.classes.push_back(TextsOfSubject(c, 16, &random_));
      learned_.trained.push_back(static_cast<int>(c));
    }
    for (size_t r = 0; r < kLearned; ++r) {
      learned_.trained.push_back(-1);
      std::vector<std::string> texts = TextsOfSubject(kTrained + r, 28, &random_);
      for (int i = 0; i < 12; ++i) {
        tests_.emplace_back(texts.back(), kTrained + r);
        texts.pop_back();
      }
      learned_.rows.push_back({.place = kTrained + r, .texts = std::move(texts)});
    }
    for (size_t c = 0; c < kTrained; ++c) {
      for (std::string& text : TextsOfSubject(c, 12, &random_)) tests_.emplace_back(text, c);
    }
    texts_ = EmbeddingClassifier::TextsOf(examples_);
    for (const LearnedClasses::Row& row : learned_.rows) {
      texts_.insert(texts_.end(), row.texts.begin(), row.texts.end());
    }
    for (const auto& [text, place] : tests_) texts_.push_back(text);
    auto vectors = ExampleEmbeddings::Make(texts_, *vectors_of_, absl::InfiniteFuture(), {});
    EXPECT_TRUE(vectors.ok()) << vectors.status();
    vectors_ = *vectors;
    trained_ = Train();
  }

  std::shared_ptr<const CausalRows> Train() {
    auto rows = CausalRows::Train(native_, vectors_of_->token_values(), examples_, *vectors_,
                                  absl::InfiniteFuture());
    EXPECT_TRUE(rows.ok()) << rows.status();
    return *rows;
  }
  std::shared_ptr<const CausalRows> Learn(const LearnedClasses& learned,
                                          std::vector<CausalRows::Row>* rows) {
    rows->resize(learned.rows.size());
    auto result =
        CausalRows::Learn(*trained_, examples_, learned, *vectors_, absl::InfiniteFuture(), rows);
    EXPECT_TRUE(result.ok()) << result.status();
    return *result;
  }
  std::shared_ptr<const CausalRows> Learn(const LearnedClasses& learned) {
    std::vector<CausalRows::Row> rows;
    return Learn(learned, &rows);
  }
  std::span<const float> VectorOf(std::string_view text) const {
    return {vectors_->Find(text), vectors_->dimension()};
  }
  double Accuracy(const CausalRows& rows, size_t classes, size_t first) const {
    HeadScores scores;
    double right = 0;
    double asked = 0;
    for (const auto& [text, place] : tests_) {
      if (place < first || place >= classes) continue;
      rows.Score(VectorOf(text), std::vector<bool>(classes, true), &scores);
      const auto best = std::max_element(scores.probabilities.begin(), scores.probabilities.end());
      right += static_cast<size_t>(best - scores.probabilities.begin()) == place ? 1 : 0;
      ++asked;
    }
    return right / asked;
  }

  const unsigned seed_ = std::random_device{}();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, absl::StrCat("seed ", seed_)};
  std::mt19937 random_{seed_};
  const std::shared_ptr<BagOfWordsLanguageModel> model_ =
      std::make_shared<BagOfWordsLanguageModel>();
  std::unique_ptr<CausalVectors> vectors_of_;
  std::vector<int> native_;
  RoutingExamples examples_;
  LearnedClasses learned_;
  std::vector<std::pair<std::string, size_t>> tests_;  // not learned; and their places
  std::vector<std::string_view> texts_;
  std::shared_ptr<const ExampleEmbeddings> vectors_;
  std::shared_ptr<const CausalRows> trained_;
};

TEST_P(CausalRowsTest, KnowsWhatItWasTrainedOnAndWhatItLearnedLater) {
  // Guessing is right one time in six at most.
  EXPECT_GE(Accuracy(*trained_, kTrained, 0), 0.6);
  const auto learned = Learn(learned_);
  EXPECT_GE(Accuracy(*learned, kTrained + kLearned, kTrained), 0.6);
  EXPECT_GE(Accuracy(*learned, kTrained + kLearned, 0), 0.6);
}

TEST_P(CausalRowsTest, LeavesTheOthersAsTheyAre) {
  const auto learned = Learn(learned_);
  EXPECT_EQ(learned->temperature(), trained_->temperature());
  for (const std::string_view text : texts_) {
    const std::vector<float> before = trained_->Logits(VectorOf(text));
    const std::vector<float> after = learned->Logits(VectorOf(text));
    ASSERT_EQ(before.size(), kTrained + 1);
    ASSERT_EQ(after.size(), kTrained + kLearned + 1);
    for (size_t c = 0; c < kTrained; ++c) ASSERT_TRUE(SameBits(before[c], after[c])) << text;
    ASSERT_TRUE(SameBits(before.back(), after.back())) << text;
  }
}

TEST_P(CausalRowsTest, RowsOfTheVocabularyAreTheModelsOwn) {
  if (!GetParam()) GTEST_SKIP() << "none is in the vocabulary";
  const auto learned = Learn(learned_);
  for (const std::string_view text : texts_) {
    const std::span<const float> vector = VectorOf(text);
    const std::vector<float> logits = learned->Logits(vector);
    double sum = std::exp(logits.back());
    for (size_t c = 0; c < kInVocabulary; ++c) {
      ASSERT_TRUE(SameBits(logits[c], vector[kHidden + c])) << text;
      sum += std::exp(logits[c]);
    }
    ASSERT_NEAR(sum, 1, 1e-4) << "with the rest of the vocabulary, all there is";
  }
}

// A row on the hidden state is an affine function of it.
TEST_P(CausalRowsTest, LearnedLogitsAreAffineInTheHiddenState) {
  const auto learned = Learn(learned_);
  for (int round = 0; round < 20; ++round) {
    const std::span<const float> a = VectorOf(texts_[random_() % texts_.size()]);
    const std::span<const float> b = VectorOf(texts_[random_() % texts_.size()]);
    const double t = std::uniform_real_distribution<>(-1, 2)(random_);
    std::vector<float> between(a.begin(), a.end());
    for (size_t f = 0; f < kHidden; ++f) {
      between[f] = static_cast<float>((1 - t) * double{a[f]} + t * double{b[f]});
    }
    const std::vector<float> at_a = learned->Logits(a);
    const std::vector<float> at_b = learned->Logits(b);
    const std::vector<float> at = learned->Logits(between);
    for (size_t c = kTrained; c < kTrained + kLearned; ++c) {
      EXPECT_NEAR(at[c], (1 - t) * double{at_a[c]} + t * double{at_b[c]},
                  1e-3 * (1 + std::abs(at_a[c]) + std::abs(at_b[c])));
    }
  }
}

TEST_P(CausalRowsTest, ItMakesNoDifferenceWhatWasKept) {
  const auto whole = Learn(learned_);
  EXPECT_EQ(Train()->temperature(), trained_->temperature());
  LearnedClasses fewer = learned_;
  fewer.rows.pop_back();
  std::vector<CausalRows::Row> rows;
  Learn(fewer, &rows);
  const CausalRows::Row first = rows[0];
  const auto continued = Learn(learned_, &rows);
  EXPECT_EQ(rows[0], first) << "only the new row is fitted";
  const auto kept = Learn(learned_, &rows);
  for (const std::string_view text : texts_) {
    const std::vector<float> logits = whole->Logits(VectorOf(text));
    for (const auto& other : {continued, kept}) {
      const std::vector<float> others = other->Logits(VectorOf(text));
      for (size_t c = 0; c < logits.size(); ++c) ASSERT_TRUE(SameBits(logits[c], others[c]));
    }
  }
}

TEST_P(CausalRowsTest, ATrainedClassAndNoneLearnMore) {
  LearnedClasses more;
  for (size_t c = 0; c < kTrained; ++c) more.trained.push_back(static_cast<int>(c));
  more.rows = learned_.rows;
  more.rows[0].place = 1;         // in the vocabulary, where there is one
  more.rows[1].place = kTrained;  // none
  const auto rows = Learn(more);
  for (size_t r = 0; r < more.rows.size(); ++r) {
    const size_t place = more.rows[r].place;
    // A single text may lose to what the others have in common.
    double gained = 0;
    for (const std::string& text : more.rows[r].texts) {
      gained += rows->Logits(VectorOf(text))[place] - trained_->Logits(VectorOf(text))[place];
    }
    EXPECT_GT(gained, 0);
  }
  for (const std::string_view text : texts_) {
    for (size_t c = 0; c < kTrained; ++c) {
      if (c == 1) continue;
      ASSERT_TRUE(SameBits(rows->Logits(VectorOf(text))[c], trained_->Logits(VectorOf(text))[c]));
    }
  }
}

TEST_P(CausalRowsTest, AClassNothingIsKnownOfIsNeverChosen) {
  LearnedClasses unknown = learned_;
  unknown.rows.pop_back();
  const auto rows = Learn(unknown);
  HeadScores scores;
  rows->Score(VectorOf(texts_[0]), std::vector<bool>(kTrained + kLearned, true), &scores);
  EXPECT_EQ(scores.probabilities.back(), 0);
  double sum = 0;
  for (const float probability : scores.probabilities) sum += double{probability};
  EXPECT_NEAR(sum, 1, 1e-4);
}

TEST_P(CausalRowsTest, RefusesWhatDoesNotFitTogether) {
  examples_.classes[0].push_back("without a vector");
  const auto train = [&](size_t token_values) {
    return CausalRows::Train(native_, token_values, examples_, *vectors_, absl::InfiniteFuture())
        .status();
  };
  EXPECT_EQ(train(vectors_of_->token_values()).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(train(vectors_->dimension()).code(), absl::StatusCode::kInternal);
  examples_.classes[0].pop_back();
  const absl::Status late = CausalRows::Train(native_, vectors_of_->token_values(), examples_,
                                              *vectors_, absl::Now() - absl::Seconds(1))
                                .status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded);
}

INSTANTIATE_TEST_SUITE_P(TokensInTheVocabulary, CausalRowsTest, testing::Values(false, true),
                         [](const testing::TestParamInfo<bool>& info) {
                           return info.param ? "Some" : "None";
                         });

// A graph whose model knows tokens of `files` and `sums`, but not of `music`.
constexpr char kGraph[] = R"(
apiVersion: octogate/v1
kind: Graph
metadata: {name: test}
spec:
  entry: main
  models: [{name: words, path: words}]
  nodes:
    - name: main
      router:
        members: [files, sums, music, other]
        fallback: sorry
        heads: [{threshold: 0.5, causal: {model: words, learnedRows: true}}]
    - name: files
      tool: {tool: reply, parameters: {text: files}}
      examples: [find the files, delete large files, count the files in a folder]
    - name: sums
      tool: {tool: reply, parameters: {text: sums}}
      examples: [the sum of 2 and 3, what is the sum of 17 and 4, a sum please]
    - name: music
      tool: {tool: reply, parameters: {text: music}}
      examples: [play a song, play some jazz, put on another song, play the next song by anyone]
    - {name: other, tool: {tool: reply, parameters: {text: other}}}
    - {name: sorry, tool: {tool: reply, parameters: {text: sorry}}}
)";

class LearnedRowsGraphTest : public testing::Test {
 protected:
  LearnedRowsGraphTest() {
    model_->vocabulary = {{"<fn:files>", "file"}, {"<fn:sums>", "sum"}, {"<fn:end>", "\x01"}};
  }

  absl::StatusOr<std::shared_ptr<const RoutingSnapshot>> Build(
      const v1::Graph& graph, const RoutingSnapshot* previous = nullptr) {
    const auto find = [this](std::string_view) -> absl::StatusOr<std::shared_ptr<CausalModel>> {
      return model_;
    };
    return RoutingSnapshot::Build(graph, 1, {.causal = find, .embedding = nullptr},
                                  absl::InfiniteFuture(), previous);
  }
  static v1::Graph Parse(const std::string& manifest) {
    auto parsed = ParseGraphManifest(manifest, "test.yaml");
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return parsed->graph;
  }
  static v1::Decision Route(const RoutingSnapshot& snapshot, const std::string& query) {
    v1::Decision result;
    snapshot.Route("main", query, {}, [&](absl::StatusOr<v1::Decision> decision) {
      EXPECT_TRUE(decision.ok()) << decision.status();
      if (decision.ok()) result = *std::move(decision);
    });
    return result;
  }

  const std::shared_ptr<BagOfWordsLanguageModel> model_ =
      std::make_shared<BagOfWordsLanguageModel>();
};

TEST_F(LearnedRowsGraphTest, TokensInTheVocabularyAndLearnedOnesAreChosen) {
  const auto snapshot = Build(Parse(kGraph));
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const v1::Decision files = Route(**snapshot, "rename the files");
  EXPECT_EQ(files.node(), "files") << files.DebugString();
  EXPECT_EQ(files.argument(), "rewritten") << "the model writes after a token that it knows";
  const v1::Decision music = Route(**snapshot, "play another song by anyone");
  EXPECT_EQ(music.node(), "music") << music.DebugString();
  EXPECT_EQ(music.token(), "<fn:music>");
  EXPECT_EQ(music.head(), "causal");
  EXPECT_EQ(music.argument(), "play another song by anyone");
}

TEST_F(LearnedRowsGraphTest, LearningReadsTheNewTextsOnly) {
  v1::Graph graph = Parse(kGraph);
  const auto before = Build(graph);
  ASSERT_TRUE(before.ok()) << before.status();
  v1::Node& other = *graph.mutable_spec()->mutable_nodes(4);
  ASSERT_EQ(other.name(), "other");
  for (const char* text : {"book a flight to rome", "a flight to oslo", "flights to rome please"}) {
    other.add_learned_examples(text);
  }
  const int scored = model_->scored;
  const auto after = Build(graph, before->get());
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(model_->scored, scored + 3);
  EXPECT_EQ(Route(**after, "book flights to rome").node(), "other");
  // The same from the beginning.
  const auto afresh = Build(graph);
  ASSERT_TRUE(afresh.ok()) << afresh.status();
  for (const char* query : {"play a song", "a flight", "the sum of songs", "hello there"}) {
    v1::Decision here = Route(**after, query);
    v1::Decision there = Route(**afresh, query);
    for (v1::Decision* decision : {&here, &there}) {
      decision->clear_duration_us();
      for (v1::HeadScore& head : *decision->mutable_heads()) head.clear_duration_us();
    }
    EXPECT_EQ(here.SerializeAsString(), there.SerializeAsString()) << query;
  }
}

TEST_F(LearnedRowsGraphTest, AWorkerThatKnowsNoHiddenStateIsAnErrorThatSaysSo) {
  model_->knows_hidden_states = false;
  const auto some_known = Build(Parse(kGraph));
  EXPECT_EQ(some_known.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(some_known.status().message()),
              HasSubstr("'words' returns no hidden state"));
  EXPECT_THAT(std::string(some_known.status().message()), HasSubstr("learnedRows"));
  model_->vocabulary.clear();
  const auto none_known = Build(Parse(kGraph));
  EXPECT_EQ(none_known.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(none_known.status().message()),
              HasSubstr("'words' returns no hidden state"));
  model_->knows_hidden_states = true;
  EXPECT_TRUE(Build(Parse(kGraph)).ok());
  model_->status = absl::UnavailableError("gone");
  EXPECT_EQ(Build(Parse(kGraph)).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(LearnedRowsGraphTest, ASpellingInTheGraphMustBeInTheVocabulary) {
  const auto snapshot = Build(Parse(absl::StrReplaceAll(
      kGraph, {{"learnedRows: true", "learnedRows: true, tokens: {music: <nexa_9>}"}})));
  EXPECT_EQ(snapshot.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(snapshot.status().message()),
              HasSubstr("'<nexa_9>' of the node 'music'"));
}

TEST_F(LearnedRowsGraphTest, WithoutLearnedRowsEveryTokenMustBeInTheVocabulary) {
  const auto snapshot = Build(Parse(absl::StrReplaceAll(kGraph, {{", learnedRows: true", ""}})));
  EXPECT_EQ(snapshot.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(snapshot.status().message()),
              HasSubstr("'<fn:music>' of the node 'music'"));
  EXPECT_THAT(std::string(snapshot.status().message()), HasSubstr("learnedRows"));
}

// A rewrite is written after the tokens of its own members only.
TEST_F(LearnedRowsGraphTest, ARewriteNeedsTheTokensOfItsMembersOnly) {
  const std::string lexical = absl::StrReplaceAll(
      kGraph, {{"causal: {model: words, learnedRows: true}}]",
                "lexical: {}}]\n        rewrite: {causal: {model: words}, members: [files]}"}});
  const auto snapshot = Build(Parse(lexical));
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  EXPECT_EQ(Route(**snapshot, "find the files").argument(), "rewritten");
  EXPECT_EQ(Route(**snapshot, "play the next song").argument(), "play the next song");
  const auto both = Build(
      Parse(absl::StrReplaceAll(lexical, {{"members: [files]}", "members: [files, music]}"}})));
  EXPECT_EQ(both.status().code(), absl::StatusCode::kFailedPrecondition);
  const auto rows = ParseGraphManifest(
      absl::StrReplaceAll(lexical, {{"{model: words}", "{model: words, learnedRows: true}"}}),
      "test.yaml");
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(rows.status().message()),
              HasSubstr("test.yaml:14:27: a rewrite is written after"));
}

}  // namespace
}  // namespace octogate::router

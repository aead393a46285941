// The encoder head: what it learns from vectors, and its place in a router's cascade.
#include "router/encoder_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "router/background_queries.h"
#include "router/graph_manifest.h"
#include "router/router.h"
#include "tests/router/bag_of_words_model.h"

namespace octogate::router {
namespace {

using ::testing::HasSubstr;

v1::EncoderHead Settings() {
  v1::EncoderHead settings;
  settings.set_model("m");
  settings.set_epochs(40);
  settings.set_seed(1);
  return settings;
}

RoutingExamples FilesAndSums() {
  return {.classes = {{"find large files", "list the files in a folder", "delete old files",
                       "copy a file", "search files for a word", "show hidden files"},
                      {"what is 2 plus 3", "17 times 4", "add 5 and 6", "12 percent of 80",
                       "square root of 16", "divide 10 by 4"}},
          .none = {}};
}

class EncoderHeadTest : public testing::Test {
 protected:
  std::shared_ptr<const ExampleEmbeddings> Embed(const RoutingExamples& examples) {
    const auto embeddings = ExampleEmbeddings::Make(EmbeddingClassifier::TextsOf(examples), *model_,
                                                    absl::InfiniteFuture(), {});
    EXPECT_TRUE(embeddings.ok()) << embeddings.status();
    return *embeddings;
  }
  std::shared_ptr<const EmbeddingClassifier> Train(const RoutingExamples& examples) {
    const auto classifier =
        EmbeddingClassifier::Train(Settings(), examples, *Embed(examples), absl::InfiniteFuture());
    EXPECT_TRUE(classifier.ok()) << classifier.status();
    return *classifier;
  }
  EncoderHead::Scores Score(const std::shared_ptr<const EmbeddingClassifier>& classifier,
                            const std::string& text, std::vector<bool> live = {true, true}) {
    const auto head = std::make_shared<const EncoderHead>(classifier, model_);
    absl::StatusOr<EncoderHead::Scores> result = absl::UnknownError("not called");
    head->Score(text, live, {},
                [&](absl::StatusOr<EncoderHead::Scores> scores) { result = std::move(scores); });
    EXPECT_TRUE(result.ok()) << result.status();
    return *result;
  }

  std::shared_ptr<BagOfWordsModel> model_ = std::make_shared<BagOfWordsModel>();
};

// 70,000 texts of 4,096 values: refused when the first vectors have come, before there is room
// made.
TEST_F(EncoderHeadTest, VectorsOfVeryManyExamplesAreRefused) {
  class LongVectors final : public EmbeddingModel {
   public:
    void Embed(const v1::WorkerEmbedRequest& request, const CallContext&, EmbedDone done) override {
      ++calls;
      v1::WorkerEmbedResponse response;
      for (int i = 0; i < request.inputs_size(); ++i) {
        response.add_embeddings()->mutable_values()->Resize(4096, 0.1F);
      }
      done(std::move(response));
    }
    absl::StatusOr<std::string> Fingerprint(absl::Time) override { return "long"; }
    int calls = 0;
  };
  std::vector<std::string> texts;
  for (int i = 0; i < 70'000; ++i) texts.push_back(absl::StrCat("text ", i));
  LongVectors model;
  const absl::Status status =
      ExampleEmbeddings::Make({texts.begin(), texts.end()}, model, absl::InfiniteFuture(), {})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("70000 examples with vectors of 4096 values are more "
                                          "than the 65536 that there is room for"));
  EXPECT_LT(model.calls, 10);
}

TEST_F(EncoderHeadTest, LearnsFromAFewExamples) {
  const auto classifier = Train(FilesAndSums());
  const auto files = Score(classifier, "list old files");
  EXPECT_GT(files.probabilities[0], 0.8);
  EXPECT_EQ(files.usage.prompt_tokens(), 5);
  EXPECT_GT(Score(classifier, "what is 17 plus 4").probabilities[1], 0.8);
  EXPECT_TRUE(model_->last_request.cut_long_inputs()) << "a long query is routed all the same";
}

TEST_F(EncoderHeadTest, WhatIsLikeNoExampleGetsLittleConfidence) {
  const auto classifier = Train(FilesAndSums());
  EXPECT_LT(Score(classifier, "lorem ipsum dolor sit amet").live_probability, 0.5);
  EXPECT_LT(Score(classifier, "zxqv wkjh").live_probability,
            Score(classifier, "list old files").live_probability);
}

TEST_F(EncoderHeadTest, ProbabilitiesAreThoseOfLiveClasses) {
  const auto classifier = Train(FilesAndSums());
  const auto scores = Score(classifier, "list old files", {false, true});
  EXPECT_EQ(scores.probabilities[0], 0);
  EXPECT_NEAR(scores.probabilities[1], 1, 1e-6);
  EXPECT_LT(scores.live_probability, Score(classifier, "list old files").live_probability);
}

TEST_F(EncoderHeadTest, TrainingIsDeterministic) {
  const auto a = Train(FilesAndSums());
  const auto b = Train(FilesAndSums());
  EXPECT_EQ(a->temperature(), b->temperature());
  for (const std::string_view text : BackgroundQueries()) {
    ASSERT_EQ(Score(a, std::string(text)).probabilities, Score(b, std::string(text)).probabilities);
  }
}

TEST_F(EncoderHeadTest, OddExamplesAreNoProblem) {
  EXPECT_EQ(EmbeddingClassifier::Train(Settings(), {}, *Embed({}), absl::InfiniteFuture())
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_LT(Score(Train({.classes = {{}, {}}, .none = {}}), "x").live_probability, 0.5);
  EXPECT_EQ(EmbeddingClassifier::Train(Settings(), FilesAndSums(), *Embed(FilesAndSums()),
                                       absl::InfinitePast())
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(EncoderHeadTest, AnAnswerOfAnotherLengthIsAnError) {
  class Shrunk final : public EmbeddingModel {
   public:
    void Embed(const v1::WorkerEmbedRequest&, const CallContext&, EmbedDone done) override {
      v1::WorkerEmbedResponse response;
      response.add_embeddings()->add_values(1);
      done(response);
    }
    absl::StatusOr<std::string> Fingerprint(absl::Time) override { return "shrunk"; }
  };
  const auto head =
      std::make_shared<const EncoderHead>(Train(FilesAndSums()), std::make_shared<Shrunk>());
  absl::Status status;
  head->Score("x", {true, true}, {},
              [&](const absl::StatusOr<EncoderHead::Scores>& scores) { status = scores.status(); });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
}

TEST(ExampleEmbeddingsTest, EmbedsOnlyWhatIsNew) {
  BagOfWordsModel model;
  std::vector<std::string> texts;
  for (int i = 0; i < 500; ++i) texts.push_back(absl::StrCat("text ", i));
  std::vector<std::string_view> views(texts.begin(), texts.end());
  views.push_back(texts[3]);
  const auto first = ExampleEmbeddings::Make(views, model, absl::InfiniteFuture(), {});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(model.texts, 500);
  views.push_back("another one");
  const auto second = ExampleEmbeddings::Make(views, model, absl::InfiniteFuture(), {*first});
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(model.texts, 501);
  for (const std::string_view text : views) {
    const auto alone = ExampleEmbeddings::Make({text}, model, absl::InfiniteFuture(), {});
    const float* expected = (*alone)->Find(text);
    const float* found = (*second)->Find(text);
    ASSERT_NE(found, nullptr);
    ASSERT_TRUE(std::equal(expected, expected + BagOfWordsModel::kDimension, found)) << text;
  }
  EXPECT_EQ((*second)->Find("something else"), nullptr);
}

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
        members: [files, sums]
        fallback: sorry
        heads:
          - {threshold: 1, lexical: {}}
          - {threshold: 0.4, encoder: {model: minilm}}
    - name: files
      tool: {tool: reply}
      examples: [find large files, list the files in a folder, delete old files, copy a file,
                 search files for a word, show hidden files, rename files, compress the folder]
    - name: sums
      tool: {tool: calculator}
      examples: [what is 2 plus 3, 17 times 4, add 5 and 6, 12 percent of 80, square root of 16,
                 divide 10 by 4, what is 9 minus 2, multiply 3 by 7]
    - {name: sorry, tool: {tool: reply}}
)";

class EncoderRouterTest : public testing::Test {
 protected:
  absl::StatusOr<std::shared_ptr<const RoutingSnapshot>> Build(
      const std::string& manifest = kManifest, const RoutingSnapshot* previous = nullptr) {
    const auto parsed = ParseGraphManifest(manifest, "test.yaml");
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return RoutingSnapshot::Build(parsed->graph, 1,
                                  {.embedding = [this](std::string_view) { return model_; }},
                                  absl::InfiniteFuture(), previous);
  }
  static v1::Decision Route(const RoutingSnapshot& snapshot, const std::string& query,
                            RouteOptions options = {}) {
    std::promise<absl::StatusOr<v1::Decision>> decision;
    snapshot.Route("main", query, std::move(options), [&](absl::StatusOr<v1::Decision> result) {
      decision.set_value(std::move(result));
    });
    const auto result = decision.get_future().get();
    EXPECT_TRUE(result.ok()) << result.status();
    return *result;
  }

  std::shared_ptr<BagOfWordsModel> model_ = std::make_shared<BagOfWordsModel>();
};

TEST_F(EncoderRouterTest, DecidesWhereTheHeadBeforeItIsNotSure) {
  const auto snapshot = Build();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  const v1::Decision decision = Route(**snapshot, "list old files");
  EXPECT_EQ(decision.node(), "files");
  EXPECT_EQ(decision.token(), "<fn:files>");
  EXPECT_EQ(decision.head(), "encoder");
  EXPECT_EQ(decision.argument(), "list old files");
  EXPECT_THAT(decision.reason(), HasSubstr("encoder was"));
  ASSERT_EQ(decision.heads_size(), 2);
  EXPECT_EQ(decision.heads(1).head(), "encoder");
  EXPECT_TRUE(decision.heads(1).decided());
  EXPECT_EQ(decision.heads(1).scores(0).token(), "<fn:files>");
  EXPECT_EQ(decision.usage().prompt_tokens(), 5);
}

TEST_F(EncoderRouterTest, AFailureIsNotedAndTheCascadeGoesOn) {
  const auto snapshot = Build();
  ASSERT_TRUE(snapshot.ok()) << snapshot.status();
  model_->status = absl::UnavailableError("no worker");
  const v1::Decision decision = Route(**snapshot, "list old files");
  EXPECT_TRUE(decision.fallback());
  EXPECT_THAT(decision.heads(1).error(), HasSubstr("no worker"));
  EXPECT_THAT(decision.reason(), HasSubstr("encoder failed"));
}

TEST_F(EncoderRouterTest, AModelThatDoesNotAnswerFailsTheBuild) {
  model_->status = absl::UnavailableError("no worker");
  const auto snapshot = Build();
  EXPECT_EQ(snapshot.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(snapshot.status().message(), HasSubstr("router 'main'"));
}

TEST_F(EncoderRouterTest, TheNextVersionEmbedsItsNewExamplesOnly) {
  const auto first = Build();
  ASSERT_TRUE(first.ok()) << first.status();
  const int before = model_->texts;
  const auto same = Build(kManifest, first->get());
  ASSERT_TRUE(same.ok()) << same.status();
  EXPECT_EQ(model_->texts, before);
  const auto second = Build(
      absl::StrReplaceAll(kManifest, {{"copy a file,", "copy a file, move folders elsewhere,"}}),
      same->get());
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_EQ(model_->texts, before + 1);
  EXPECT_EQ(Route(**second, "move folders elsewhere").node(), "files");
  // Other weights, other vectors.
  model_->fingerprint = "another one";
  model_->texts = 0;
  ASSERT_TRUE(Build(kManifest, second->get()).ok());
  EXPECT_EQ(model_->texts, before);
}

}  // namespace
}  // namespace octogate::router

// Encoder heads of very many classes.
#include "router/many_embedding_model.h"

#include <gtest/gtest.h>

#include <vector>

#include "router/encoder_head.h"
#include "tests/router/many_classes.h"

namespace octogate::router {
namespace {

using ManyEmbeddingModelTest = ManyClassesTest;

TEST_F(ManyEmbeddingModelTest, AnEncoderHeadFindsTheRightClassAmongMany) {
  const size_t classes = kManyClasses + 300;
  const RoutingExamples examples = Examples(classes, 3);
  WordVectors words;
  const auto embeddings = ExampleEmbeddings::Make(EmbeddingClassifier::TextsOf(examples), words,
                                                  absl::InfiniteFuture(), {});
  ASSERT_TRUE(embeddings.ok());
  const auto model =
      ManyEmbeddingModel::Train(kTraining, examples, **embeddings, absl::InfiniteFuture());
  ASSERT_TRUE(model.ok()) << model.status();
  std::vector<bool> live(classes, true);
  int right = 0;
  HeadScores scores;
  constexpr int kTexts = 400;
  for (int i = 0; i < kTexts; ++i) {
    const size_t c = Below(classes);
    const std::vector<float> vector = WordVectors::Of(Text(c));
    (*model)->Score(vector, live, &scores);
    ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
    right += Best(scores) == c ? 1 : 0;
  }
  RecordProperty("right", right);
  EXPECT_GE(right, 0.3 * kTexts);
  const std::vector<float> vector = WordVectors::Of(examples.classes[7][0]);
  (*model)->Score(vector, live, &scores);
  const size_t best = Best(scores);
  live[best] = false;
  (*model)->Score(vector, live, &scores);
  ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
  EXPECT_NE(Best(scores), best);
  // No text, no direction.
  (*model)->Score(std::vector<float>(WordVectors::kDimension, 0), live, &scores);
  ASSERT_NO_FATAL_FAILURE(ExpectDistribution(scores, live));
  EXPECT_EQ(ManyEmbeddingModel::Train(kTraining, examples, **embeddings, absl::InfinitePast())
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace octogate::router

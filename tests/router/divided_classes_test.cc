// Classes of vectors that are no one direction: how they are divided, and what divided ones learn.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/encoder_head.h"
#include "router/vector_groups.h"
#include "tests/router/bag_of_words_model.h"

namespace octogate::router {
namespace {

constexpr int kSeed = 20261129;

std::vector<std::vector<float>> RandomVectors(size_t count, size_t dimension, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> vectors(count, std::vector<float>(dimension));
  for (std::vector<float>& vector : vectors) {
    float squares = 0;
    for (float& value : vector) {
      value = normal(random);
      squares += value * value;
    }
    for (float& value : vector) value /= std::sqrt(squares);
  }
  return vectors;
}

std::vector<const float*> Pointers(const std::vector<std::vector<float>>& vectors) {
  std::vector<const float*> pointers;
  pointers.reserve(vectors.size());
  for (const std::vector<float>& vector : vectors) pointers.push_back(vector.data());
  return pointers;
}

// No vector is nearer to another group's mean than to its own once nothing moves any more; rounds
// are few, so that some may be.
TEST(VectorGroupsTest, VectorsAreNearTheirGroup) {
  SCOPED_TRACE(absl::StrCat("seed ", kSeed));
  constexpr size_t kDimension = 24;
  for (const size_t groups : {2, 5, 11}) {
    const auto vectors = RandomVectors(300, kDimension, kSeed);
    const auto found =
        GroupVectors(Pointers(vectors), kDimension, groups, 1, absl::InfiniteFuture());
    ASSERT_TRUE(found.ok()) << found.status();
    std::vector<std::vector<double>> means(groups, std::vector<double>(kDimension, 0));
    for (size_t i = 0; i < vectors.size(); ++i) {
      for (size_t f = 0; f < kDimension; ++f) means[(*found)[i]][f] += vectors[i][f];
    }
    size_t elsewhere = 0;
    for (size_t i = 0; i < vectors.size(); ++i) {
      std::vector<double> cosines;
      for (const std::vector<double>& mean : means) {
        double product = 0;
        double squares = 0;
        for (size_t f = 0; f < kDimension; ++f) {
          product += mean[f] * vectors[i][f];
          squares += mean[f] * mean[f];
        }
        cosines.push_back(product / std::sqrt(squares));
      }
      const auto nearest = std::max_element(cosines.begin(), cosines.end()) - cosines.begin();
      elsewhere += static_cast<size_t>(nearest) == (*found)[i] ? 0 : 1;
    }
    EXPECT_LE(elsewhere, vectors.size() / 10) << groups << " groups";
  }
}

TEST(VectorGroupsTest, FindsWhatIsApart) {
  // Noise round three directions.
  std::vector<std::vector<float>> vectors = RandomVectors(90, 16, kSeed);
  for (size_t i = 0; i < vectors.size(); ++i) {
    for (float& value : vectors[i]) value *= 0.2F;
    vectors[i][i % 3] += 1;
    float squares = 0;
    for (const float value : vectors[i]) squares += value * value;
    for (float& value : vectors[i]) value /= std::sqrt(squares);
  }
  const auto found = GroupVectors(Pointers(vectors), 16, 3, 1, absl::InfiniteFuture());
  ASSERT_TRUE(found.ok()) << found.status();
  for (size_t i = 0; i < vectors.size(); ++i) EXPECT_EQ((*found)[i], i % 3) << i;
}

TEST(VectorGroupsTest, GroupsAreNumberedAsTheyComeAndNoneIsEmpty) {
  const auto vectors = RandomVectors(40, 8, kSeed);
  std::vector<const float*> twice = Pointers(vectors);
  twice.resize(10);
  std::fill(twice.begin() + 3, twice.end(), twice[0]);  // Three different ones in all.
  for (const size_t groups : {0, 1, 2, 3, 7, 50}) {
    const auto found = GroupVectors(twice, 8, groups, 1, absl::InfiniteFuture());
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(found->size(), twice.size());
    const std::set<uint32_t> used(found->begin(), found->end());
    EXPECT_LE(used.size(), std::clamp<size_t>(groups, 1, 3));
    EXPECT_EQ(*used.rbegin(), used.size() - 1);
    EXPECT_EQ(found->front(), 0U);
    EXPECT_EQ(*found, *GroupVectors(twice, 8, groups, 1, absl::InfiniteFuture()));
  }
  EXPECT_TRUE(GroupVectors({}, 8, 4, 1, absl::InfiniteFuture())->empty());
  EXPECT_EQ(GroupVectors(twice, 8, 2, 1, absl::InfinitePast()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

// A class is two of the four pairs of words that "left" or "right" and "up" or "down" make, so that
// no word by itself speaks for a class.
std::string Text(int kind, std::mt19937* random) {
  std::string text = absl::StrCat(kind < 2 ? "left " : "right ", kind % 2 == 0 ? "up" : "down");
  return absl::StrCat(text, " f", (*random)() % 50);
}
constexpr int kKindsOf[2][2] = {{0, 3}, {1, 2}};

class DividedClassesTest : public testing::Test {
 protected:
  DividedClassesTest() {
    settings_.set_model("m");
    settings_.set_epochs(20);
    settings_.set_seed(1);
    examples_.classes.resize(2);
    std::mt19937 random(kSeed);
    for (size_t c = 0; c < 2; ++c) {
      for (int i = 0; i < 120; ++i) {
        examples_.classes[c].push_back(Text(kKindsOf[c][i % 2], &random));
        tests_.emplace_back(Text(kKindsOf[c][i % 2], &random), c);
      }
    }
    for (int i = 0; i < 20; ++i) {
      further_.push_back(absl::StrCat(i < 15 ? "north f" : "south f", i));
    }
    std::vector<std::string_view> all = EmbeddingClassifier::TextsOf(examples_);
    for (const auto& [text, label] : tests_) all.push_back(text);
    all.insert(all.end(), further_.begin(), further_.end());
    auto embeddings = ExampleEmbeddings::Make(all, model_, absl::InfiniteFuture(), {});
    EXPECT_TRUE(embeddings.ok()) << embeddings.status();
    embeddings_ = *embeddings;
  }

  std::shared_ptr<const EmbeddingClassifier> Train(const RoutingExamples& examples) {
    auto trained =
        EmbeddingClassifier::Train(settings_, examples, *embeddings_, absl::InfiniteFuture());
    EXPECT_TRUE(trained.ok()) << trained.status();
    return *trained;
  }
  std::shared_ptr<const EmbeddingClassifier> Learn(const EmbeddingClassifier& trained,
                                                   const LearnedClasses& learned) {
    std::vector<EmbeddingClassifier::Row> rows(learned.rows.size());
    auto classifier = EmbeddingClassifier::Learn(trained, settings_, examples_, learned,
                                                 *embeddings_, absl::InfiniteFuture(), &rows);
    EXPECT_TRUE(classifier.ok()) << classifier.status();
    return *classifier;
  }
  std::span<const float> Embed(const std::string& text) const {
    return {embeddings_->Find(text), BagOfWordsModel::kDimension};
  }
  size_t Right(const EmbeddingClassifier& classifier, size_t classes) {
    size_t right = 0;
    for (const auto& [text, label] : tests_) {
      HeadScores scores;
      classifier.Score(Embed(text), std::vector<bool>(classes, true), &scores);
      const auto best = std::max_element(scores.probabilities.begin(), scores.probabilities.end());
      right += static_cast<size_t>(best - scores.probabilities.begin()) == label ? 1 : 0;
    }
    return right;
  }

  BagOfWordsModel model_;
  v1::EncoderHead settings_;
  RoutingExamples examples_;
  std::vector<std::string> further_;
  std::vector<std::pair<std::string, size_t>> tests_;
  std::shared_ptr<const ExampleEmbeddings> embeddings_;
};

TEST_F(DividedClassesTest, ClassesOfSeveralDirectionsAreDivided) {
  const auto classifier = Train(examples_);
  EXPECT_TRUE(classifier->is_divided());
  EXPECT_EQ(classifier->Logits(Embed(tests_[0].first)).size(), 3U);
  EXPECT_GE(Right(*classifier, 2), tests_.size() * 9 / 10);
}

TEST_F(DividedClassesTest, ClassesOfFewExamplesAreNot) {
  for (std::vector<std::string>& texts : examples_.classes) texts.resize(40);
  EXPECT_FALSE(Train(examples_)->is_divided());
}

TEST_F(DividedClassesTest, TrainingIsDeterministic) {
  const auto a = Train(examples_);
  const auto b = Train(examples_);
  EXPECT_EQ(a->temperature(), b->temperature());
  for (const auto& [text, label] : tests_) {
    ASSERT_EQ(a->Logits(Embed(text)), b->Logits(Embed(text)));
  }
}

TEST_F(DividedClassesTest, WhatIsLearnedAfterwardsLeavesTheOthers) {
  const auto trained = Train(examples_);
  ASSERT_TRUE(trained->is_divided());
  // A new class between the two, whose order changes, and more of the second.
  const LearnedClasses learned = {
      .trained = {1, -1, 0},
      .rows = {{.place = 1, .texts = {further_.begin(), further_.begin() + 15}},
               {.place = 0, .texts = {further_.begin() + 15, further_.end()}}}};
  const auto classifier = Learn(*trained, learned);
  for (const auto& [text, label] : tests_) {
    const std::vector<float> before = trained->Logits(Embed(text));
    const std::vector<float> after = classifier->Logits(Embed(text));
    ASSERT_EQ(after.size(), 4U);
    EXPECT_EQ(after[2], before[0]);
    EXPECT_EQ(after[3], before[2]);
  }
  HeadScores scores;
  classifier->Score(Embed(further_[3]), {true, true, true}, &scores);
  EXPECT_GT(scores.probabilities[1], 0.5);

  // Without any rows it is what was trained.
  const auto same = Learn(*trained, {.trained = {0, 1}, .rows = {}});
  for (const auto& [text, label] : tests_) {
    EXPECT_EQ(same->Logits(Embed(text)), trained->Logits(Embed(text)));
  }
}

TEST_F(DividedClassesTest, ALearnedTextRaisesItsClass) {
  const auto trained = Train(examples_);
  const auto classifier =
      Learn(*trained, {.trained = {0, 1}, .rows = {{.place = 1, .texts = further_}}});
  HeadScores before;
  HeadScores after;
  trained->Score(Embed(further_[0]), {true, true}, &before);
  classifier->Score(Embed(further_[0]), {true, true}, &after);
  EXPECT_GT(after.probabilities[1] * after.live_probability,
            before.probabilities[1] * before.live_probability);
}

}  // namespace
}  // namespace octogate::router

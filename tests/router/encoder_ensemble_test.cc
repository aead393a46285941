// The pooled encoder head, its parts, and thresholds that keep a risk.
#include "router/encoder_ensemble.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "router/cascade_rules.h"
#include "router/held_out.h"
#include "tests/router/bag_of_words_model.h"

namespace octogate::router {
namespace {

class EncoderEnsembleTest : public testing::Test {
 protected:
  EncoderEnsembleTest() { std::cout << "seed " << seed_ << "\n"; }

  float Uniform() { return std::uniform_real_distribution<float>(-1, 1)(random_); }

  // Three subjects of words of their own, every text with words of all in common.
  RoutingExamples Subjects(int count) {
    RoutingExamples examples;
    examples.classes.resize(3);
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < count; ++i) examples.classes[c].push_back(Text(c));
    }
    for (int i = 0; i < count; ++i) examples.none.push_back(Text(3));
    return examples;
  }
  std::string Text(int subject) {
    std::string text;
    for (int i = 0; i < 6; ++i) {
      const bool own = random_() % 2 == 0;
      absl::StrAppend(&text, own ? absl::StrCat("w", subject, "x") : "common", random_() % 12, " ");
    }
    return text;
  }
  std::shared_ptr<const ExampleEmbeddings> Embed(const RoutingExamples& examples) {
    const auto embeddings = ExampleEmbeddings::Make(EmbeddingClassifier::TextsOf(examples), model_,
                                                    absl::InfiniteFuture(), {});
    EXPECT_TRUE(embeddings.ok()) << embeddings.status();
    return *embeddings;
  }
  std::vector<float> VectorOf(const std::string& text) {
    const auto embeddings = ExampleEmbeddings::Make({text}, model_, absl::InfiniteFuture(), {});
    const float* vector = (*embeddings)->Find(text);
    return {vector, vector + (*embeddings)->dimension()};
  }
  static v1::EncoderHead Settings() {
    v1::EncoderHead settings;
    settings.set_model("m");
    settings.set_epochs(10);
    settings.set_seed(1);
    settings.set_ensemble(true);
    return settings;
  }

  const unsigned seed_ = std::random_device()();
  std::mt19937 random_{seed_};
  BagOfWordsModel model_;
};

TEST_F(EncoderEnsembleTest, NearestExamplesVoteAsSortingAllSays) {
  for (int round = 0; round < 50; ++round) {
    const size_t dimension = 1 + random_() % 40;
    NearestExamples nearest(4, dimension);
    std::vector<std::pair<std::vector<float>, int>> examples(1 + random_() % 100);
    for (auto& [vector, label] : examples) {
      for (size_t d = 0; d < dimension; ++d) vector.push_back(Uniform());
      label = static_cast<int>(random_() % 4);
      nearest.Add(vector, label);
    }
    std::vector<float> query;
    for (size_t d = 0; d < dimension; ++d) query.push_back(Uniform());
    std::vector<std::pair<double, int>> products;
    for (const auto& [vector, label] : examples) {
      double product = 0;
      for (size_t d = 0; d < dimension; ++d) product += double{vector[d]} * double{query[d]};
      products.emplace_back(product, label);
    }
    std::sort(products.begin(), products.end(), std::greater<>());
    products.resize(std::min(products.size(), NearestExamples::kNeighbours));
    std::vector<double> expected(4);
    double sum = 0;
    for (const auto& [product, label] : products) {
      const double vote = std::exp((product - products[0].first) / NearestExamples::kTemperature);
      expected[static_cast<size_t>(label)] += vote;
      sum += vote;
    }
    const std::vector<float> shares = nearest.Shares(query);
    for (size_t c = 0; c < 4; ++c) {
      ASSERT_NEAR(shares[c], expected[c] / sum, 1e-3) << "seed " << seed_;
    }
  }
}

TEST_F(EncoderEnsembleTest, PoolWeightsAreThoseOfLeastLoss) {
  for (int round = 0; round < 20; ++round) {
    std::vector<Opinions> opinions(200);
    std::vector<int> labels;
    std::vector<double> importance;
    for (Opinions& opinion : opinions) {
      labels.push_back(static_cast<int>(random_() % 4));
      importance.push_back(1 + static_cast<double>(random_() % 5));
      for (size_t k = 0; k < 4; ++k) {
        for (int c = 0; c < 4; ++c) opinion[k].push_back(Uniform() * 3);
        // The first knows much, the second little, the others are wrong.
        opinion[k][static_cast<size_t>(labels.back())] += k == 0 ? 2 : k == 1 ? 0.5F : -1;
      }
    }
    const auto loss = [&](const std::array<double, 4>& weights) {
      double value = 0;
      for (const double weight : weights) value += (weight - 0.5) * (weight - 0.5);
      for (size_t i = 0; i < labels.size(); ++i) {
        double sum = 0, label = 0;
        for (int c = 0; c < 4; ++c) {
          double logit = 0;
          for (size_t k = 0; k < 4; ++k) logit += weights[k] * opinions[i][k][c];
          sum += std::exp(logit);
          if (c == labels[i]) label = logit;
        }
        value += importance[i] * (std::log(sum) - label);
      }
      return value;
    };
    const std::array<double, 4> best = FitPoolWeights(opinions, labels, importance);
    const double least = loss(best);
    for (size_t k = 0; k < 4; ++k) {
      ASSERT_GE(best[k], 0);
      for (const double off : {-0.05, 0.05}) {
        std::array<double, 4> other = best;
        other[k] = std::max(0.0, other[k] + off);
        ASSERT_GE(loss(other), least - 1e-3) << k << ", seed " << seed_;
      }
    }
    ASSERT_GT(best[0], best[1]) << "seed " << seed_;
    ASSERT_EQ(best[2], 0) << "seed " << seed_;
    ASSERT_EQ(best[3], 0) << "seed " << seed_;
  }
}

TEST_F(EncoderEnsembleTest, LearnsAndIsDeterministic) {
  const RoutingExamples examples = Subjects(30);
  const auto embeddings = Embed(examples);
  const auto a = EncoderEnsemble::Train(Settings(), examples, *embeddings, absl::InfiniteFuture());
  const auto b = EncoderEnsemble::Train(Settings(), examples, *embeddings, absl::InfiniteFuture());
  ASSERT_TRUE(a.ok() && b.ok()) << a.status();
  EXPECT_EQ((*a)->weights(), (*b)->weights());
  int right = 0;
  for (int i = 0; i < 300; ++i) {
    const std::string text = absl::StrCat("w", i % 3, "x1 ", Text(i % 3));
    HeadScores scores, again;
    (*a)->Score(text, VectorOf(text), {true, true, true}, &scores);
    (*b)->Score(text, VectorOf(text), {true, true, true}, &again);
    ASSERT_EQ(scores.probabilities, again.probabilities);
    const auto best = std::max_element(scores.probabilities.begin(), scores.probabilities.end());
    right += best - scores.probabilities.begin() == i % 3;
  }
  EXPECT_GT(right, 225) << "seed " << seed_;
  EXPECT_EQ(EncoderEnsemble::Train(Settings(), examples, *embeddings, absl::InfinitePast())
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

// Pool weights of very many classes are fitted to examples of all kinds.
TEST_F(EncoderEnsembleTest, HeldOutExamplesAskedAboutAreSpreadOverClassesAndNone) {
  for (int iteration = 0; iteration < 30; ++iteration) {
    const size_t classes = iteration % 3 == 0 ? 3 + random_() % 500 : 512 + random_() % 9500;
    const int rounds = iteration % 2 == 0 ? 1 : kHeldOutParts;
    std::vector<std::pair<std::string_view, int>> left_out;
    for (size_t c = 0; c < classes; ++c) {
      for (size_t i = random_() % 4; i > 0; --i) left_out.emplace_back("", static_cast<int>(c));
    }
    const size_t own = left_out.size();
    for (size_t i = random_() % 3000; i > 0; --i) {
      left_out.emplace_back("", static_cast<int>(classes));
    }
    const auto chosen = ChooseHeldOut(left_out, classes, rounds);
    double stands_for_own = 0, stands_for_none = 0;
    size_t last = 0;
    for (size_t k = 0; k < chosen.size(); ++k) {
      ASSERT_LT(chosen[k].place, left_out.size());
      if (k > 0) {
        ASSERT_GT(chosen[k].place, last) << "each once; seed " << seed_;
      }
      last = chosen[k].place;
      (last < own ? stands_for_own : stands_for_none) += chosen[k].stands_for;
    }
    ASSERT_NEAR(stands_for_own, own, 1e-6 * own) << "seed " << seed_;
    ASSERT_NEAR(stands_for_none, left_out.size() - own, 1e-6 * left_out.size()) << "seed " << seed_;
    if (classes < 512) {
      ASSERT_EQ(chosen.size(), left_out.size());
      continue;
    }
    ASSERT_LE(chosen.size() * (classes + 1) * static_cast<size_t>(rounds), kMaxOpinions);
    // No stretch of the classes is left out.
    const size_t most = kMaxOpinions / static_cast<size_t>(rounds) / (classes + 1);
    const size_t gap = own / (most / 2) + 2;
    size_t before = 0;
    for (const ChosenHeldOut& one : chosen) {
      if (one.place >= own) break;
      ASSERT_LE(one.place - before, gap) << "seed " << seed_;
      before = one.place;
    }
    ASSERT_LE(own - before, gap) << "seed " << seed_;
  }
}

TEST_F(EncoderEnsembleTest, PartsHoldOutEachExampleOnce) {
  const RoutingExamples examples = Subjects(7);
  size_t left_out = 0;
  for (int part = 0; part < kHeldOutParts; ++part) {
    const HeldOutSplit split = HoldOut(examples, part);
    EXPECT_EQ(CountExamples(split.kept) + split.left_out.size(), CountExamples(examples));
    left_out += split.left_out.size();
    for (const auto& [text, label] : split.left_out) {
      const auto& own = label == 3 ? examples.none : examples.classes[static_cast<size_t>(label)];
      EXPECT_NE(std::find(own.begin(), own.end(), text), own.end());
    }
  }
  EXPECT_EQ(left_out, CountExamples(examples));
}

TEST_F(EncoderEnsembleTest, PartsAreRunsOfEachClassAndShareSmallClasses) {
  RoutingExamples examples;
  examples.classes.resize(50);
  for (size_t c = 0; c < 50; ++c) {
    const size_t count = c < 25 ? 1 : 20 + random_() % 20;
    for (size_t i = 0; i < count; ++i) examples.classes[c].push_back(absl::StrCat(i));
  }
  for (int part = 0; part < kHeldOutParts; ++part) {
    std::vector<std::vector<int>> places(50);
    for (const auto& [text, label] : HoldOut(examples, part).left_out) {
      places[static_cast<size_t>(label)].push_back(std::stoi(std::string(text)));
    }
    int small = 0;
    for (size_t c = 0; c < 50; ++c) {
      if (c < 25) small += static_cast<int>(places[c].size());
      if (c < 25) continue;
      const auto count = static_cast<double>(examples.classes[c].size());
      ASSERT_NEAR(static_cast<double>(places[c].size()), count / kHeldOutParts, 1)
          << "seed " << seed_;
      ASSERT_EQ(places[c].back() - places[c].front() + 1, places[c].size()) << "seed " << seed_;
    }
    EXPECT_EQ(small, 25 / kHeldOutParts);
  }
}

TEST_F(EncoderEnsembleTest, ExamplesOfNoneCountAsATenthOfAllAtLeast) {
  RoutingExamples examples;
  examples.classes = {std::vector<std::string>(180, "a"), std::vector<std::string>(180, "b")};
  EXPECT_EQ(NoneImportance(examples), 1) << "without any";
  examples.none.assign(10, "x");
  EXPECT_DOUBLE_EQ(NoneImportance(examples), 4);
  examples.none.assign(1, "x");
  EXPECT_EQ(NoneImportance(examples), 25) << "one text is not all there is to none";
  examples.none.assign(100, "x");
  EXPECT_EQ(NoneImportance(examples), 1) << "they are enough";
}

TEST_F(EncoderEnsembleTest, ALowerRiskNeedsAHigherThreshold) {
  const RoutingExamples examples = Subjects(40);
  double last = 0;
  for (const double risk : {0.9, 0.3, 0.1, 0.0}) {
    v1::Head head;
    head.mutable_lexical()->set_hash_bits(12);
    head.mutable_lexical()->set_epochs(10);
    head.mutable_lexical()->set_seed(1);
    head.set_risk(risk);
    const auto thresholds =
        ChooseThresholds({{.settings = &head}}, examples, absl::InfiniteFuture());
    ASSERT_TRUE(thresholds.ok()) << thresholds.status();
    EXPECT_GE(thresholds->at(0), last) << "seed " << seed_;
    last = thresholds->at(0);
  }
  EXPECT_GT(last, 1) << "no examples prove that a head is never wrong";
}

TEST_F(EncoderEnsembleTest, CausalHeadsHaveNoRisk) {
  v1::Head head;
  head.mutable_causal();
  head.set_risk(0.1);
  EXPECT_EQ(
      ChooseThresholds({{.settings = &head}}, Subjects(3), absl::InfiniteFuture()).status().code(),
      absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace octogate::router

#include "router/softmax_regression.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "router/exponential.h"

namespace octogate::router {
namespace {

class SoftmaxRegressionTest : public testing::Test {
 protected:
  SoftmaxRegressionTest() : seed_(std::random_device{}()), random_(seed_) {}

  size_t Below(size_t bound) { return random_() % bound; }
  float Between(float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random_);
  }

  // Examples of random features, of which each class prefers some.
  void MakeExamples(size_t count, size_t features, size_t classes) {
    for (size_t i = 0; i < count; ++i) {
      const size_t label = Below(classes);
      for (int k = 0; k < 8; ++k) {
        const size_t feature = k < 3 ? (label * 3 + Below(3)) % features : Below(features);
        examples_.entries.push_back({static_cast<uint32_t>(feature), Between(0.1F, 0.6F)});
      }
      examples_.begin.push_back(examples_.entries.size());
      labels_.push_back(static_cast<int>(label));
      all_.push_back(static_cast<uint32_t>(i));
    }
  }

  LinearModel Train(size_t features, size_t classes, const SoftmaxTraining& training) {
    auto model =
        TrainSoftmax(examples_, labels_, all_, features, classes, training, absl::InfiniteFuture());
    EXPECT_TRUE(model.ok()) << model.status();
    return *model;
  }

  std::vector<double> Probabilities(const LinearModel& model, size_t example) const {
    std::vector<double> p(model.bias.begin(),
                          model.bias.begin() + static_cast<ptrdiff_t>(model.classes));
    for (size_t k = examples_.begin[example]; k < examples_.begin[example + 1]; ++k) {
      const SparseRows::Entry& entry = examples_.entries[k];
      for (size_t c = 0; c < model.classes; ++c) {
        p[c] += entry.value * model.weights[entry.feature * model.stride + c];
      }
    }
    double sum = 0;
    for (double& logit : p) sum += logit = std::exp(logit);
    for (double& probability : p) probability /= sum;
    return p;
  }

  const unsigned seed_;
  const testing::ScopedTrace trace_{__FILE__, __LINE__, testing::Message() << "seed " << seed_};
  std::mt19937 random_;
  SparseRows examples_;
  std::vector<int> labels_;
  std::vector<uint32_t> all_;
};

// Two steps, against the formulas in double.
TEST_F(SoftmaxRegressionTest, StepsAreThoseOfAdagrad) {
  for (int i = 0; i < 20; ++i) {
    SCOPED_TRACE(testing::Message() << "case " << i);
    const size_t classes = 2 + Below(40);
    const auto label = Below(classes);
    const float x = Between(0.1F, 1);
    examples_ = {.begin = {0, 1}, .entries = {{2, x}}};
    labels_ = {static_cast<int>(label)};
    all_ = {0};
    const double smoothing = 0.1;
    const double rate = 0.3;
    const LinearModel model =
        Train(4, classes, {.epochs = 2, .learning_rate = rate, .smoothing = smoothing});

    const auto n = static_cast<double>(classes);
    std::vector<double> weights(classes), squares(classes), bias(classes), bias_squares(classes);
    const auto update = [&](double g, double* weight, double* square) {
      *square += g * g;
      *weight -= rate * g / std::sqrt(*square + 1e-12);
    };
    for (int epoch = 0; epoch < 2; ++epoch) {
      std::vector<double> p(classes);
      double sum = 0;
      for (size_t c = 0; c < classes; ++c) sum += p[c] = std::exp(bias[c] + x * weights[c]);
      for (size_t c = 0; c < classes; ++c) {
        const double g = p[c] / sum - (c == label ? 1 - smoothing : smoothing / (n - 1));
        update(x * g, &weights[c], &squares[c]);
        update(g, &bias[c], &bias_squares[c]);
      }
    }
    for (size_t c = 0; c < classes; ++c) {
      ASSERT_NEAR(model.weights[2 * model.stride + c], weights[c], 1e-3);
      ASSERT_NEAR(model.bias[c], bias[c], 1e-3);
      ASSERT_EQ(model.weights[c], 0) << "of a feature that no example has";
    }
  }
}

TEST_F(SoftmaxRegressionTest, ApproachesTheSmoothedLabels) {
  MakeExamples(40, 200, 5);
  const LinearModel model = Train(200, 5, {.epochs = 300, .learning_rate = 0.3, .smoothing = 0.2});
  for (size_t i = 0; i < 40; ++i) {
    EXPECT_GT(Probabilities(model, i)[static_cast<size_t>(labels_[i])], 0.7);
  }
}

TEST_F(SoftmaxRegressionTest, EqualInputsGiveEqualBits) {
  MakeExamples(100, 50, 11);
  const LinearModel a = Train(50, 11, {.epochs = 5, .seed = 7});
  const LinearModel b = Train(50, 11, {.epochs = 5, .seed = 7});
  EXPECT_EQ(a.weights, b.weights);
  EXPECT_EQ(a.bias, b.bias);
  for (size_t f = 0; f < 50; ++f) {
    for (size_t c = 11; c < a.stride; ++c) ASSERT_EQ(a.weights[f * a.stride + c], 0) << "padding";
  }
}

// The function of this machine against plain loops in the same order: not a bit differs.
TEST_F(SoftmaxRegressionTest, RowsAreAddedInTheirOrder) {
  for (int i = 0; i < 30; ++i) {
    const size_t stride = 8 * (1 + Below(40));
    const size_t features = 1 + Below(100);
    std::vector<float> weights(features * stride);
    for (float& weight : weights) weight = Between(-2, 2);
    std::vector<SparseRows::Entry> entries(Below(60));
    for (auto& entry : entries) entry = {static_cast<uint32_t>(Below(features)), Between(-1, 1)};
    std::vector<float> expected(stride, 0.5F);
    std::vector<float> actual = expected;
    for (const SparseRows::Entry& entry : entries) {
      for (size_t c = 0; c < stride; ++c) {
        expected[c] += entry.value * weights[entry.feature * stride + c];
      }
    }
    FindAddRows()(entries.data(), entries.data() + entries.size(), weights.data(), stride,
                  actual.data());
    ASSERT_EQ(actual, expected);
  }
}

TEST_F(SoftmaxRegressionTest, TheExponentialIsThatOfTheStandardLibrary) {
  for (int i = 0; i < 100'000; ++i) {
    const float x = Between(-87, 87);
    const double expected = std::exp(static_cast<double>(x));
    ASSERT_NEAR(Exponential(x) / expected, 1, 3e-7) << x;
  }
  EXPECT_EQ(Exponential(0), 1);
  EXPECT_GT(Exponential(-1e30F), 0);
  EXPECT_TRUE(std::isfinite(Exponential(1e30F)));
  EXPECT_TRUE(std::isfinite(Exponential(std::nanf(""))));
}

}  // namespace
}  // namespace octogate::router

#include "router/quantized_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace octogate::router {
namespace {

constexpr size_t kBlock = QuantizedModel::kBlock;

class QuantizedModelTest : public testing::Test {
 protected:
  QuantizedModelTest() : seed_(std::random_device{}()), random_(seed_) {}

  size_t Below(size_t bound) { return random_() % bound; }

  LinearModel RandomModel(size_t features, size_t classes, float largest) {
    LinearModel model{.features = features, .classes = classes, .stride = (classes + 7) / 8 * 8};
    model.weights.resize(features * model.stride);
    model.bias.resize(model.stride);
    std::uniform_real_distribution<float> weight(-largest, largest);
    for (size_t f = 0; f < features; ++f) {
      for (size_t c = 0; c < classes; ++c) model.weights[f * model.stride + c] = weight(random_);
    }
    for (size_t c = 0; c < classes; ++c) model.bias[c] = weight(random_);
    return model;
  }

  const unsigned seed_;
  const testing::ScopedTrace trace_{__FILE__, __LINE__, testing::Message() << "seed " << seed_};
  std::mt19937 random_;
};

// Against plain loops over 64-bit integers, for more rows than sums of 16 bits can take and the
// largest weights.
TEST_F(QuantizedModelTest, EveryInstructionSetSumsRowsExactly) {
  for (int i = 0; i < 60; ++i) {
    SCOPED_TRACE(testing::Message() << "case " << i);
    const size_t blocks_per_row = 1 + Below(14);
    const size_t features = 1 + Below(50);
    const bool extreme = i % 3 == 0;
    std::vector<QuantizedModel::Block> blocks(features * blocks_per_row);
    for (auto& block : blocks) {
      for (int8_t& weight : block.weights) {
        weight = static_cast<int8_t>(extreme ? -127 : static_cast<int>(Below(255)) - 127);
      }
    }
    std::vector<uint32_t> rows(i % 4 == 0 ? Below(3) : Below(2000));
    for (uint32_t& row : rows) row = static_cast<uint32_t>(Below(features));
    std::vector<int32_t> start(blocks_per_row * kBlock);
    for (int32_t& sum : start) sum = static_cast<int32_t>(Below(1000));
    std::vector<int64_t> expected(start.begin(), start.end());
    for (const uint32_t row : rows) {
      for (size_t c = 0; c < expected.size(); ++c) {
        expected[c] += blocks[row * blocks_per_row + c / kBlock].weights[c % kBlock];
      }
    }
    for (size_t f = 0; f < SumRowsFunctions().size(); ++f) {
      std::vector<int32_t> sums = start;
      SumRowsFunctions()[f](rows.data(), rows.data() + rows.size(), blocks.data(), blocks_per_row,
                            sums.data());
      ASSERT_EQ(std::vector<int64_t>(sums.begin(), sums.end()), expected) << "function " << f;
    }
  }
}

TEST_F(QuantizedModelTest, WeightsAreKeptToHalfAStep) {
  const LinearModel model = RandomModel(40, 1 + Below(100), 3);
  const QuantizedModel quantized = Quantize(model);
  for (size_t f = 0; f < model.features; ++f) {
    for (size_t c = 0; c < model.classes; ++c) {
      const int8_t weight =
          quantized.blocks[f * quantized.blocks_per_row + c / kBlock].weights[c % kBlock];
      ASSERT_NEAR(quantized.scales[c] * weight, model.weights[f * model.stride + c],
                  0.5001 * quantized.scales[c]);
    }
  }
}

TEST_F(QuantizedModelTest, AModelOfZerosHasItsBiasAsLogits) {
  LinearModel model = RandomModel(3, 5, 0);
  model.bias = {1, 2, 3, 4, 5, 0, 0, 0};
  GroupedRows rows{.scale = 1, .once = {0, 1, 2}, .other = {{2, 1}}};
  QuantizedLogits logits;
  EXPECT_EQ(logits.Compute(
                Quantize(model), [](uint32_t value) { return static_cast<float>(value); }, &rows),
            std::vector<float>({1, 2, 3, 4, 5}));
}

// Against the sum in double over the model before it was quantized.
TEST_F(QuantizedModelTest, LogitsAreThoseOfTheModelUpToItsSteps) {
  const auto value = [](uint32_t n) { return std::sqrt(static_cast<float>(n)); };
  QuantizedLogits logits;
  for (int i = 0; i < 40; ++i) {
    SCOPED_TRACE(testing::Message() << "case " << i);
    const LinearModel model = RandomModel(1 + Below(300), 1 + Below(200), 2);
    const QuantizedModel quantized = Quantize(model);
    GroupedRows rows{.scale = 0.25F};
    for (size_t n = Below(500); n > 0; --n) {
      rows.once.push_back(static_cast<uint32_t>(Below(model.features)));
    }
    for (size_t n = Below(100); n > 0; --n) {
      rows.other.push_back(
          {static_cast<uint32_t>(2 + Below(20)), static_cast<uint32_t>(Below(model.features))});
    }
    std::vector<double> expected(model.bias.begin(),
                                 model.bias.begin() + static_cast<ptrdiff_t>(model.classes));
    double values = 0;
    const auto add = [&](uint32_t row, double factor) {
      values += factor;
      for (size_t c = 0; c < model.classes; ++c) {
        expected[c] += rows.scale * factor * model.weights[row * model.stride + c];
      }
    };
    for (const uint32_t row : rows.once) add(row, 1);
    for (const GroupedRows::Row& row : rows.other) add(row.row, value(row.value));
    // The order in which rows are named is no part of the result.
    GroupedRows shuffled = rows;
    std::shuffle(shuffled.once.begin(), shuffled.once.end(), random_);
    std::shuffle(shuffled.other.begin(), shuffled.other.end(), random_);

    const std::vector<float> actual = logits.Compute(quantized, value, &rows);
    ASSERT_EQ(actual.size(), model.classes);
    const double tolerance = rows.scale * values * quantized.scales.front() * 0.5 + 1e-4;
    for (size_t c = 0; c < model.classes; ++c) ASSERT_NEAR(actual[c], expected[c], tolerance);
    ASSERT_EQ(logits.Compute(quantized, value, &shuffled), actual);
  }
}

// Columns with other scales and more rows than the model has.
TEST_F(QuantizedModelTest, AColumnIsAddedWithoutAChangeToTheOthers) {
  const auto value = [](uint32_t n) { return std::sqrt(static_cast<float>(n)); };
  QuantizedLogits logits;
  for (int i = 0; i < 40; ++i) {
    SCOPED_TRACE(testing::Message() << "case " << i);
    const size_t features = 1 + Below(100);
    QuantizedModel model = Quantize(RandomModel(features, 1 + Below(140), 2));
    GroupedRows rows{.scale = 0.25F};
    for (size_t n = Below(100); n > 0; --n) {
      rows.once.push_back(static_cast<uint32_t>(Below(features)));
    }
    for (size_t n = Below(50); n > 0; --n) {
      rows.other.push_back(
          {static_cast<uint32_t>(2 + Below(20)), static_cast<uint32_t>(Below(features))});
    }
    std::vector<float> expected = logits.Compute(model, value, &rows);
    size_t known = features;
    for (int added = 0; added < 3; ++added) {
      known += Below(20);
      std::vector<float> weights(known);
      for (float& weight : weights) weight = static_cast<float>(Below(2001)) / 100 - 10;
      const QuantizedColumn column = QuantizeColumn(weights, 0.5F);
      AppendColumn(column, &model);
      expected.push_back(LogitOf(column, value, rows));
      ASSERT_EQ(logits.Compute(model, value, &rows), expected);
      // A row that only the new columns know.
      GroupedRows more = rows;
      more.once.push_back(static_cast<uint32_t>(known - 1));
      const std::vector<float> with_more = logits.Compute(model, value, &more);
      ASSERT_EQ(with_more.back(), LogitOf(column, value, more));
    }
  }
}

}  // namespace
}  // namespace octogate::router

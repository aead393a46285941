// The forward pass: the hidden states that transformers computed for the fixtures, and the promise
// that a text's result depends on the text alone.
#include "workers/encoder/encoder_model.h"

#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/workers/encoder/test_encoders.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

using kernels::WeightFormat;

constexpr EncoderLimits kLimits{.max_rows = 512, .max_texts = 16};

std::unique_ptr<EncoderModel> LoadModel(const std::string& name, kernels::Backend* backend,
                                        WeightFormat format = WeightFormat::kStored) {
  auto model = EncoderModel::Load(OpenEncoder(name), backend, kLimits, format);
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? *std::move(model) : nullptr;
}

// Hidden states of all texts, one behind the other.
std::vector<float> Forward(EncoderModel& model, const std::vector<std::vector<int32_t>>& texts) {
  std::vector<int32_t> ids;
  std::vector<int> lengths;
  for (const std::vector<int32_t>& text : texts) {
    ids.insert(ids.end(), text.begin(), text.end());
    lengths.push_back(static_cast<int>(text.size()));
  }
  std::vector<float> hidden(ids.size() * static_cast<size_t>(model.config().hidden_size));
  model.Forward(ids, lengths, hidden);
  return hidden;
}

class EncoderModelTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Fixtures, EncoderModelTest, ::testing::Values("bert", "bert_cls"),
                         [](const auto& info) { return info.param; });

TEST_P(EncoderModelTest, HiddenStatesAreThoseOfTransformers) {
  const auto backend = kernels::MakeCpuBackend({.threads = 1});
  const auto model = LoadModel(GetParam(), backend.get());
  ASSERT_NE(model, nullptr);
  const auto width = static_cast<size_t>(model->config().hidden_size);
  const nlohmann::json expected = ReadExpected(GetParam());
  ASSERT_GE(expected["texts"].size(), 5u);
  for (const nlohmann::json& text : expected["texts"]) {
    const auto ids = text["ids"].get<std::vector<int32_t>>();
    const std::vector<float> hidden = Forward(*model, {ids});
    const auto compare = [&](const nlohmann::json& wanted, const float* actual) {
      double squares = 0;
      double errors = 0;
      for (size_t c = 0; c < width; ++c) {
        const double value = wanted[c].get<double>();
        squares += value * value;
        errors += (value - double{actual[c]}) * (value - double{actual[c]});
      }
      EXPECT_LT(std::sqrt(errors / squares), 1e-4) << ids.size() << " tokens";
    };
    for (size_t i = 0; i < text["positions"].size(); ++i) {
      compare(text["hidden"][i], hidden.data() + text["positions"][i].get<size_t>() * width);
    }
    std::vector<float> pooled(width);
    PoolRows(model->config().pooling, hidden, model->config().hidden_size, pooled);
    compare(text["pooled"], pooled.data());
  }
}

TEST_P(EncoderModelTest, ATextDoesNotDependOnWhatIsBesideItNorOnThreads) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (const WeightFormat format : kernels::kWeightFormats) {
    const auto backend = kernels::MakeCpuBackend({.threads = 1});
    const auto threads = kernels::MakeCpuBackend({.threads = 3});
    const auto model = LoadModel(GetParam(), backend.get(), format);
    const auto threaded = LoadModel(GetParam(), threads.get(), format);
    ASSERT_TRUE(model && threaded);
    std::vector<std::vector<int32_t>> texts;
    int rows = 0;
    while (texts.size() < 12) {
      const int length = 1 + static_cast<int>(random() % 100);
      if (rows + length > kLimits.max_rows) break;
      rows += length;
      texts.push_back(RandomText(random, length, model->config().vocab_size));
    }
    std::vector<float> alone;
    for (const std::vector<int32_t>& text : texts) {
      const std::vector<float> hidden = Forward(*model, {text});
      alone.insert(alone.end(), hidden.begin(), hidden.end());
    }
    EXPECT_TRUE(alone == Forward(*model, texts)) << kernels::Name(format);
    EXPECT_TRUE(alone == Forward(*threaded, texts)) << kernels::Name(format) << ", 3 threads";
  }
}

TEST_P(EncoderModelTest, AllBackendsGiveTheReferencesBits) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto reference = kernels::MakeReferenceBackend();
  const auto model = LoadModel(GetParam(), reference.get());
  ASSERT_NE(model, nullptr);
  const std::vector<std::vector<int32_t>> texts = {
      RandomText(random, 37, model->config().vocab_size),
      RandomText(random, 5, model->config().vocab_size)};
  const std::vector<float> expected = Forward(*model, texts);
  for (const kernels::Isa isa :
       {kernels::Isa::kPlain, kernels::Isa::kAvx2, kernels::Isa::kAvx512}) {
    if (!kernels::IsSupported(isa)) continue;
    const auto backend = kernels::MakeCpuBackend({.threads = 1, .isa = isa});
    EXPECT_TRUE(expected == Forward(*LoadModel(GetParam(), backend.get()), texts))
        << kernels::Name(isa);
  }
}

TEST_P(EncoderModelTest, FormatsCostAsMuchPrecisionAsTheyReport) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto backend = kernels::MakeCpuBackend({.threads = 1});
  const auto exact = LoadModel(GetParam(), backend.get());
  ASSERT_NE(exact, nullptr);
  const std::vector<int32_t> text = RandomText(random, 60, exact->config().vocab_size);
  const std::vector<float> expected = Forward(*exact, {text});
  for (const WeightFormat format : {WeightFormat::kBf16, WeightFormat::kInt8Group}) {
    const auto model = LoadModel(GetParam(), backend.get(), format);
    ASSERT_NE(model, nullptr);
    EXPECT_EQ(model->weight_report().format, format);
    EXPECT_LT(model->weight_report().bytes, exact->weight_report().bytes + 1);
    const std::vector<float> hidden = Forward(*model, {text});
    double squares = 0;
    double errors = 0;
    for (size_t i = 0; i < hidden.size(); ++i) {
      squares += double{expected[i]} * double{expected[i]};
      errors +=
          (double{expected[i]} - double{hidden[i]}) * (double{expected[i]} - double{hidden[i]});
    }
    // Random weights with sharp attention amplify: a trained model loses far less.
    EXPECT_LT(std::sqrt(errors / squares), 0.15) << kernels::Name(format);
  }
}

TEST(PoolRowsTest, TakesTheMeanOrTheFirst) {
  const std::vector<float> hidden = {1, 2, 3, 6};
  std::vector<float> out(2);
  PoolRows(Pooling::kMean, hidden, 2, out);
  EXPECT_EQ(out, (std::vector<float>{2, 4}));
  PoolRows(Pooling::kCls, hidden, 2, out);
  EXPECT_EQ(out, (std::vector<float>{1, 2}));
}

}  // namespace
}  // namespace octogate::workers

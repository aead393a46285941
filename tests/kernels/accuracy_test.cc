// Results against sums in double precision, written without regard to any
// order, and against the errors that float sums of such lengths may have.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::Seed;
using testing::StoredMatrix;

constexpr double kEpsilon = 6e-8;  // half a unit in the last place of 1

class AccuracyTest : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> backend_ = MakeCpuBackend();
  RandomData random_;
};

TEST_F(AccuracyTest, MatMul) {
  for (const int cols : {1, 60, 1000, 4096}) {
    constexpr int kOutputs = 23;
    const StoredMatrix weight(random_.Floats(static_cast<size_t>(kOutputs * cols)), DType::kF16,
                              kOutputs, cols);
    const auto w = weight.Widened();
    const auto x = random_.Floats(static_cast<size_t>(3 * cols));
    const auto bias = random_.Floats(kOutputs);
    std::vector<float> out(3 * kOutputs, 0.5f);
    backend_->MatMul(*backend_->LoadWeight(weight.matrix(), WeightFormat::kStored), bias.data(),
                     x.data(), 3, true, out.data(), kOutputs);
    for (int r = 0; r < 3; ++r) {
      for (int n = 0; n < kOutputs; ++n) {
        double exact = 0.5 + bias[static_cast<size_t>(n)];
        double magnitude = 0.5 + std::fabs(bias[static_cast<size_t>(n)]);
        for (int k = 0; k < cols; ++k) {
          const double product = static_cast<double>(w[static_cast<size_t>(n * cols + k)]) *
                                 x[static_cast<size_t>(r * cols + k)];
          exact += product;
          magnitude += std::fabs(product);
        }
        const double steps = cols / 16.0 + 8;  // roundings on the way to one output
        ASSERT_NEAR(out[static_cast<size_t>(r * kOutputs + n)], exact, steps * kEpsilon * magnitude)
            << "cols " << cols << " (seed " << Seed() << ")";
      }
    }
  }
}

TEST_F(AccuracyTest, RmsNorm) {
  for (const int columns : {16, 172, 4096}) {
    const auto x = random_.Floats(static_cast<size_t>(columns), 10);
    const auto weight = random_.Floats(static_cast<size_t>(columns));
    std::vector<float> out(x.size());
    backend_->RmsNorm(x.data(), weight.data(), 1, columns, 1e-5f, out.data());
    double squares = 0;
    for (const float v : x) squares += static_cast<double>(v) * v;
    const double scale = 1 / std::sqrt(squares / columns + 1e-5);
    for (size_t i = 0; i < x.size(); ++i) {
      const double exact = x[i] * scale * weight[i];
      ASSERT_NEAR(out[i], exact, 1e-6 * std::fabs(exact) + 1e-12) << "seed " << Seed();
    }
  }
}

TEST_F(AccuracyTest, LayerNorm) {
  for (const int columns : {2, 16, 172, 4096}) {
    auto x = random_.Floats(static_cast<size_t>(columns), 10);
    for (float& v : x) v += 30;
    const auto weight = random_.Floats(static_cast<size_t>(columns));
    const auto bias = random_.Floats(static_cast<size_t>(columns));
    std::vector<float> out(x.size());
    backend_->LayerNorm(x.data(), weight.data(), bias.data(), 1, columns, 1e-5f, out.data());
    double mean = 0;
    double magnitude = 0;
    for (const float v : x) {
      mean += static_cast<double>(v) / columns;
      magnitude = std::max(magnitude, std::fabs(static_cast<double>(v)));
    }
    double variance = 0;
    for (const float v : x) variance += (v - mean) * (v - mean) / columns;
    const double deviation = std::sqrt(variance + 1e-5);
    // The mean's error moves every value, in units of the deviation; what follows is relative.
    const double steps = columns / 16.0 + 8;
    const double shift = (steps + 2) * kEpsilon * magnitude / deviation;
    for (size_t i = 0; i < x.size(); ++i) {
      const double centred = (x[i] - mean) / deviation;
      const double exact = centred * weight[i] + bias[i];
      const double error = shift + std::fabs(centred) * (steps * kEpsilon + shift + shift * shift);
      ASSERT_NEAR(out[i], exact,
                  std::fabs(weight[i]) * error + kEpsilon * (std::fabs(exact) + error) * 4)
          << "seed " << Seed();
    }
  }
}

TEST_F(AccuracyTest, Rope) {
  constexpr int kHalf = 32;
  std::vector<float> frequencies(kHalf);
  for (int i = 0; i < kHalf; ++i) {
    frequencies[static_cast<size_t>(i)] = std::pow(500000.0f, -static_cast<float>(i) / kHalf);
  }
  const std::vector<int32_t> positions{0, 1, 77, 4095, 131071};
  const auto before = random_.Floats(positions.size() * 2 * kHalf);
  auto after = before;
  backend_->Rope({1, 2 * kHalf, frequencies, 1.1f}, positions, 2 * kHalf, after.data());
  for (size_t r = 0; r < positions.size(); ++r) {
    for (size_t i = 0; i < kHalf; ++i) {
      const float angle = static_cast<float>(positions[r]) * frequencies[i];
      const double c = 1.1 * std::cos(static_cast<double>(angle));
      const double s = 1.1 * std::sin(static_cast<double>(angle));
      const double a = before[r * 2 * kHalf + i];
      const double b = before[r * 2 * kHalf + kHalf + i];
      const double bound = 8 * kEpsilon * (std::fabs(a) + std::fabs(b));
      EXPECT_NEAR(after[r * 2 * kHalf + i], a * c - b * s, bound) << "seed " << Seed();
      EXPECT_NEAR(after[r * 2 * kHalf + kHalf + i], b * c + a * s, bound) << "seed " << Seed();
    }
  }
}

TEST_F(AccuracyTest, Attention) {
  constexpr int kHeadDim = 64;
  constexpr int kLength = 3000;
  for (const int window : {0, 100, 1000}) {
    const auto cache = backend_->CreateKvCache({1, kLength / 16 + 1, 16, 1, kHeadDim, DType::kF32});
    std::vector<int32_t> pages(kLength / 16 + 1);
    std::iota(pages.begin(), pages.end(), 0);
    const auto keys = random_.Floats(kLength * kHeadDim);
    const auto values = random_.Floats(kLength * kHeadDim);
    const std::vector<SequenceRows> all{{0, kLength, 0, pages}};
    backend_->WriteKv(*cache, 0, all, keys.data(), values.data(), kHeadDim);
    const auto q = random_.Floats(kHeadDim, 3);  // some weights near one
    const std::vector<SequenceRows> last{{0, 1, kLength - 1, pages}};
    std::vector<float> out(kHeadDim);
    backend_->Attention({1, 1, kHeadDim, 0.125f, window}, *cache, 0, last, q.data(), kHeadDim,
                        out.data());
    std::vector<double> exact(kHeadDim);
    std::vector<double> magnitude(kHeadDim);
    double sum = 0;
    double rounding = 0;  // of the weights p, in all
    for (size_t j = window == 0 ? 0 : kLength - static_cast<size_t>(window); j < kLength; ++j) {
      double score = 0;
      double terms = 0;
      for (size_t d = 0; d < kHeadDim; ++d) {
        const double product = 0.125 * static_cast<double>(q[d]) * keys[j * kHeadDim + d];
        score += product;
        terms += std::fabs(product);
      }
      const double p = std::exp(score);
      // Of one weight: the roundings of its score, and a few of exp and of the sums.
      const double relative = (kHeadDim / 16.0 + 4) * kEpsilon * terms + 32 * kEpsilon;
      sum += p;
      rounding += p * relative;
      for (size_t d = 0; d < kHeadDim; ++d) {
        const double value = p * values[j * kHeadDim + d];
        exact[d] += value;
        magnitude[d] += std::fabs(value) * relative;
      }
    }
    for (size_t d = 0; d < kHeadDim; ++d) {
      exact[d] /= sum;
      ASSERT_NEAR(out[d], exact[d], (magnitude[d] + std::fabs(exact[d]) * rounding) / sum)
          << "window " << window << " (seed " << Seed() << ")";
    }
  }
}

// What a narrow cache may cost, from the error of each key and value.
TEST_F(AccuracyTest, KvCachesOfEightBits) {
  constexpr int kHeadDim = 64;
  constexpr int kLength = 700;
  constexpr float kScale = 0.125f;
  std::vector<int32_t> pages(kLength / 16 + 1);
  std::iota(pages.begin(), pages.end(), 0);
  const auto keys = random_.Floats(kLength * kHeadDim);
  const auto values = random_.Floats(kLength * kHeadDim);
  const auto q = random_.Floats(kHeadDim, 2);
  const auto attend = [&](DType dtype) {
    const auto cache = backend_->CreateKvCache({1, kLength / 16 + 1, 16, 1, kHeadDim, dtype});
    const SequenceRows all{0, kLength, 0, pages};
    backend_->WriteKv(*cache, 0, {&all, 1}, keys.data(), values.data(), kHeadDim);
    const SequenceRows last{0, 1, kLength - 1, pages};
    std::vector<float> out(kHeadDim);
    backend_->Attention({1, 1, kHeadDim, kScale, 0}, *cache, 0, {&last, 1}, q.data(), kHeadDim,
                        out.data());
    return out;
  };
  // How far a stored value may be from `x`, the largest of its position being `largest`.
  const auto error = [](DType dtype, float x, float largest) {
    if (dtype == DType::kI8) return 0.50001 * largest / 127;
    return std::max(std::fabs(static_cast<double>(x)) / 16, 0x1p-10);
  };
  const auto exact = attend(DType::kF32);
  for (const DType dtype : {DType::kF8E4M3, DType::kI8}) {
    std::vector<double> scores(kLength);
    double score_error = 0;  // the largest of all
    std::vector<double> value_error(kLength * kHeadDim);
    for (size_t j = 0; j < kLength; ++j) {
      const auto largest = [&](const std::vector<float>& of) {
        float max = 0;
        for (size_t d = 0; d < kHeadDim; ++d) max = std::max(max, std::fabs(of[j * kHeadDim + d]));
        return max;
      };
      double of_score = 0;
      for (size_t d = 0; d < kHeadDim; ++d) {
        const size_t at = j * kHeadDim + d;
        scores[j] += kScale * static_cast<double>(q[d]) * keys[at];
        of_score += kScale * std::fabs(q[d]) * error(dtype, keys[at], largest(keys));
        value_error[at] = error(dtype, values[at], largest(values));
      }
      score_error = std::max(score_error, of_score);
    }
    const double max = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    for (const double score : scores) sum += std::exp(score - max);
    const auto narrow = attend(dtype);
    for (size_t d = 0; d < kHeadDim; ++d) {
      // Weights change by a factor of at most exp(2 * score_error), up or down.
      double bound = 0;
      for (size_t j = 0; j < kLength; ++j) {
        const double p = std::exp(scores[j] - max) / sum;
        const size_t at = j * kHeadDim + d;
        const double value = std::fabs(static_cast<double>(values[at]));
        bound += p * (std::expm1(2 * score_error) * (value + value_error[at]) + value_error[at]);
      }
      ASSERT_NEAR(narrow[d], exact[d], bound + 1e-4) << Name(dtype) << " (seed " << Seed() << ")";
    }
  }
}

// A value that is no number stays one; what is too large stays large.
TEST_F(AccuracyTest, KvCachesKeepWhatIsNoNumber) {
  const std::vector<int32_t> pages{0};
  const SequenceRows row{0, 1, 0, pages};
  const auto attend = [&](DType dtype, float value) {
    const auto cache = backend_->CreateKvCache({1, 1, 16, 1, 2, dtype});
    const std::vector<float> key{1, 1};
    const std::vector<float> values{value, 1};
    backend_->WriteKv(*cache, 0, {&row, 1}, key.data(), values.data(), 2);
    std::vector<float> out(2);
    backend_->Attention({1, 1, 2, 1, 0}, *cache, 0, {&row, 1}, key.data(), 2, out.data());
    return out;
  };
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kI8}) {
    EXPECT_TRUE(std::isnan(attend(dtype, NAN)[0])) << Name(dtype);
    EXPECT_EQ(attend(dtype, 0)[0], 0) << Name(dtype);
    EXPECT_EQ(attend(dtype, 0)[1], 1) << Name(dtype);
  }
  EXPECT_EQ(attend(DType::kF8E4M3, -1e9f)[0], -448);
  EXPECT_TRUE(std::isnan(attend(DType::kI8, INFINITY)[0]));
}

TEST(FactoryTest, DescribesItselfAndRefusesWhatCannotBe) {
  EXPECT_EQ(MakeCpuBackend({.threads = 1, .isa = Isa::kPlain})->Describe(), "cpu-plain (1 thread)");
  EXPECT_EQ(MakeCpuBackend({.threads = 1, .isa = Isa::kPlain, .activations = Activations::kBF16})
                ->Describe(),
            "cpu-plain (1 thread, bf16 activations)");
  EXPECT_EQ(
      MakeCpuBackend({.threads = 1, .isa = Isa::kPlain, .activations = Activations::kBF16Pairs})
          ->Describe(),
      "cpu-plain (1 thread, bf16-pairs activations)");
  EXPECT_EQ(MakeCpuBackend({.threads = 2, .isa = Isa::kPlain})->Describe(),
            "cpu-plain (2 threads)");
  EXPECT_EQ(MakeReferenceBackend()->Describe(), "reference");
  const auto backend = MakeCpuBackend();
  ASSERT_NE(backend, nullptr);
  EXPECT_EQ(backend->Allocate(SIZE_MAX / 2), nullptr);
  EXPECT_EQ(backend->Allocate(size_t{1} << 60), nullptr);
  EXPECT_EQ(backend->CreateKvCache({1 << 30, 1 << 30, 1 << 30, 1 << 10, 128, DType::kF32}),
            nullptr);
  EXPECT_NE(backend->Allocate(0), nullptr);
}

}  // namespace
}  // namespace octogate::kernels

// Products with activations rounded to BF16: the tiles of AMX, the pairs of
// AVX512_BF16, the multiply-adds of the other instruction sets and the scalar
// specification (kernels/bf16_dot.h) give the same bits, for any number of rows, with
// weights in BF16 and, in pairs, in FP8.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/bf16_dot.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/float8.h"
#include "kernels/quantize.h"
#include "kernels/quantized_dot.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::SameBits;
using testing::Seed;
using testing::StoredMatrix;

struct Case {
  Isa isa;
  Activations activations;
  WeightFormat format = WeightFormat::kStored;
};

class Bf16Test : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto [isa, activations, format] = GetParam();
    if (!IsSupported(isa)) GTEST_SKIP() << "this CPU has no " << Name(isa);
    backend_ = MakeCpuBackend({.threads = 2, .isa = isa, .activations = activations});
    ASSERT_NE(backend_, nullptr);
  }

  static bool Fp8() { return GetParam().format == WeightFormat::kFp8; }

  static std::vector<float> Specified(const StoredMatrix& weight, int outputs, int cols,
                                      const std::vector<float>& x, int rows) {
    const auto w = weight.Widened();
    const auto quantized = Fp8() ? Quantize(weight.matrix(), WeightFormat::kFp8) : std::nullopt;
    std::vector<float> out;
    for (int r = 0; r < rows; ++r) {
      for (int n = 0; n < outputs; ++n) {
        const auto a = [&](int k) {
          return BFloat16ToFloat(FloatToBFloat16(x[static_cast<size_t>(r * cols + k)]));
        };
        if (quantized) {
          const uint8_t* codes =
              quantized->codes.get() + static_cast<size_t>(n) * quantized->row_bytes;
          const auto b = [&](int k) { return Float8ToFloat(codes[k]) / kFloat8Shift; };
          out.push_back(DotBf16Pairs(a, b, cols) * (quantized->row_scales[n] * kFloat8Shift));
          continue;
        }
        const auto b = [&](int k) { return w[static_cast<size_t>(n * cols + k)]; };
        out.push_back(GetParam().activations == Activations::kBF16 ? DotBf16(a, b, cols)
                                                                   : DotBf16Pairs(a, b, cols));
      }
    }
    return out;
  }

  std::vector<float> MatMul(const StoredMatrix& weight, const std::vector<float>& x, int rows) {
    const auto loaded = backend_->LoadWeight(weight.matrix(), GetParam().format);
    std::vector<float> out(static_cast<size_t>(rows * loaded->rows));
    backend_->MatMul(*loaded, nullptr, x.data(), rows, false, out.data(), loaded->rows);
    return out;
  }

  std::unique_ptr<Backend> backend_;
  RandomData random_;
};

// Of all codes of FP8, and of what leaves them alone.
class Fp8PairsTest : public Bf16Test {};
class AmxOrderTest : public Bf16Test {};

std::string CaseName(const ::testing::TestParamInfo<Case>& info) {
  const bool pairs = info.param.activations == Activations::kBF16Pairs;
  return std::string(Name(info.param.isa)) + (pairs ? "_pairs" : "") +
         (info.param.format == WeightFormat::kFp8 ? "_fp8" : "");
}

constexpr Case kAmxOrder[] = {{Isa::kPlain, Activations::kBF16},
                              {Isa::kAvx2, Activations::kBF16},
                              {Isa::kAvx512, Activations::kBF16},
                              {Isa::kAmx, Activations::kBF16}};
constexpr Case kPairs[] = {{Isa::kPlain, Activations::kBF16Pairs},
                           {Isa::kAvx2, Activations::kBF16Pairs},
                           {Isa::kAvx512, Activations::kBF16Pairs},
                           {Isa::kAvx512Bf16, Activations::kBF16Pairs}};
constexpr Case kFp8Pairs[] = {{Isa::kPlain, Activations::kBF16Pairs, WeightFormat::kFp8},
                              {Isa::kAvx2, Activations::kBF16Pairs, WeightFormat::kFp8},
                              {Isa::kAvx512, Activations::kBF16Pairs, WeightFormat::kFp8},
                              {Isa::kAvx512Bf16, Activations::kBF16Pairs, WeightFormat::kFp8}};

INSTANTIATE_TEST_SUITE_P(AmxOrder, Bf16Test, ::testing::ValuesIn(kAmxOrder), CaseName);
INSTANTIATE_TEST_SUITE_P(Pairs, Bf16Test, ::testing::ValuesIn(kPairs), CaseName);
INSTANTIATE_TEST_SUITE_P(Fp8Pairs, Bf16Test, ::testing::ValuesIn(kFp8Pairs), CaseName);
INSTANTIATE_TEST_SUITE_P(Fp8Pairs, Fp8PairsTest, ::testing::ValuesIn(kFp8Pairs), CaseName);
INSTANTIATE_TEST_SUITE_P(AmxOrder, AmxOrderTest, ::testing::ValuesIn(kAmxOrder), CaseName);

TEST_P(Bf16Test, FollowsTheSpecificationForAnyNumberOfRows) {
  for (const int cols : {1, 2, 31, 32, 33, 60, 172, 1000}) {
    for (const int rows : {1, 2, 3, 4, 5, 9, 16, 21, 32, 45, random_.Int(6, 60)}) {
      const int outputs = random_.Int(1, 60);
      const StoredMatrix weight(random_.Floats(static_cast<size_t>(outputs * cols)), DType::kBF16,
                                outputs, cols);
      const auto x = random_.Floats(static_cast<size_t>(rows * cols));
      ASSERT_TRUE(SameBits(Specified(weight, outputs, cols, x, rows), MatMul(weight, x, rows)))
          << rows << " rows, " << cols << " columns";
    }
  }
}

// More rows than are multiplied at a time, of more columns than a cache holds, and
// several panels of more columns than are taken at a time.
TEST_P(Bf16Test, CutsManyRowsOfManyColumns) {
  struct Shape {
    int rows;
    int cols;
    int most_outputs;
  };
  for (const auto [rows, cols, most_outputs] :
       {Shape{40, 33000, 3}, Shape{300, 4000, 3}, Shape{1, 1100, 70}, Shape{3, 1100, 70},
        Shape{7, 1100, 70}, Shape{30, 1100, 70}}) {
    const int outputs = random_.Int(1, most_outputs);
    const StoredMatrix weight(random_.Floats(static_cast<size_t>(outputs * cols)), DType::kBF16,
                              outputs, cols);
    const auto x = random_.Floats(static_cast<size_t>(rows * cols));
    ASSERT_TRUE(SameBits(Specified(weight, outputs, cols, x, rows), MatMul(weight, x, rows)));
  }
}

// Products and sums about the smallest normal number: what is flushed, and when. Codes of FP8 are
// of one size, whatever the weights, so that what they multiply is so small.
TEST_P(Bf16Test, FlushesSubnormalsAlike) {
  constexpr int kOutputs = 30;
  constexpr int kCols = 70;
  for (int trial = 0; trial < 60; ++trial) {
    const auto values = [&](int count, int low) {
      std::vector<float> result;
      for (int i = 0; i < count; ++i) {
        result.push_back(std::ldexp(random_.Float(), random_.Int(low, low + 8)));
      }
      result[static_cast<size_t>(random_.Int(0, count - 1))] = 1e-40f;
      return result;
    };
    const StoredMatrix weight(values(kOutputs * kCols, Fp8() ? -8 : -68), DType::kBF16, kOutputs,
                              kCols);
    const auto x = values(3 * kCols, Fp8() ? -128 : -68);
    ASSERT_TRUE(SameBits(Specified(weight, kOutputs, kCols, x, 3), MatMul(weight, x, 3)));
  }
}

TEST_P(Bf16Test, DecidesTininessAfterRounding) {
  // 2^-126 less a product that leaves the exact sum below, at and above the
  // midpoint under the smallest normal number.
  for (const float scale :
       {0x1p-73f, 0x1p-74f, 0x1p-75f, 0x1.8p-75f, 0x1p-76f, 0x1.02p-76f, 0x1p-77f, 0x1p-80f}) {
    std::vector<float> w(34, 0.0f);
    std::vector<float> x(34, 0.0f);
    w[1] = 0x1p-63f;  // the first step of the odd columns: 2^-126
    x[1] = 0x1p-63f;
    w[3] = scale;
    x[3] = -0x1p-75f;
    const StoredMatrix weight(w, DType::kBF16, 1, 34);
    ASSERT_TRUE(SameBits(Specified(weight, 1, 34, x, 1), MatMul(weight, x, 1))) << scale;
  }
}

TEST_P(Bf16Test, TakesAnyBitPattern) {
  for (int trial = 0; trial < 40; ++trial) {
    std::vector<float> w(64 * 20);
    std::vector<float> x(64 * 2);
    for (float& v : w) v = random_.AnyFinite();
    for (float& v : x) v = random_.AnyFinite();
    const StoredMatrix weight(w, DType::kBF16, 20, 64);
    ASSERT_TRUE(SameBits(Specified(weight, 20, 64, x, 2), MatMul(weight, x, 2)));
  }
}

// All codes of FP8, against inputs of any size.
TEST_P(Fp8PairsTest, WidensEveryCode) {
  constexpr int kCols = 256;
  std::vector<float> w(kCols * 18);
  for (int n = 0; n < 18; ++n) {
    for (int c = 0; c < kCols; ++c) {
      const auto code = static_cast<uint8_t>((c + n) % kCols);
      const bool nan = (code & 0x7Fu) == kFloat8Nan;
      w[static_cast<size_t>(n * kCols + c)] = nan ? kFloat8Max : Float8ToFloat(code);
    }
  }
  const StoredMatrix weight(w, DType::kF32, 18, kCols);
  for (const int rows : {1, 4, 5, 12, 30}) {
    std::vector<float> x(static_cast<size_t>(kCols * rows));
    for (float& v : x) v = random_.AnyFinite();
    ASSERT_TRUE(SameBits(Specified(weight, 18, kCols, x, rows), MatMul(weight, x, rows)));
    // One code at a time.
    std::fill(x.begin(), x.end(), 0.0f);
    for (int r = 0; r < rows; ++r) x[static_cast<size_t>(r * kCols + random_.Int(0, 255))] = 1;
    ASSERT_TRUE(SameBits(Specified(weight, 18, kCols, x, rows), MatMul(weight, x, rows)));
  }
}

TEST_P(Bf16Test, AddsBiasAndPreviousValues) {
  for (const int rows : {1, 3, 7, 26}) {
    constexpr int kOutputs = 37;
    constexpr int kCols = 90;
    const int stride = kOutputs + random_.Int(0, 5);
    const StoredMatrix weight(random_.Floats(kOutputs * kCols), DType::kBF16, kOutputs, kCols);
    const auto x = random_.Floats(static_cast<size_t>(rows * kCols));
    const auto bias = random_.Floats(kOutputs);
    const auto dots = Specified(weight, kOutputs, kCols, x, rows);
    auto out = random_.Floats(static_cast<size_t>(rows * stride));
    auto expected = out;
    for (int r = 0; r < rows; ++r) {
      for (int n = 0; n < kOutputs; ++n) {
        float& y = expected[static_cast<size_t>(r * stride + n)];
        y = y + (dots[static_cast<size_t>(r * kOutputs + n)] + bias[static_cast<size_t>(n)]);
      }
    }
    const auto loaded = backend_->LoadWeight(weight.matrix(), GetParam().format);
    backend_->MatMul(*loaded, bias.data(), x.data(), rows, true, out.data(), stride);
    ASSERT_TRUE(SameBits(expected, out)) << rows << " rows";
  }
}

TEST_P(Bf16Test, KeepsInfinitiesAndNans) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kSpecial[] = {kInfinity, -kInfinity, NAN, 0.0f, -0.0f, 1e-40f, 3e38f};
  constexpr int kOutputs = 20;
  constexpr int kCols = 70;
  for (int trial = 0; trial < 40; ++trial) {
    auto w = random_.Floats(kOutputs * kCols);
    auto x = random_.Floats(6 * kCols);
    for (int i = 0; i < 3; ++i) {
      w[static_cast<size_t>(random_.Int(0, kOutputs * kCols - 1))] = kSpecial[random_.Int(0, 6)];
      x[static_cast<size_t>(random_.Int(0, 6 * kCols - 1))] = kSpecial[random_.Int(0, 6)];
    }
    const StoredMatrix weight(w, DType::kBF16, kOutputs, kCols);
    ASSERT_TRUE(SameBits(Specified(weight, kOutputs, kCols, x, 6), MatMul(weight, x, 6)));
  }
}

// Codes of FP8 are not multiplied in the order of AMX.
TEST_P(AmxOrderTest, LeavesFp8Alone) {
  const StoredMatrix weight(random_.Floats(33 * 100), DType::kBF16, 33, 100);
  const auto x = random_.Floats(5 * 100);
  std::vector<float> expected(5 * 33);
  std::vector<float> actual(5 * 33);
  const auto reference = MakeReferenceBackend();
  reference->MatMul(*reference->LoadWeight(weight.matrix(), WeightFormat::kFp8), nullptr, x.data(),
                    5, false, expected.data(), 33);
  backend_->MatMul(*backend_->LoadWeight(weight.matrix(), WeightFormat::kFp8), nullptr, x.data(), 5,
                   false, actual.data(), 33);
  EXPECT_TRUE(SameBits(expected, actual));
}

TEST_P(Bf16Test, LeavesOtherWeightsAndTheFloatingPointModeAlone) {
  const auto loaded = backend_->LoadWeight(StoredMatrix({1e-20f}, DType::kF32, 1, 1).matrix(),
                                           WeightFormat::kStored);
  const float x = 1e-20f;
  float kept = 0;
  backend_->MatMul(*loaded, nullptr, &x, 1, false, &kept, 1);
  EXPECT_GT(kept, 0) << "kept";
  // The code of FP8 is 448, times 2^-8.
  const StoredMatrix narrow({Fp8() ? 1.0f : 1e-20f}, DType::kBF16, 1, 1);
  EXPECT_EQ(MatMul(narrow, {Fp8() ? 1e-39f : 1e-20f}, 1)[0], 0) << "flushed";
  volatile float tiny = 1e-20f;
  EXPECT_GT(tiny * tiny, 0) << "and kept outside";
}

}  // namespace
}  // namespace octogate::kernels

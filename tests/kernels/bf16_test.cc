// Products with activations rounded to BF16: the tiles of AMX, the pairs of
// AVX512_BF16, the multiply-adds of the other instruction sets and the scalar
// specification (kernels/bf16_dot.h) give the same bits, for any number of rows.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/bf16_dot.h"
#include "kernels/cpu/cpu_backend.h"
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
};

class Bf16Test : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const auto [isa, activations] = GetParam();
    if (!IsSupported(isa)) GTEST_SKIP() << "this CPU has no " << Name(isa);
    backend_ = MakeCpuBackend({.threads = 2, .isa = isa, .activations = activations});
    ASSERT_NE(backend_, nullptr);
  }

  std::vector<float> Specified(const StoredMatrix& weight, int outputs, int cols,
                               const std::vector<float>& x, int rows) {
    const auto w = weight.Widened();
    std::vector<float> out;
    for (int r = 0; r < rows; ++r) {
      for (int n = 0; n < outputs; ++n) {
        const auto a = [&](int k) {
          return BFloat16ToFloat(FloatToBFloat16(x[static_cast<size_t>(r * cols + k)]));
        };
        const auto b = [&](int k) { return w[static_cast<size_t>(n * cols + k)]; };
        out.push_back(GetParam().activations == Activations::kBF16 ? DotBf16(a, b, cols)
                                                                   : DotBf16Pairs(a, b, cols));
      }
    }
    return out;
  }

  std::vector<float> MatMul(const StoredMatrix& weight, const std::vector<float>& x, int rows) {
    const auto loaded = backend_->LoadWeight(weight.matrix(), WeightFormat::kStored);
    std::vector<float> out(static_cast<size_t>(rows * loaded->rows));
    backend_->MatMul(*loaded, nullptr, x.data(), rows, false, out.data(), loaded->rows);
    return out;
  }

  std::unique_ptr<Backend> backend_;
  RandomData random_;
};

INSTANTIATE_TEST_SUITE_P(Order, Bf16Test,
                         ::testing::Values(Case{Isa::kPlain, Activations::kBF16},
                                           Case{Isa::kAvx2, Activations::kBF16},
                                           Case{Isa::kAvx512, Activations::kBF16},
                                           Case{Isa::kAmx, Activations::kBF16},
                                           Case{Isa::kPlain, Activations::kBF16Pairs},
                                           Case{Isa::kAvx2, Activations::kBF16Pairs},
                                           Case{Isa::kAvx512, Activations::kBF16Pairs},
                                           Case{Isa::kAvx512Bf16, Activations::kBF16Pairs}),
                         [](const auto& info) {
                           const bool pairs = info.param.activations == Activations::kBF16Pairs;
                           return std::string(Name(info.param.isa)) + (pairs ? "_pairs" : "");
                         });

TEST_P(Bf16Test, FollowsTheSpecificationForAnyNumberOfRows) {
  for (const int cols : {1, 2, 31, 32, 33, 60, 172, 1000}) {
    for (const int rows : {1, 2, 3, 4, 5, 9, 16, 21, 32, 45}) {
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

// Products and sums about the smallest normal number: what is flushed, and when.
TEST_P(Bf16Test, FlushesSubnormalsAlike) {
  constexpr int kOutputs = 30;
  constexpr int kCols = 70;
  for (int trial = 0; trial < 60; ++trial) {
    const auto values = [&](int count) {
      std::vector<float> result;
      for (int i = 0; i < count; ++i) {
        result.push_back(std::ldexp(random_.Float(), random_.Int(-68, -60)));
      }
      result[static_cast<size_t>(random_.Int(0, count - 1))] = 1e-40f;
      return result;
    };
    const StoredMatrix weight(values(kOutputs * kCols), DType::kBF16, kOutputs, kCols);
    const auto x = values(3 * kCols);
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

TEST_P(Bf16Test, LeavesOtherWeightsAndTheFloatingPointModeAlone) {
  const StoredMatrix wide({1e-20f}, DType::kF32, 1, 1);
  const StoredMatrix narrow({1e-20f}, DType::kBF16, 1, 1);
  EXPECT_EQ(MatMul(narrow, {1e-20f}, 1)[0], 0) << "flushed";
  EXPECT_GT(MatMul(wide, {1e-20f}, 1)[0], 0) << "kept";
  volatile float tiny = 1e-20f;
  EXPECT_GT(tiny * tiny, 0) << "and kept outside";
}

}  // namespace
}  // namespace octogate::kernels

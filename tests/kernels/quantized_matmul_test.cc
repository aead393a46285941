// Products with weights of every format, on every instruction set of this
// machine: the bits of the reference, whatever the batch, the threads, the
// alignment and the values. All comparisons are of bits.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/quantize.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::SameBits;
using testing::Seed;
using testing::StoredMatrix;

constexpr float kPoison = -12345.678f;

// Values at an address that is a multiple of 4 and of nothing larger.
class Misaligned {
 public:
  explicit Misaligned(const std::vector<float>& values) : storage_(values.size() + 16) {
    std::copy(values.begin(), values.end(), storage_.begin() + Shift());
  }
  float* data() { return storage_.data() + Shift(); }
  std::vector<float> Copy() const {
    return {storage_.begin() + Shift(), storage_.end() - (16 - Shift())};
  }

 private:
  std::ptrdiff_t Shift() const {
    return reinterpret_cast<uintptr_t>(storage_.data()) % 64 == 4 ? 2 : 1;
  }
  std::vector<float> storage_;
};

class QuantizedMatMulTest : public testing::IsaTest {
 protected:
  static std::vector<float> Run(Backend& backend, const Weight& weight, const float* bias,
                                const std::vector<float>& x, int rows, bool accumulate, int stride,
                                const std::vector<float>& initial) {
    Misaligned in(x);
    Misaligned out(initial);
    backend.MatMul(weight, bias, in.data(), rows, accumulate, out.data(), stride);
    return out.Copy();
  }

  static std::vector<float> Run(Backend& backend, const Weight& weight, const std::vector<float>& x,
                                int rows) {
    return Run(backend, weight, nullptr, x, rows, false, weight.rows,
               std::vector<float>(static_cast<size_t>(rows * weight.rows), kPoison));
  }
};

INSTANTIATE_TEST_SUITE_P(Isa, QuantizedMatMulTest,
                         ::testing::Values(Isa::kPlain, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Vnni,
                                           Isa::kAvx512Vbmi, Isa::kAmx),
                         testing::IsaName);

TEST_P(QuantizedMatMulTest, GivesTheBitsOfTheReference) {
  for (const WeightFormat format : kWeightFormats) {
    for (const int cols : {1, 15, 31, 32, 33, 64, 100, 513}) {
      for (const int rows : {1, 2, 3, 4, 5, 6, 7, 8, 13, 32, 140}) {
        Use(random_.Int(1, 3));
        const int outputs = random_.Int(1, 150);
        const DType dtype = static_cast<DType>(random_.Int(0, 2));
        const StoredMatrix stored(random_.Floats(static_cast<size_t>(outputs * cols)), dtype,
                                  outputs, cols);
        const auto expected_weight = reference_->LoadWeight(stored.matrix(), format);
        const auto weight = backend_->LoadWeight(stored.matrix(), format);
        ASSERT_NE(weight, nullptr);
        ASSERT_EQ(weight->rows, outputs);
        ASSERT_EQ(weight->cols, cols);
        ASSERT_EQ(weight->format, format);
        ASSERT_EQ(weight->error.max_absolute, expected_weight->error.max_absolute);
        const auto x = random_.Floats(static_cast<size_t>(rows * cols));
        const auto bias = random_.Floats(static_cast<size_t>(outputs));
        const float* maybe_bias = random_.Int(0, 1) == 1 ? bias.data() : nullptr;
        const bool accumulate = random_.Int(0, 1) == 1;
        const int stride = outputs + random_.Int(0, 5);
        auto initial = random_.Floats(static_cast<size_t>(rows * stride));
        if (!accumulate) std::fill(initial.begin(), initial.end(), kPoison);
        ASSERT_TRUE(SameBits(
            Run(*reference_, *expected_weight, maybe_bias, x, rows, accumulate, stride, initial),
            Run(*backend_, *weight, maybe_bias, x, rows, accumulate, stride, initial)))
            << Name(format) << " of " << Name(dtype) << ", rows " << rows << " cols " << cols
            << " outputs " << outputs;
      }
    }
  }
}

// More rows and columns than are taken at a time, also than are packed.
TEST_P(QuantizedMatMulTest, CutsManyRowsOfManyColumns) {
  struct Shape {
    int rows;
    int cols;
    int most_outputs;
  };
  for (const auto [rows, cols, most_outputs] :
       {Shape{25, 2047, 70}, Shape{random_.Int(13, 60), 2064, 70},
        Shape{random_.Int(13, 60), random_.Int(2049, 4400), 70}, Shape{130, 33000, 3},
        Shape{26, (1 << 16) + 5, 2}}) {
    for (const WeightFormat format :
         {WeightFormat::kStored, WeightFormat::kBf16, WeightFormat::kFp8}) {
      Use(random_.Int(1, 3));
      const int outputs = random_.Int(1, most_outputs);
      const StoredMatrix stored(random_.Floats(static_cast<size_t>(outputs * cols)), DType::kF32,
                                outputs, cols);
      const auto x = random_.Floats(static_cast<size_t>(rows * cols));
      ASSERT_TRUE(
          SameBits(Run(*reference_, *reference_->LoadWeight(stored.matrix(), format), x, rows),
                   Run(*backend_, *backend_->LoadWeight(stored.matrix(), format), x, rows)))
          << Name(format) << ", rows " << rows << " cols " << cols << " outputs " << outputs;
    }
  }
}

// A sum that is -0 stays so, whatever the columns are filled up to.
TEST_P(QuantizedMatMulTest, KeepsTheSignOfZero) {
  for (const int cols : {16, 32, 48}) {
    const StoredMatrix stored(std::vector<float>(static_cast<size_t>(3 * cols), 1e-30f),
                              DType::kF32, 3, cols);
    for (const int rows : {1, 4, 30}) {
      const std::vector<float> x(static_cast<size_t>(rows * cols), -1e-30f);
      const auto out =
          Run(*backend_, *backend_->LoadWeight(stored.matrix(), WeightFormat::kStored), x, rows);
      for (int i = 0; i < 3 * rows; ++i) {
        ASSERT_EQ(out[static_cast<size_t>(i)], 0);
        ASSERT_TRUE(std::signbit(out[static_cast<size_t>(i)])) << cols << " columns, row " << i / 3;
      }
    }
  }
}

TEST_P(QuantizedMatMulTest, LooksUpTheRowsOfTheReference) {
  for (const WeightFormat format : kWeightFormats) {
    for (const int cols : {1, 31, 32, 100}) {
      const StoredMatrix table(random_.Floats(static_cast<size_t>(40 * cols)), DType::kBF16, 40,
                               cols);
      std::vector<int32_t> ids(9);
      for (int32_t& id : ids) id = random_.Int(0, 39);
      std::vector<float> expected(ids.size() * static_cast<size_t>(cols), kPoison);
      std::vector<float> actual = expected;
      reference_->Embed(*reference_->LoadWeight(table.matrix(), format), ids, expected.data());
      backend_->Embed(*backend_->LoadWeight(table.matrix(), format), ids, actual.data());
      ASSERT_TRUE(SameBits(expected, actual)) << Name(format) << " cols " << cols;
    }
  }
}

TEST_P(QuantizedMatMulTest, ARowDoesNotDependOnTheBatch) {
  for (const WeightFormat format : kWeightFormats) {
    constexpr int kOutputs = 77;
    constexpr int kCols = 170;
    const StoredMatrix stored(random_.Floats(kOutputs * kCols), DType::kBF16, kOutputs, kCols);
    const auto weight = backend_->LoadWeight(stored.matrix(), format);
    for (int rows = 1; rows <= 40; ++rows) {
      auto x = random_.Floats(static_cast<size_t>(rows * kCols));
      const auto batch = Run(*backend_, *weight, x, rows);
      for (int r = 0; r < rows; ++r) {
        const std::vector<float> row(x.begin() + r * kCols, x.begin() + (r + 1) * kCols);
        const std::vector<float> together(batch.begin() + r * kOutputs,
                                          batch.begin() + (r + 1) * kOutputs);
        ASSERT_TRUE(SameBits(together, Run(*backend_, *weight, row, 1)))
            << Name(format) << ": row " << r << " of " << rows;
      }
    }
  }
}

// The extremes of every code at once: sums as large as they get, on either side.
TEST_P(QuantizedMatMulTest, LargestCodesDoNotOverflow) {
  for (const WeightFormat format : kWeightFormats) {
    constexpr int kOutputs = 16;
    constexpr int kCols = 64;
    for (const float w : {1.0f, -1.0f}) {
      for (const float v : {1.0f, -1.0f}) {
        // Of four bits -8 once in a group, and 7 or -8 elsewhere.
        std::vector<float> values(kOutputs * kCols, random_.Int(0, 1) == 0 ? w : -0.875f * w);
        for (size_t i = 0; i < values.size(); i += kQuantizationGroup) values[i] = w;
        const int rows = random_.Int(1, 40);
        const std::vector<float> x(static_cast<size_t>(rows * kCols), v);
        const StoredMatrix stored(values, DType::kF32, kOutputs, kCols);
        ASSERT_TRUE(
            SameBits(Run(*reference_, *reference_->LoadWeight(stored.matrix(), format), x, rows),
                     Run(*backend_, *backend_->LoadWeight(stored.matrix(), format), x, rows)))
            << Name(format);
      }
    }
  }
}

TEST_P(QuantizedMatMulTest, SpecialValuesStayWhereTheyAre) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kSpecial[] = {kInfinity, -kInfinity, NAN, 0.0f, -0.0f, 1e-40f, -1e-31f, 3e38f};
  constexpr int kOutputs = 20;
  constexpr int kCols = 80;
  constexpr int kRows = 9;
  for (int trial = 0; trial < 60; ++trial) {
    auto w = random_.Floats(kOutputs * kCols);
    auto x = random_.Floats(kRows * kCols);
    for (int i = 0; i < 3; ++i) {
      w[static_cast<size_t>(random_.Int(0, kOutputs * kCols - 1))] = kSpecial[random_.Int(0, 7)];
      x[static_cast<size_t>(random_.Int(0, kRows * kCols - 1))] = kSpecial[random_.Int(0, 7)];
    }
    if (trial % 4 == 0) std::fill_n(x.begin(), 2 * kCols, kSpecial[trial / 4 % 8]);
    const StoredMatrix stored(w, DType::kF32, kOutputs, kCols);
    for (const WeightFormat format : kWeightFormats) {
      ASSERT_TRUE(
          SameBits(Run(*reference_, *reference_->LoadWeight(stored.matrix(), format), x, kRows),
                   Run(*backend_, *backend_->LoadWeight(stored.matrix(), format), x, kRows)))
          << Name(format);
    }
  }
}

TEST_P(QuantizedMatMulTest, TakesTheBytesThatArePlannedFor) {
  for (int trial = 0; trial < 20; ++trial) {
    const int rows = random_.Int(1, 100);
    const int cols = random_.Int(1, 200);
    const DType dtype = static_cast<DType>(random_.Int(0, 2));
    const StoredMatrix stored(random_.Floats(static_cast<size_t>(rows * cols)), dtype, rows, cols);
    for (const WeightFormat format : kWeightFormats) {
      EXPECT_EQ(backend_->LoadWeight(stored.matrix(), format)->bytes,
                LoadedWeightBytes(dtype, rows, cols, format))
          << Name(format) << " of " << Name(dtype) << ", " << rows << " x " << cols;
    }
  }
}

TEST_P(QuantizedMatMulTest, SmallerFormatsReadFewerBytes) {
  const std::vector<float> values(1024 * 1024, 0.5f);
  const HostMatrix source{values.data(), DType::kF32, 1024, 1024};
  const auto bits = [&](WeightFormat format) {
    return 8.0 * static_cast<double>(backend_->LoadWeight(source, format)->bytes) / (1024 * 1024);
  };
  EXPECT_EQ(bits(WeightFormat::kStored), 32);
  EXPECT_EQ(bits(WeightFormat::kBf16), 16);
  EXPECT_EQ(bits(WeightFormat::kInt8Group), 8.5);
  EXPECT_EQ(bits(WeightFormat::kInt8), 8 + 32.0 / 1024);
  EXPECT_EQ(bits(WeightFormat::kFp8), 8 + 32.0 / 1024);
  EXPECT_EQ(bits(WeightFormat::kInt4Group), 4.5);
}

}  // namespace
}  // namespace octogate::kernels

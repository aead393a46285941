// Quantisation of weights: codes are the nearest there are, the error that is
// reported is the error there is, and no value of a file is too odd.

#include "kernels/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cpu/thread_pool.h"
#include "kernels/float8.h"
#include "kernels/quantized_dot.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::Seed;
using testing::StoredMatrix;

std::vector<WeightFormat> RoundedFormats() {
  std::vector<WeightFormat> formats(std::begin(kWeightFormats), std::end(kWeightFormats));
  std::erase(formats, WeightFormat::kStored);
  return formats;
}

std::vector<float> Dequantized(const QuantizedMatrix& matrix) {
  std::vector<float> values(static_cast<size_t>(matrix.rows) * static_cast<size_t>(matrix.cols));
  for (int r = 0; r < matrix.rows; ++r) {
    Dequantize(matrix, r, values.data() + static_cast<size_t>(r * matrix.cols));
  }
  return values;
}

TEST(Float8Test, NamesOf256ValuesComeBack) {
  for (int code = 0; code < 256; ++code) {
    const float value = Float8ToFloat(static_cast<uint8_t>(code));
    if ((code & 0x7F) == kFloat8Nan) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_EQ(FloatToFloat8(value) & 0x7F, kFloat8Nan);
    } else {
      EXPECT_EQ(FloatToFloat8(value), code) << value;
    }
  }
  EXPECT_EQ(Float8ToFloat(0x7E), 448);
  EXPECT_EQ(Float8ToFloat(0x01), 0x1p-9f);
  EXPECT_EQ(Float8ToFloat(0x38), 1);
}

TEST(Float8Test, RoundsToTheNearestAndTiesToEven) {
  for (int code = 0; code < 0x7E; ++code) {
    const float low = Float8ToFloat(static_cast<uint8_t>(code));
    const float high = Float8ToFloat(static_cast<uint8_t>(code + 1));
    const float middle = low + (high - low) / 2;  // exact
    EXPECT_EQ(FloatToFloat8(middle), code + code % 2) << middle;
    EXPECT_EQ(FloatToFloat8(std::nextafter(middle, 0.0f)), code) << middle;
    EXPECT_EQ(FloatToFloat8(std::nextafter(middle, 1e9f)), code + 1) << middle;
    EXPECT_EQ(FloatToFloat8(-std::nextafter(middle, 1e9f)), 0x80 | (code + 1)) << middle;
  }
  EXPECT_EQ(FloatToFloat8(1e30f), 0x7E);
  EXPECT_EQ(FloatToFloat8(-std::numeric_limits<float>::infinity()), 0xFE);
}

TEST(WeightFormatTest, NamesComeBack) {
  for (const WeightFormat format : kWeightFormats) {
    EXPECT_EQ(WeightFormatFromName(Name(format)), format);
  }
  EXPECT_EQ(WeightFormatFromName("int3"), std::nullopt);
}

// No code of the format would be nearer, up to the rounding of the division.
TEST(QuantizeTest, CodesAreTheNearest) {
  RandomData random;
  for (const WeightFormat format : RoundedFormats()) {
    if (!HasIntegerCodes(format)) continue;
    const int lowest = format == WeightFormat::kInt4Group ? -8 : -127;
    const int highest = format == WeightFormat::kInt4Group ? 7 : 127;
    for (const int cols : {1, 31, 32, 33, 200}) {
      constexpr int kRows = 9;
      const auto values = random.Floats(static_cast<size_t>(kRows * cols), 0.03f);
      const auto matrix = Quantize({values.data(), DType::kF32, kRows, cols}, format);
      ASSERT_TRUE(matrix.has_value());
      for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < cols; ++c) {
          const size_t group = static_cast<size_t>(r * QuantizationGroups(cols)) +
                               static_cast<size_t>(c / kQuantizationGroup);
          const double scale = HasGroupScales(format) ? Float16ToFloat(matrix->group_scales[group])
                                                      : matrix->row_scales[static_cast<size_t>(r)];
          const int code = CodeAt(*matrix, r, c);
          const double value = values[static_cast<size_t>(r * cols + c)];
          const double exact = scale == 0 ? 0 : value / scale;  // 0: below all F16
          ASSERT_GE(code, lowest);
          ASSERT_LE(code, highest);
          ASSERT_LE(std::fabs(std::clamp<double>(exact, lowest, highest) - code),
                    0.5 + std::fabs(exact) * 0x1p-23)
              << Name(format) << " column " << c << " (seed " << Seed() << ")";
        }
      }
    }
  }
}

TEST(QuantizeTest, ThreadsMakeNoDifference) {
  RandomData random;
  ThreadPool threads(3);
  const PartRunner shared = [&](int parts, const std::function<void(int)>& f) {
    threads.Run(parts, [&f](int part, int /*thread*/) { f(part); });
  };
  for (const WeightFormat format : RoundedFormats()) {
    for (const int rows : {1, 32, 33, 200}) {
      constexpr int kCols = 70;
      const auto values = random.Floats(static_cast<size_t>(rows * kCols));
      const HostMatrix stored{values.data(), DType::kF32, rows, kCols};
      const auto one = Quantize(stored, format);
      const auto many = Quantize(stored, format, shared);
      ASSERT_TRUE(one.has_value() && many.has_value());
      const auto same = [](const auto& a, const auto& b, size_t count) {
        return std::memcmp(a.get(), b.get(), count * sizeof(a[0])) == 0;
      };
      const auto count = static_cast<size_t>(rows);
      EXPECT_TRUE(same(one->codes, many->codes, count * one->row_bytes));
      if (HasGroupScales(format)) {
        const auto groups = static_cast<size_t>(QuantizationGroups(kCols));
        EXPECT_TRUE(same(one->group_scales, many->group_scales, count * groups));
      } else if (format != WeightFormat::kBf16) {
        EXPECT_TRUE(same(one->row_scales, many->row_scales, count));
      }
      EXPECT_EQ(one->error.relative_rms, many->error.relative_rms);
      EXPECT_EQ(one->error.max_absolute, many->error.max_absolute);
    }
  }
}

TEST(QuantizeTest, ReportsTheErrorThatThereIs) {
  RandomData random;
  for (const WeightFormat format : RoundedFormats()) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      constexpr int kRows = 17;
      constexpr int kCols = 131;
      const StoredMatrix stored(random.Floats(kRows * kCols), dtype, kRows, kCols);
      const auto values = stored.Widened();
      const auto matrix = Quantize(stored.matrix(), format);
      ASSERT_TRUE(matrix.has_value());
      const auto rounded = Dequantized(*matrix);
      double squares = 0;
      double errors = 0;
      double largest = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        const double error = static_cast<double>(values[i]) - rounded[i];
        squares += static_cast<double>(values[i]) * values[i];
        errors += error * error;
        largest = std::max(largest, std::fabs(error));
      }
      EXPECT_NEAR(matrix->error.relative_rms, std::sqrt(errors / squares), 1e-12);
      EXPECT_EQ(matrix->error.max_absolute, largest);
    }
  }
}

// Of a normal distribution: measured, with room for chance (over 10^5 weights the
// figure moves by less than a hundredth of itself).
TEST(QuantizeTest, MoreBitsAndSmallerGroupsErrLess) {
  RandomData random;
  constexpr int kRows = 100;
  constexpr int kCols = 1024;
  const auto values = random.Floats(kRows * kCols, 0.02f);
  const auto error = [&](WeightFormat format) {
    return Quantize({values.data(), DType::kF32, kRows, kCols}, format)->error.relative_rms;
  };
  EXPECT_LT(error(WeightFormat::kBf16), 0.003);
  EXPECT_LT(error(WeightFormat::kInt8Group), 0.008);
  EXPECT_LT(error(WeightFormat::kInt8), 0.012);
  EXPECT_LT(error(WeightFormat::kFp8), 0.04);
  EXPECT_LT(error(WeightFormat::kInt4Group), 0.12);
  EXPECT_LT(error(WeightFormat::kInt8Group), error(WeightFormat::kInt8));
  EXPECT_LT(error(WeightFormat::kInt8), error(WeightFormat::kInt4Group));
}

TEST(QuantizeTest, TheLargestValueOfAnInt4GroupHasTheCodeMinusEight) {
  const std::vector<float> values{0.5f, -1, 2, 1.875f, 0.125f};
  const auto matrix = Quantize({values.data(), DType::kF32, 1, 5}, WeightFormat::kInt4Group);
  EXPECT_EQ(Float16ToFloat(matrix->group_scales[0]), -0.25f);
  EXPECT_EQ(CodeAt(*matrix, 0, 2), -8);
  EXPECT_EQ(Dequantized(*matrix), (std::vector<float>{0.5f, -1, 2, 2, 0}));
  EXPECT_EQ(matrix->codes[2], 0x88) << "filled with codes of zero";
}

TEST(QuantizeTest, OddValuesHaveDefinedCodes) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values{kInfinity, -kInfinity, NAN, 1, -2};
  for (const WeightFormat format : RoundedFormats()) {
    if (format == WeightFormat::kBf16) continue;
    const auto matrix = Quantize({values.data(), DType::kF32, 1, 5}, format);
    const auto rounded = Dequantized(*matrix);
    EXPECT_NEAR(std::fabs(rounded[0]), 2, 0.3) << Name(format);
    EXPECT_NEAR(std::fabs(rounded[1]), 2, 0.3) << Name(format);
    EXPECT_EQ(rounded[2], 0) << Name(format);
    EXPECT_NEAR(rounded[3], 1, 0.01) << Name(format);
    EXPECT_NEAR(rounded[4], -2, 0.01) << Name(format);
    EXPECT_TRUE(std::isfinite(matrix->error.relative_rms));
  }
}

TEST(QuantizeTest, AnyBitsGiveFiniteWeights) {
  RandomData random;
  for (int trial = 0; trial < 300; ++trial) {
    const int cols = random.Int(1, 70);
    std::vector<float> values(static_cast<size_t>(3 * cols));
    for (float& value : values) {
      value = random.Int(0, 9) == 0 ? NAN : random.AnyFinite();
      if (trial % 3 == 0) value *= 0x1p-100f;
    }
    for (const WeightFormat format : RoundedFormats()) {
      if (format == WeightFormat::kBf16) continue;
      const auto matrix = Quantize({values.data(), DType::kF32, 3, cols}, format);
      for (const float value : Dequantized(*matrix)) {
        // One unit in the last place above the largest number is infinite.
        ASSERT_FALSE(std::isnan(value)) << Name(format) << " (seed " << Seed() << ")";
      }
      ASSERT_TRUE(std::isfinite(matrix->error.relative_rms));
    }
  }
}

TEST(QuantizeTest, ZerosStayZero) {
  const std::vector<float> zeros(80);
  for (const WeightFormat format : RoundedFormats()) {
    const auto matrix = Quantize({zeros.data(), DType::kF32, 2, 40}, format);
    EXPECT_EQ(Dequantized(*matrix), zeros) << Name(format);
    EXPECT_EQ(matrix->error.relative_rms, 0);
  }
}

TEST(QuantizeGroupTest, RoundsInputsToTheNearestAndPassesOnWhatIsNotFinite) {
  RandomData random;
  for (int trial = 0; trial < 1000; ++trial) {
    const int count = random.Int(1, kQuantizationGroup);
    const auto x = random.Floats(static_cast<size_t>(count), std::ldexp(1.0f, random.Int(-60, 60)));
    int8_t codes[kQuantizationGroup];
    const double scale = QuantizeGroup(x.data(), count, codes);
    int largest = 0;
    for (int i = 0; i < count; ++i) {
      // A code off by half, and the roundings of scale, inverse and product.
      ASSERT_NEAR(x[static_cast<size_t>(i)] / scale, codes[i], 0.5 + 127 * 4 * 0x1p-24)
          << "(seed " << Seed() << ")";
      largest = std::max<int>(largest, std::abs(codes[i]));
    }
    EXPECT_EQ(largest, 127);
    for (int i = count; i < kQuantizationGroup; ++i) ASSERT_EQ(codes[i], 0);
  }
  int8_t codes[kQuantizationGroup];
  const float odd[] = {1, NAN};
  EXPECT_TRUE(std::isnan(QuantizeGroup(odd, 2, codes)));
  EXPECT_EQ(codes[0], 0);
  const float endless[] = {-std::numeric_limits<float>::infinity(), 1};
  EXPECT_TRUE(std::isnan(QuantizeGroup(endless, 2, codes)));
  const float tiny[] = {0x1p-101f, -1e-45f};
  EXPECT_EQ(QuantizeGroup(tiny, 2, codes), 0);
  EXPECT_EQ(codes[0], 0);
}

// Against products of the dequantised numbers in double: what is left is the
// rounding of x to 8 bits and of the float arithmetic.
TEST(QuantizedProductTest, IsNearTheProductOfTheRoundedWeights) {
  RandomData random;
  const auto backend = MakeReferenceBackend();
  for (const WeightFormat format : RoundedFormats()) {
    constexpr int kOutputs = 20;
    constexpr int kCols = 300;
    const auto values = random.Floats(kOutputs * kCols);
    const HostMatrix source{values.data(), DType::kF32, kOutputs, kCols};
    const auto weight = backend->LoadWeight(source, format);
    ASSERT_NE(weight, nullptr);
    EXPECT_EQ(weight->format, format);
    EXPECT_GT(weight->error.relative_rms, 0);
    const auto rounded = Dequantized(*Quantize(source, format));
    const auto x = random.Floats(kCols);
    std::vector<float> out(kOutputs);
    backend->MatMul(*weight, nullptr, x.data(), 1, false, out.data(), kOutputs);
    for (int n = 0; n < kOutputs; ++n) {
      double exact = 0;
      double bound = 0;
      for (int first = 0; first < kCols; first += kQuantizationGroup) {
        double largest = 0;
        double weights = 0;
        for (int c = first; c < std::min(kCols, first + kQuantizationGroup); ++c) {
          const double w = rounded[static_cast<size_t>(n * kCols + c)];
          exact += w * x[static_cast<size_t>(c)];
          largest = std::max(largest, std::fabs(static_cast<double>(x[static_cast<size_t>(c)])));
          weights += std::fabs(w);
        }
        // Half a step of x for each weight, and a float rounding for each term.
        bound += weights * largest * (HasIntegerCodes(format) ? 0.5001 / 127 : 0);
        bound += weights * largest * kCols * 0x1p-23;
      }
      ASSERT_NEAR(out[static_cast<size_t>(n)], exact, bound)
          << Name(format) << " (seed " << Seed() << ")";
    }
  }
}

TEST(QuantizedProductTest, RefusesWhatIsTooWide) {
  const std::vector<float> row(static_cast<size_t>(kMaxQuantizedColumns) + 1);
  const HostMatrix wide{row.data(), DType::kF32, 1, kMaxQuantizedColumns + 1};
  const auto backend = MakeReferenceBackend();
  EXPECT_EQ(backend->LoadWeight(wide, WeightFormat::kInt8), nullptr);
  EXPECT_NE(backend->LoadWeight(wide, WeightFormat::kStored), nullptr);
}

}  // namespace
}  // namespace octogate::kernels

// kernels/cuda/matmul.h, in the emulation and on a GPU (tests/gpu): against sums in double
// precision, against the reference backend, and against itself with other rows beside and other
// cuts of the work.

#include "kernels/cuda/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/matmul_pack.h"
#include "kernels/quantize.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/cuda/device_array.h"
#include "tests/kernels/cuda/product_bounds.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels::cuda {
namespace {

using kernels::testing::RandomData;
using kernels::testing::SameBits;
using kernels::testing::Seed;
using kernels::testing::StoredMatrix;
using testing::DeviceAnswers;
using testing::DeviceArray;
using testing::ExactProduct;
using testing::kUnit;
using testing::ProductBound;
using testing::ReferenceError;

constexpr float kPoison = -12345.678f;

struct Kind {
  WeightFormat format;
  DType stored;
};
constexpr Kind kKinds[] = {
    {WeightFormat::kStored, DType::kBF16},   {WeightFormat::kStored, DType::kF16},
    {WeightFormat::kBf16, DType::kF32},      {WeightFormat::kInt8, DType::kF32},
    {WeightFormat::kInt8Group, DType::kF32}, {WeightFormat::kInt4Group, DType::kF32},
    {WeightFormat::kFp8, DType::kF32},
};
std::string NameOf(const Kind& kind) {
  return std::string(Name(kind.format)) + " of " + Name(kind.stored);
}

// A weight as the device has it, and as the reference has it.
class TestWeight {
 public:
  TestWeight(RandomData& random, const Kind& kind, int rows, int cols)
      : stored_(random.Floats(static_cast<size_t>(rows * cols), 0.1f), kind.stored, rows, cols),
        reference_(MakeReferenceBackend()),
        reference_weight_(reference_->LoadWeight(stored_.matrix(), kind.format)) {
    RowMajorCodes codes;
    if (kind.format == WeightFormat::kStored) {
      codes = RowMajorCodes::Of(stored_.matrix());
    } else {
      quantized_ = Quantize(stored_.matrix(), kind.format);
      codes = RowMajorCodes::Of(*quantized_);
    }
    std::vector<uint8_t> packed(codes.shape.bytes(), 0xAB);
    for (int group = 0; group < codes.shape.groups(); ++group) {
      PackGroup(codes, group,
                packed.data() + static_cast<size_t>(group) * codes.shape.group_bytes());
    }
    packed_ = std::make_unique<DeviceArray<uint8_t>>(packed);
    weight_ = {codes.shape, packed_->data(), nullptr};
    if (HasRowScales(codes.shape.format)) {
      scales_ = std::make_unique<DeviceArray<float>>(static_cast<size_t>(rows));
      scales_->Upload(quantized_->row_scales.get());
      weight_.row_scales = scales_->data();
    }
    // The values themselves.
    values_.resize(static_cast<size_t>(rows * cols));
    std::vector<int32_t> ids(static_cast<size_t>(rows));
    for (int r = 0; r < rows; ++r) ids[static_cast<size_t>(r)] = r;
    reference_->Embed(*reference_weight_, ids, values_.data());
  }

  const PackedWeight& weight() const { return weight_; }
  const PackedShape& shape() const { return weight_.shape; }
  const std::vector<float>& values() const { return values_; }
  Backend& reference() const { return *reference_; }
  const Weight& reference_weight() const { return *reference_weight_; }

 private:
  StoredMatrix stored_;
  std::unique_ptr<Backend> reference_;
  std::unique_ptr<Weight> reference_weight_;
  std::optional<QuantizedMatrix> quantized_;
  std::unique_ptr<DeviceArray<uint8_t>> packed_;
  std::unique_ptr<DeviceArray<float>> scales_;
  PackedWeight weight_;
  std::vector<float> values_;
};

// Launches with copies of the operation's arrays, which are the host's, and with a
// workspace of just the bytes that are asked for, full of NaNs.
void Multiply(const TestWeight& weight, MatMulOperation operation, const MatMulPlan& plan) {
  const std::vector<uint8_t> nans(
      MatMulWorkspaceBytes(weight.shape(), operation.rows, operation.rounding, plan), 0xFF);
  const DeviceArray<uint8_t> workspace(nans);
  DeviceArray<float> x(static_cast<size_t>(operation.rows * weight.shape().cols));
  x.Upload(operation.x);
  operation.x = x.data();
  DeviceArray<float> bias(static_cast<size_t>(weight.shape().rows));
  if (operation.bias != nullptr) {
    bias.Upload(operation.bias);
    operation.bias = bias.data();
  }
  float* host_out = operation.out;
  DeviceArray<float> out(static_cast<size_t>(operation.rows * operation.out_stride));
  out.Upload(host_out);
  operation.out = out.data();
  LaunchMatMul(Stream{}, weight.weight(), operation, plan, workspace.data());
  out.Download(host_out);
}

ProductBound Exact(const TestWeight& weight, const float* x, int n, InputRounding rounding) {
  const int cols = weight.shape().cols;
  return ExactProduct(weight.shape().format, weight.values().data() + n * cols, x, cols, rounding);
}

class CudaMatMulTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (!DeviceAnswers()) GTEST_SKIP() << "NOT RUN: no GPU answers";
  }
  RandomData random_;
};

constexpr MatMulPlan kPlans[] = {{1, false}, {2, false}, {4, false},
                                 {8, false}, {4, true},  {8, true}};

TEST_P(CudaMatMulTest, IsCloseToTheExactProduct) {
  for (const auto& [outputs, cols] :
       {std::pair{1, 1}, {17, 40}, {80, 129}, {300, 200}, {64, 1100}}) {
    const TestWeight weight(random_, GetParam(), outputs, cols);
    for (const InputRounding rounding : {InputRounding::kSplit, InputRounding::kRounded}) {
      const int rows = random_.Int(1, 20);
      const int stride = outputs + random_.Int(0, 3);
      const bool accumulate = random_.Int(0, 1) != 0;
      const auto x = random_.Floats(static_cast<size_t>(rows * cols));
      const auto bias = random_.Floats(static_cast<size_t>(outputs));
      std::vector<float> out(static_cast<size_t>(rows * stride), kPoison);
      Multiply(weight, {bias.data(), x.data(), rows, accumulate, out.data(), stride, rounding},
               PlanMatMul(weight.shape(), rows));
      for (int r = 0; r < rows; ++r) {
        for (int n = 0; n < stride; ++n) {
          const float actual = out[static_cast<size_t>(r * stride + n)];
          if (n >= outputs) {
            ASSERT_EQ(actual, kPoison) << "between the rows";
            continue;
          }
          ProductBound bound = Exact(weight, x.data() + r * cols, n, rounding);
          double magnitude = std::fabs(bound.value) + bound.error;
          for (const double term :
               {double{bias[static_cast<size_t>(n)]}, accumulate ? kPoison : 0.0}) {
            bound.value += term;
            magnitude += std::fabs(term);
          }
          ASSERT_NEAR(actual, bound.value, bound.error + 2.1 * kUnit * magnitude)
              << NameOf(GetParam()) << " " << outputs << " x " << cols << ", row " << r << " of "
              << rows << ", output " << n << " (seed " << Seed() << ")";
        }
      }
    }
  }
}

TEST_P(CudaMatMulTest, IsCloseToTheReference) {
  constexpr int kOutputs = 70;
  constexpr int kRows = 3;
  for (const int cols : {31, 200, 640}) {
    const TestWeight weight(random_, GetParam(), kOutputs, cols);
    const auto x = random_.Floats(static_cast<size_t>(kRows * cols));
    std::vector<float> expected(kRows * kOutputs, kPoison);
    std::vector<float> actual(kRows * kOutputs, kPoison);
    weight.reference().MatMul(weight.reference_weight(), nullptr, x.data(), kRows, false,
                              expected.data(), kOutputs);
    Multiply(weight,
             {nullptr, x.data(), kRows, false, actual.data(), kOutputs, InputRounding::kSplit},
             PlanMatMul(weight.shape(), kRows));
    for (int r = 0; r < kRows; ++r) {
      const float* row = x.data() + r * cols;
      for (int n = 0; n < kOutputs; ++n) {
        const double error =
            ReferenceError(GetParam().format, weight.values().data() + n * cols, row, cols);
        const ProductBound bound = Exact(weight, row, n, InputRounding::kSplit);
        const auto at = static_cast<size_t>(r * kOutputs + n);
        ASSERT_NEAR(actual[at], expected[at], bound.error + error)
            << NameOf(GetParam()) << " " << cols << " columns (seed " << Seed() << ")";
      }
    }
  }
}

// The promise: an output's bits depend on its row of x and its row of w alone.
TEST_P(CudaMatMulTest, HasTheSameBitsForAnyNumberOfRowsAndAnyCut) {
  const int outputs = random_.Int(65, 90);
  const int cols = random_.Int(129, 260);
  const TestWeight weight(random_, GetParam(), outputs, cols);
  constexpr int kMaxRows = 70;
  const auto x = random_.Floats(static_cast<size_t>(kMaxRows * cols));
  const auto bias = random_.Floats(static_cast<size_t>(outputs));
  const auto rounding = random_.Int(0, 1) != 0 ? InputRounding::kSplit : InputRounding::kRounded;
  const auto run = [&](int first, int rows, const MatMulPlan& plan) {
    std::vector<float> out(static_cast<size_t>(rows * outputs), kPoison);
    Multiply(weight,
             {bias.data(), x.data() + first * cols, rows, true, out.data(), outputs, rounding},
             plan);
    return out;
  };
  std::vector<float> alone;
  for (int r = 0; r < kMaxRows; ++r) {
    const auto row = run(r, 1, PlanMatMul(weight.shape(), 1));
    alone.insert(alone.end(), row.begin(), row.end());
  }
  const auto expect_rows = [&](int first, int rows, const std::vector<float>& actual) {
    const std::vector<float> expected(alone.begin() + first * outputs,
                                      alone.begin() + (first + rows) * outputs);
    ASSERT_EQ(std::memcmp(expected.data(), actual.data(), actual.size() * sizeof(float)), 0)
        << NameOf(GetParam()) << " " << rows << " rows of " << outputs << " x " << cols << " (seed "
        << Seed() << ")";
  };
  for (int rows = 1; rows <= kMaxRows; ++rows) {
    const int first = random_.Int(0, kMaxRows - rows);
    expect_rows(first, rows, run(first, rows, PlanMatMul(weight.shape(), rows)));
  }
  for (const MatMulPlan& plan : kPlans) expect_rows(0, kMaxRows, run(0, kMaxRows, plan));
}

TEST_P(CudaMatMulTest, KeepsInfinitiesAndNansInTheirRows) {
  constexpr int kOutputs = 20;
  constexpr int kCols = 70;
  const TestWeight weight(random_, GetParam(), kOutputs, kCols);
  auto x = random_.Floats(3 * kCols);
  x[5] = NAN;
  x[2 * kCols + 9] = INFINITY;
  std::vector<float> out(3 * kOutputs, kPoison);
  Multiply(weight, {nullptr, x.data(), 3, false, out.data(), kOutputs, InputRounding::kSplit},
           {1, false});
  std::vector<float> alone(kOutputs, kPoison);
  Multiply(weight,
           {nullptr, x.data() + kCols, 1, false, alone.data(), kOutputs, InputRounding::kSplit},
           {1, false});
  for (size_t n = 0; n < kOutputs; ++n) {
    EXPECT_TRUE(std::isnan(out[n]));
    EXPECT_EQ(out[kOutputs + n], alone[n]);
    EXPECT_TRUE(std::isfinite(alone[n]));
    EXPECT_FALSE(std::isfinite(out[2 * kOutputs + n]));
  }
}

// Magnitudes beyond F16's range, and zeros.
TEST_P(CudaMatMulTest, KeepsRowsOfAnyMagnitude) {
  constexpr int kOutputs = 16;
  constexpr int kCols = 100;
  const TestWeight weight(random_, GetParam(), kOutputs, kCols);
  for (const float scale : {1e-20f, 1e-6f, 1e7f, 1e30f, 0.0f}) {
    const auto x = random_.Floats(kCols, scale);
    std::vector<float> out(kOutputs, kPoison);
    Multiply(weight, {nullptr, x.data(), 1, false, out.data(), kOutputs, InputRounding::kSplit},
             {1, false});
    for (int n = 0; n < kOutputs; ++n) {
      const ProductBound bound = Exact(weight, x.data(), n, InputRounding::kSplit);
      ASSERT_NEAR(out[static_cast<size_t>(n)], bound.value, bound.error)
          << NameOf(GetParam()) << " at " << scale << " (seed " << Seed() << ")";
    }
  }
}

TEST_P(CudaMatMulTest, LooksUpRows) {
  for (const int cols : {1, 63, 300}) {
    const int outputs = random_.Int(1, 140);
    const TestWeight weight(random_, GetParam(), outputs, cols);
    std::vector<int32_t> ids(static_cast<size_t>(random_.Int(1, 20)));
    for (int32_t& id : ids) id = random_.Int(0, outputs - 1);
    std::vector<float> expected(ids.size() * static_cast<size_t>(cols), kPoison);
    std::vector<float> actual(expected.size(), kPoison);
    weight.reference().Embed(weight.reference_weight(), ids, expected.data());
    const DeviceArray<int32_t> device_ids(ids);
    const DeviceArray<float> out(actual);
    LaunchEmbedPacked(Stream{}, weight.weight(), device_ids.data(), static_cast<int>(ids.size()),
                      out.data());
    out.Download(actual.data());
    ASSERT_TRUE(SameBits(expected, actual)) << NameOf(GetParam());
  }
}

TEST_P(CudaMatMulTest, AsksForNoMoreWorkspaceThanItsMaximum) {
  const PackedFormat format = *PackedFormatOf(GetParam().format, GetParam().stored);
  for (const auto& [outputs, cols] : {std::pair{4096, 4096}, {28672, 4096}, {100, 50}}) {
    const PackedShape shape{format, outputs, cols};
    for (const int max_rows : {1, 7, 20, 64, 100, 512, 3000}) {
      const size_t most = MaxMatMulWorkspaceBytes(shape, max_rows, InputRounding::kSplit);
      size_t largest = 0;
      for (int rows = 1; rows <= max_rows; ++rows) {
        largest = std::max(largest, MatMulWorkspaceBytes(shape, rows, InputRounding::kSplit,
                                                         PlanMatMul(shape, rows)));
      }
      ASSERT_EQ(most, largest) << outputs << " x " << cols << ", " << max_rows << " rows";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, CudaMatMulTest, ::testing::ValuesIn(kKinds),
                         [](const ::testing::TestParamInfo<Kind>& info) {
                           std::string name = NameOf(info.param);
                           std::erase_if(name, [](char c) { return std::isalnum(c) == 0; });
                           return name;
                         });

// Every code has a place of its own inside its group.
TEST(MatMulLayoutTest, PlacesAreDistinct) {
  for (const PackedFormat format :
       {PackedFormat::kBf16, PackedFormat::kF16, PackedFormat::kInt8, PackedFormat::kInt8Group,
        PackedFormat::kInt4Group, PackedFormat::kFp8}) {
    const PackedShape shape{format, 130, 150};
    std::vector<int> used(shape.bytes() * 2);  // nibbles
    const auto use = [&](size_t byte, int shift, int nibbles) {
      for (int i = 0; i < nibbles; ++i) ++used[2 * byte + static_cast<size_t>(shift / 4 + i)];
    };
    const int padded_rows = shape.groups() * kGroupOutputs;
    for (int n = 0; n < padded_rows; ++n) {
      for (int k = 0; k < PaddedColumns(shape.cols); ++k) {
        const CodePosition position = PositionOfCode(shape, n, k);
        use(position.byte, position.shift, BitsOf(format) / 4);
        if (HasGroupScales(format) && k % kQuantizationGroup == 0) {
          use(PositionOfScale(shape, n, k), 0, 4);
        }
      }
    }
    ASSERT_TRUE(std::all_of(used.begin(), used.end(), [](int count) { return count == 1; }));
  }
}

}  // namespace
}  // namespace octogate::kernels::cuda

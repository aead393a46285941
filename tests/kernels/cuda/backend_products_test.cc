// Products of the CUDA backend against the reference's: the same bits with F32;
// with packed weights within derived bounds, and the same bits as each other in
// any company.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/matmul_pack.h"
#include "tests/kernels/cuda/backend_fixture.h"
#include "tests/kernels/cuda/product_bounds.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using cuda::InputRounding;
using cuda::PackedFormat;
using testing::CudaBackendTest;
using testing::DeviceFloats;
using testing::Floats;
using testing::kPoison;
using testing::RandomData;
using testing::SameBits;
using testing::StoredMatrix;

// One product: weight, inputs, and what is added to it.
struct Product {
  Product(RandomData& random, DType dtype, int outputs, int cols, int rows)
      : matrix(random.Floats(static_cast<size_t>(outputs * cols), 0.1f), dtype, outputs, cols),
        outputs(outputs),
        cols(cols),
        rows(rows),
        stride(outputs + random.Int(0, 5)),
        biased(random.Int(0, 1) == 1),
        accumulate(random.Int(0, 1) == 1),
        x(random.Floats(static_cast<size_t>(rows * cols))),
        bias(random.Floats(static_cast<size_t>(outputs))),
        initial(random.Floats(static_cast<size_t>(rows * stride))) {}

  // Of `count` rows from `first` on.
  Floats Run(Backend& backend, const Weight& weight, int first, int count) const {
    DeviceFloats in(backend, Floats(x.begin() + first * cols, x.begin() + (first + count) * cols));
    DeviceFloats added(backend, bias);
    DeviceFloats out(backend, Floats(initial.begin() + first * stride,
                                     initial.begin() + (first + count) * stride));
    backend.MatMul(weight, biased ? added.data() : nullptr, in.data(), count, accumulate,
                   out.data(), stride);
    return out.Get();
  }
  Floats Run(Backend& backend, const Weight& weight) const { return Run(backend, weight, 0, rows); }

  StoredMatrix matrix;
  int outputs, cols, rows, stride;
  bool biased, accumulate;
  Floats x, bias, initial;
};

struct Kind {
  WeightFormat format;
  DType stored;
};
constexpr Kind kPackedKinds[] = {
    {WeightFormat::kStored, DType::kBF16},    {WeightFormat::kStored, DType::kF16},
    {WeightFormat::kBf16, DType::kF32},       {WeightFormat::kBf16, DType::kBF16},
    {WeightFormat::kInt8, DType::kBF16},      {WeightFormat::kInt8Group, DType::kF16},
    {WeightFormat::kInt4Group, DType::kBF16}, {WeightFormat::kFp8, DType::kF32},
};
std::string NameOf(const Kind& kind) {
  return std::string(Name(kind.format)) + " of " + Name(kind.stored);
}

TEST_F(CudaBackendTest, ProductsWithF32AreTheReferences) {
  for (const int cols : {1, 15, 16, 17, 60, 172}) {
    for (const int rows : {1, 2, 8, 9, 16, 100}) {
      const Product product(random_, DType::kF32, random_.Int(1, 40), cols, rows);
      ASSERT_TRUE(Same([&](Backend& backend) {
        return product.Run(backend,
                           *backend.LoadWeight(product.matrix.matrix(), WeightFormat::kStored));
      })) << rows
          << " rows of " << cols << " columns, " << product.outputs << " outputs";
    }
  }
}

TEST_F(CudaBackendTest, ProductsWithPackedWeightsAreCloseToTheReferences) {
  for (const InputRounding rounding : {InputRounding::kSplit, InputRounding::kRounded}) {
    std::string problem;
    const auto backend = cuda::MakeBackend({.input_rounding = rounding}, &problem);
    ASSERT_NE(backend, nullptr) << problem;
    for (const Kind& kind : kPackedKinds) {
      for (const int cols : {1, 60, 172}) {
        const Product product(random_, kind.stored, random_.Int(1, 140), cols, random_.Int(1, 20));
        const auto expected_weight = reference_->LoadWeight(product.matrix.matrix(), kind.format);
        const auto weight = backend->LoadWeight(product.matrix.matrix(), kind.format);
        ASSERT_NE(weight, nullptr);
        EXPECT_EQ(weight->format, kind.format);
        EXPECT_EQ(weight->error.relative_rms, expected_weight->error.relative_rms);
        EXPECT_EQ(weight->error.max_absolute, expected_weight->error.max_absolute);
        EXPECT_GE(weight->bytes, expected_weight->bytes);

        std::vector<int32_t> all(static_cast<size_t>(product.outputs));
        std::iota(all.begin(), all.end(), 0);
        Floats values(all.size() * static_cast<size_t>(cols));
        reference_->Embed(*expected_weight, all, values.data());
        const Floats expected = product.Run(*reference_, *expected_weight);
        const Floats actual = product.Run(*backend, *weight);
        const PackedFormat format = *cuda::PackedFormatOf(kind.format, kind.stored);
        for (int r = 0; r < product.rows; ++r) {
          for (int n = 0; n < product.stride; ++n) {
            const auto at = static_cast<size_t>(r * product.stride + n);
            if (n >= product.outputs) {
              ASSERT_EQ(actual[at], product.initial[at]) << "between the rows";
              continue;
            }
            const float* w = values.data() + n * cols;
            const float* x = product.x.data() + r * cols;
            const auto bound = cuda::testing::ExactProduct(format, w, x, cols, rounding);
            const double dots =
                bound.error + cuda::testing::ReferenceError(kind.format, w, x, cols);
            // Both round what they add to their sums, each at most twice.
            double magnitude = std::fabs(bound.value) + dots;
            if (product.biased) magnitude += std::fabs(product.bias[static_cast<size_t>(n)]);
            if (product.accumulate) magnitude += std::fabs(product.initial[at]);
            ASSERT_NEAR(actual[at], expected[at], dots + 2 * 2.1 * cuda::testing::kUnit * magnitude)
                << NameOf(kind) << " " << product.outputs << " x " << cols << ", row " << r
                << ", output " << n << " (seed " << testing::Seed() << ")";
          }
        }
      }
    }
  }
}

// More rows than one product takes, in chunks of every kind.
TEST_F(CudaBackendTest, ProductsWithPackedWeightsHaveTheSameBitsInAnyCompany) {
  constexpr int kRows = 530;
  for (const Kind& kind : kPackedKinds) {
    const Product product(random_, kind.stored, random_.Int(1, 20), random_.Int(1, 130), kRows);
    const auto weight = backend_->LoadWeight(product.matrix.matrix(), kind.format);
    ASSERT_NE(weight, nullptr);
    const Floats together = product.Run(*backend_, *weight);
    const auto expect_same = [&](int first, int count) {
      const Floats expected(together.begin() + first * product.stride,
                            together.begin() + (first + count) * product.stride);
      ASSERT_TRUE(SameBits(expected, product.Run(*backend_, *weight, first, count)))
          << NameOf(kind) << ", " << count << " rows from " << first;
    };
    for (const int r : {0, random_.Int(1, 510), 511, 512, kRows - 1}) expect_same(r, 1);
    for (int first = 0; first < kRows;) {
      const int count = std::min(random_.Int(1, 150), kRows - first);
      expect_same(first, count);
      first += count;
    }
  }
}

TEST_F(CudaBackendTest, InputsAreSplitUnlessTheyAreToBeRounded) {
  const float input = 1 + 0x1p-9f + 0x1p-13f;  // BF16 has steps of 2^-7 here
  const StoredMatrix one({1.0f}, DType::kBF16, 1, 1);
  const auto product = [&](Backend& backend) {
    DeviceFloats in(backend, {input});
    DeviceFloats out(backend, {kPoison});
    backend.MatMul(*backend.LoadWeight(one.matrix(), WeightFormat::kStored), nullptr, in.data(), 1,
                   false, out.data(), 1);
    return out.Get()[0];
  };
  EXPECT_EQ(product(*backend_), input);
  std::string problem;
  const auto rounded = cuda::MakeBackend({.input_rounding = InputRounding::kRounded}, &problem);
  ASSERT_NE(rounded, nullptr) << problem;
  EXPECT_EQ(product(*rounded), 1.0f);
}

}  // namespace
}  // namespace octogate::kernels

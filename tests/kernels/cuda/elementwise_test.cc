// kernels/cuda/elementwise.h against the reference: the same bits.

#include "kernels/cuda/elementwise.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels::cuda {
namespace {

using testing::RandomData;
using testing::SameBits;
using testing::StoredMatrix;

constexpr float kPoison = -12345.678f;

class ElementwiseTest : public ::testing::Test {
 protected:
  std::unique_ptr<Backend> reference_ = MakeReferenceBackend();
  RandomData random_;
};

TEST_F(ElementwiseTest, GatedActivations) {
  for (const int columns : {1, 31, 256, 300}) {
    for (const int rows : {1, 3, 20}) {
      const auto size = static_cast<size_t>(rows * columns);
      auto x = random_.Floats(2 * size, 4);
      x[0] = NAN;
      x[size] = INFINITY;
      std::vector<float> expected(size, kPoison);
      std::vector<float> actual(size, kPoison);
      reference_->SiluMul(x.data(), rows, columns, expected.data());
      LaunchSiluMul(Stream{}, x.data(), rows, columns, actual.data());
      ASSERT_TRUE(SameBits(expected, actual)) << columns << " columns";
      for (const bool tanh : {false, true}) {
        reference_->GeluMul(x.data(), rows, columns, tanh, expected.data());
        LaunchGeluMul(Stream{}, x.data(), rows, columns, tanh, actual.data());
        ASSERT_TRUE(SameBits(expected, actual)) << columns << " columns";
      }
    }
  }
}

TEST_F(ElementwiseTest, LookUps) {
  for (const int columns : {1, 40, 257}) {
    const int table_rows = random_.Int(1, 9);
    const int count = random_.Int(1, 20);
    const auto values = random_.Floats(static_cast<size_t>(table_rows * columns));
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) id = random_.Int(0, table_rows - 1);
    const auto size = static_cast<size_t>(count * columns);
    std::vector<float> expected(size, kPoison);
    std::vector<float> actual(size, kPoison);
    reference_->GatherRows(values.data(), ids, columns, expected.data());
    LaunchGatherRows(Stream{}, values.data(), ids.data(), count, columns, actual.data());
    ASSERT_TRUE(SameBits(expected, actual));
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      const StoredMatrix stored(values, dtype, table_rows, columns);
      const auto weight = reference_->LoadWeight(stored.matrix(), WeightFormat::kStored);
      reference_->Embed(*weight, ids, expected.data());
      // The device's copy is aligned.
      const auto* bytes = static_cast<const uint8_t*>(stored.matrix().data);
      const std::vector<uint8_t> table(bytes, bytes + values.size() * SizeOf(dtype));
      LaunchEmbed(Stream{}, table.data(), dtype, columns, ids.data(), count, actual.data());
      ASSERT_TRUE(SameBits(expected, actual)) << Name(dtype);
    }
  }
}

}  // namespace
}  // namespace octogate::kernels::cuda

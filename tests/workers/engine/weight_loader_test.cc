// Matrices that are joined when they are loaded: their product is that of the parts side by side,
// bit for bit, in every format and type, wherever the parts lie.
#include "workers/engine/weight_loader.h"

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/workers/engine/fresh_seed.h"

namespace octogate::workers {
namespace {

using kernels::WeightFormat;

// Random weights of a type, in memory of their own or behind one another.
struct Parts {
  Parts(std::mt19937& random, DType dtype, std::vector<int64_t> rows, int64_t cols, bool adjacent) {
    size_t total = 0;
    for (const int64_t count : rows) total += static_cast<size_t>(count);
    const size_t row_bytes = static_cast<size_t>(cols) * DTypeSize(dtype);
    const size_t gap = adjacent ? 0 : 2 * DTypeSize(dtype);
    bytes.resize(total * row_bytes + rows.size() * gap);
    std::uniform_int_distribution<uint32_t> bits(0, 0xFFFF);
    for (size_t at = 0; at + 1 < bytes.size(); at += 2) {
      // Small numbers of both signs in any of the types.
      const uint32_t half = (dtype == DType::kF16 ? 0x2800u : 0x3C00u) | (bits(random) & 0x81FFu);
      bytes[at] = static_cast<std::byte>(half & 0xFFu);
      bytes[at + 1] = static_cast<std::byte>(half >> 8);
    }
    size_t at = 0;
    for (const int64_t count : rows) {
      views.push_back({dtype, count, cols, bytes.data() + at});
      at += views.back().size_bytes() + gap;
    }
  }

  std::vector<std::byte> bytes;
  std::vector<WeightView> views;
};

std::vector<float> Get(kernels::Backend& backend, kernels::Buffer& buffer) {
  std::vector<float> values(buffer.size());
  backend.Download(buffer.data(), values);
  return values;
}

class WeightLoaderTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    std::string problem;
    backend_ = GetParam() ? kernels::cuda::MakeBackend({}, &problem)
                          : kernels::MakeCpuBackend({.threads = 2});
    ASSERT_NE(backend_, nullptr) << problem;
  }

  const uint32_t seed_ = FreshSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937 random_{seed_};
  std::unique_ptr<kernels::Backend> backend_;
};

TEST_P(WeightLoaderTest, AJoinedMatrixMultipliesAsItsPartsDo) {
  for (const WeightFormat format : kernels::kWeightFormats) {
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      const bool adjacent = random_() % 2 == 0;
      SCOPED_TRACE(std::string(kernels::Name(format)) + " of " + std::string(DTypeName(dtype)) +
                   (adjacent ? ", adjacent" : ""));
      const int cols = 1 + static_cast<int>(random_() % 130);
      const int rows = 1 + static_cast<int>(random_() % 9);
      std::vector<int64_t> outputs;
      int64_t width = 0;
      for (int i = 0; i < 3; ++i) {
        outputs.push_back(1 + random_() % 90);
        width += outputs.back();
      }
      const Parts parts(random_, dtype, outputs, cols, adjacent);
      WeightLoader loader(backend_.get(), format);
      WeightLoader::WeightPtr joined;
      loader.JoinedMatrix("joined", parts.views, joined);
      ASSERT_TRUE(loader.status().ok()) << loader.status();
      ASSERT_EQ(joined->rows, width);

      std::vector<float> values(static_cast<size_t>(rows * cols));
      std::normal_distribution<float> normal;
      for (float& value : values) value = normal(random_);
      const auto x = backend_->Allocate(values.size());
      backend_->Upload(values, x->data());
      const auto size = static_cast<size_t>(rows * width);
      const auto expected = backend_->Allocate(size);
      const auto got = backend_->Allocate(size);
      int64_t column = 0;
      for (const WeightView& view : parts.views) {
        WeightLoader::WeightPtr part;
        loader.Matrix("part", view, part);
        ASSERT_TRUE(loader.status().ok()) << loader.status();
        backend_->MatMul(*part, nullptr, x->data(), rows, false, expected->data() + column,
                         static_cast<int>(width));
        backend_->Synchronize();
        column += view.rows;
      }
      backend_->MatMul(*joined, nullptr, x->data(), rows, false, got->data(),
                       static_cast<int>(width));
      const std::vector<float> a = Get(*backend_, *expected);
      const std::vector<float> b = Get(*backend_, *got);
      EXPECT_EQ(std::memcmp(a.data(), b.data(), size * sizeof(float)), 0)
          << rows << " rows, " << cols << " columns, " << width << " outputs";
    }
  }
}

TEST_P(WeightLoaderTest, MatricesTakeTheBytesThatArePlannedFor) {
  for (int trial = 0; trial < 40; ++trial) {
    for (const WeightFormat format : kernels::kWeightFormats) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        const Parts parts(random_, dtype, {1 + static_cast<int64_t>(random_() % 150)},
                          1 + static_cast<int64_t>(random_() % 200), true);
        const WeightView& view = parts.views[0];
        const auto rows = static_cast<int>(view.rows);
        const auto cols = static_cast<int>(view.cols);
        SCOPED_TRACE(std::string(kernels::Name(format)) + " of " + std::string(DTypeName(dtype)) +
                     ", " + std::to_string(rows) + " x " + std::to_string(cols));
        WeightLoader loader(backend_.get(), format);
        WeightLoader::WeightPtr matrix, table;
        loader.Matrix("matrix", view, matrix);
        loader.Table(view, table);
        ASSERT_TRUE(loader.status().ok()) << loader.status();
        EXPECT_EQ(matrix->bytes, backend_->WeightBytes(ToKernelDType(dtype), rows, cols, format));
        EXPECT_EQ(table->bytes, backend_->TableBytes(ToKernelDType(dtype), rows, cols));
      }
    }
  }
}

TEST_P(WeightLoaderTest, JoinedVectorsLieOneBehindTheOther) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    Parts parts(random_, dtype, {1, 1}, 37, false);
    parts.views[0].cols = 5;
    WeightLoader loader(backend_.get(), WeightFormat::kStored);
    WeightLoader::BufferPtr joined, first, second, none;
    loader.JoinedVector(parts.views, joined);
    loader.Vector(parts.views[0], first);
    loader.Vector(parts.views[1], second);
    loader.JoinedVector(std::vector<WeightView>(2), none);
    ASSERT_TRUE(loader.status().ok()) << loader.status();
    EXPECT_EQ(none, nullptr);
    std::vector<float> expected = Get(*backend_, *first);
    const std::vector<float> behind = Get(*backend_, *second);
    expected.insert(expected.end(), behind.begin(), behind.end());
    EXPECT_EQ(Get(*backend_, *joined), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, WeightLoaderTest, ::testing::Values(false, true),
                         [](const auto& info) { return info.param ? "cuda_emulated" : "cpu"; });

}  // namespace
}  // namespace octogate::workers

// Every operation on every instruction set of this machine, with one, two and
// three threads, against the reference: the same bits.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::SameBits;
using testing::StoredMatrix;

constexpr float kPoison = -12345.678f;

class DifferentialTest : public ::testing::TestWithParam<std::tuple<Isa, int>> {
 protected:
  void SetUp() override {
    const auto [isa, threads] = GetParam();
    if (!IsSupported(isa)) GTEST_SKIP() << "this CPU has no " << Name(isa);
    backend_ = MakeCpuBackend({.threads = threads, .isa = isa});
    ASSERT_NE(backend_, nullptr);
    reference_ = MakeReferenceBackend();
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Backend> reference_;
  RandomData random_;
};

INSTANTIATE_TEST_SUITE_P(Isa, DifferentialTest,
                         ::testing::Combine(::testing::Values(Isa::kPlain, Isa::kAvx2, Isa::kAvx512,
                                                              Isa::kAmx),
                                            ::testing::Values(1, 2, 3)),
                         [](const auto& info) {
                           return std::string(Name(std::get<0>(info.param))) +
                                  std::to_string(std::get<1>(info.param));
                         });

std::vector<float> RunMatMul(Backend& backend, const HostMatrix& matrix, const float* bias,
                             const std::vector<float>& x, int rows, bool accumulate, int out_stride,
                             const std::vector<float>& initial) {
  std::vector<float> out = initial;
  const auto weight = backend.LoadWeight(matrix, WeightFormat::kStored);
  backend.MatMul(*weight, bias, x.data(), rows, accumulate, out.data(), out_stride);
  return out;
}

TEST_P(DifferentialTest, MatMul) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int cols : {1, 15, 16, 17, 60, 172, 512, 513, 1100, 2100}) {
      for (const int rows : {1, 2, 3, 4, 5, 7, 8, 9, 11, 16, 33, 70}) {
        const int outputs = random_.Int(1, 90);
        const StoredMatrix weight(random_.Floats(static_cast<size_t>(outputs * cols)), dtype,
                                  outputs, cols);
        const auto x = random_.Floats(static_cast<size_t>(rows * cols));
        const auto bias = random_.Floats(static_cast<size_t>(outputs));
        const int stride = outputs + random_.Int(0, 5);
        const bool accumulate = random_.Int(0, 1) == 1;
        const float* maybe_bias = random_.Int(0, 1) == 1 ? bias.data() : nullptr;
        const auto initial = random_.Floats(static_cast<size_t>(rows * stride));
        SCOPED_TRACE(std::string(Name(dtype)) + " rows " + std::to_string(rows) + " cols " +
                     std::to_string(cols) + " outputs " + std::to_string(outputs));
        ASSERT_TRUE(SameBits(RunMatMul(*reference_, weight.matrix(), maybe_bias, x, rows,
                                       accumulate, stride, initial),
                             RunMatMul(*backend_, weight.matrix(), maybe_bias, x, rows, accumulate,
                                       stride, initial)));
      }
    }
  }
}

TEST_P(DifferentialTest, RowWiseOperations) {
  for (const int columns : {1, 15, 16, 17, 60, 172, 1024, 40000}) {
    for (const int rows : {1, 2, 5, 40}) {
      SCOPED_TRACE("columns " + std::to_string(columns) + " rows " + std::to_string(rows));
      const auto size = static_cast<size_t>(rows * columns);
      const auto x = random_.Floats(2 * size, 3);
      const auto weight = random_.Floats(static_cast<size_t>(columns));
      const auto run = [&](const auto& operation) {
        std::vector<float> expected(size, kPoison);
        std::vector<float> actual(size, kPoison);
        operation(*reference_, expected.data());
        operation(*backend_, actual.data());
        return SameBits(expected, actual);
      };
      ASSERT_TRUE(run([&](Backend& backend, float* out) {
        backend.RmsNorm(x.data(), weight.data(), rows, columns, 1e-5f, out);
      }));
      ASSERT_TRUE(run([&](Backend& backend, float* out) {
        std::copy_n(x.data(), size, out);  // in place
        backend.RmsNorm(out, weight.data(), rows, columns, 1e-6f, out);
      }));
      const auto bias = random_.Floats(static_cast<size_t>(columns));
      ASSERT_TRUE(run([&](Backend& backend, float* out) {
        backend.LayerNorm(x.data(), weight.data(), bias.data(), rows, columns, 1e-5f, out);
      }));
      ASSERT_TRUE(run([&](Backend& backend, float* out) {
        std::copy_n(x.data(), size, out);  // in place
        backend.LayerNorm(out, weight.data(), nullptr, rows, columns, 1e-6f, out);
      }));
      ASSERT_TRUE(run(
          [&](Backend& backend, float* out) { backend.SiluMul(x.data(), rows, columns, out); }));
      ASSERT_TRUE(run([&](Backend& backend, float* out) {
        backend.GeluMul(x.data(), rows, columns, true, out);
      }));
      ASSERT_TRUE(run([&](Backend& backend, float* out) {
        backend.GeluMul(x.data(), rows, columns, false, out);
      }));
      std::vector<int32_t> picks(static_cast<size_t>(rows));
      for (int32_t& pick : picks) pick = random_.Int(0, 2 * rows - 1);
      ASSERT_TRUE(run([&](Backend& backend, float* out) {
        backend.GatherRows(x.data(), picks, columns, out);
      }));
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        const StoredMatrix table(x, dtype, 2 * rows, columns);
        ASSERT_TRUE(run([&](Backend& backend, float* out) {
          backend.Embed(*backend.LoadWeight(table.matrix(), WeightFormat::kStored), picks, out);
        }));
        ASSERT_TRUE(run([&](Backend& backend, float* out) {
          backend.Embed(*backend.LoadTable(table.matrix()), picks, out);
        }));
      }
    }
  }
}

TEST_P(DifferentialTest, NormedHeadsAreNormedRows) {
  for (const int head_dim : {1, 15, 16, 64, 100, 128}) {
    for (const int rows : {1, 3, 40}) {
      const int heads = random_.Int(1, 20);
      const int stride = heads * head_dim + random_.Int(0, 9);
      SCOPED_TRACE("head_dim " + std::to_string(head_dim) + " heads " + std::to_string(heads));
      const auto x = random_.Floats(static_cast<size_t>(rows * stride), 3);
      const auto weight = random_.Floats(static_cast<size_t>(head_dim));
      auto expected = x;
      for (int r = 0; r < rows; ++r) {
        float* row = expected.data() + r * stride;
        reference_->RmsNorm(row, weight.data(), heads, head_dim, 1e-6f, row);
      }
      for (Backend* backend : {reference_.get(), backend_.get()}) {
        auto normed = x;
        backend->RmsNormHeads(weight.data(), rows, heads, head_dim, stride, 1e-6f, normed.data());
        ASSERT_TRUE(SameBits(expected, normed))
            << backend->Describe() << ", seed " << testing::Seed();
      }
    }
  }
}

TEST_P(DifferentialTest, Rope) {
  for (const int half : {1, 8, 32, 64}) {
    const int head_dim = 2 * half + 2 * random_.Int(0, 3);
    const int heads = random_.Int(1, 5);
    const int stride = heads * head_dim + random_.Int(0, 7);
    std::vector<float> frequencies(static_cast<size_t>(half));
    for (int i = 0; i < half; ++i) {
      frequencies[static_cast<size_t>(i)] =
          1.0f / std::pow(10000.0f, static_cast<float>(i) / static_cast<float>(half));
    }
    const RopeShape shape{heads, head_dim, frequencies, 1.25f};
    for (const int rows : {1, 3, 40, 2000}) {
      std::vector<int32_t> positions(static_cast<size_t>(rows));
      for (int32_t& position : positions) position = random_.Int(0, 131072);
      auto expected = random_.Floats(static_cast<size_t>(rows * stride));
      auto actual = expected;
      for (int repeat = 0; repeat < 2; ++repeat) {  // the second finds its angles remembered
        reference_->Rope(shape, positions, stride, expected.data());
        backend_->Rope(shape, positions, stride, actual.data());
        ASSERT_TRUE(SameBits(expected, actual)) << "half " << half << " rows " << rows;
      }
    }
  }
}

TEST_P(DifferentialTest, Attention) {
  for (int trial = 0; trial < 40; ++trial) {
    KvCacheShape cache_shape{.layers = 2, .pages = 0, .kv_heads = random_.Int(1, 3)};
    constexpr int kPageSizes[] = {1, 7, 16, 64};
    constexpr int kHeadDims[] = {8, 16, 20, 60, 64, 96, 128, 130};
    constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kI8};
    cache_shape.page_size = kPageSizes[random_.Int(0, 3)];
    cache_shape.head_dim = kHeadDims[random_.Int(0, 7)];
    cache_shape.dtype = kTypes[random_.Int(0, 4)];
    const int group = random_.Int(1, 5);
    const AttentionShape shape{.heads = cache_shape.kv_heads * group,
                               .kv_heads = cache_shape.kv_heads,
                               .head_dim = cache_shape.head_dim,
                               .scale = 1 / std::sqrt(static_cast<float>(cache_shape.head_dim)),
                               .sliding_window = random_.Int(0, 1) * random_.Int(1, 400)};
    // Sequences with a past and a few rows each; their pages in random order.
    const int sequences = random_.Int(1, 3);
    std::vector<int> past(static_cast<size_t>(sequences));
    std::vector<int> rows(past.size());
    for (size_t s = 0; s < past.size(); ++s) {
      past[s] = random_.Int(0, 1) * random_.Int(0, 900);
      rows[s] = random_.Int(0, 2) == 0 ? random_.Int(1, 90) : 1;
      cache_shape.pages += (past[s] + rows[s]) / cache_shape.page_size + 1;
    }
    std::vector<int32_t> pages(static_cast<size_t>(cache_shape.pages));
    std::iota(pages.begin(), pages.end(), 0);
    for (size_t i = pages.size(); i > 1; --i) {
      std::swap(pages[i - 1], pages[static_cast<size_t>(random_.Int(0, static_cast<int>(i) - 1))]);
    }
    const auto expected_cache = reference_->CreateKvCache(cache_shape);
    const auto actual_cache = backend_->CreateKvCache(cache_shape);
    std::vector<SequenceRows> step;
    int total_rows = 0;
    std::span<const int32_t> free_pages = pages;
    for (size_t s = 0; s < past.size(); ++s) {
      const auto used = static_cast<size_t>((past[s] + rows[s]) / cache_shape.page_size + 1);
      const auto own = free_pages.first(used);
      free_pages = free_pages.subspan(used);
      const int width = cache_shape.kv_heads * cache_shape.head_dim;
      const SequenceRows all{0, past[s] + rows[s], 0, own};
      const auto keys = random_.Floats(static_cast<size_t>(all.row_count * width));
      const auto values = random_.Floats(static_cast<size_t>(all.row_count * width));
      reference_->WriteKv(*expected_cache, 1, {&all, 1}, keys.data(), values.data(), width);
      backend_->WriteKv(*actual_cache, 1, {&all, 1}, keys.data(), values.data(), width);
      step.push_back({total_rows, rows[s], past[s], own});
      total_rows += rows[s];
    }
    const int q_stride = shape.heads * shape.head_dim + random_.Int(0, 4);
    const auto q = random_.Floats(static_cast<size_t>(total_rows * q_stride), 2);
    const auto size = static_cast<size_t>(total_rows * shape.heads * shape.head_dim);
    std::vector<float> expected(size, kPoison);
    std::vector<float> actual(size, kPoison);
    reference_->Attention(shape, *expected_cache, 1, step, q.data(), q_stride, expected.data());
    backend_->Attention(shape, *actual_cache, 1, step, q.data(), q_stride, actual.data());
    ASSERT_TRUE(SameBits(expected, actual))
        << "trial " << trial << " head_dim " << shape.head_dim << " window " << shape.sliding_window
        << " page " << cache_shape.page_size;
  }
}

}  // namespace
}  // namespace octogate::kernels

// A row's result depends on nothing but the row: not on the number of rows,
// their neighbours, the chunks of a prompt, the pages, the threads, or the
// storage type of equal values. All comparisons are of bits.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::SameBits;
using testing::StoredMatrix;

std::vector<float> Slice(const std::vector<float>& values, int row, int rows, int width) {
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(row) * width;
  return {begin, begin + static_cast<std::ptrdiff_t>(rows) * width};
}

class InvarianceTest : public testing::IsaTest {
 protected:
  std::vector<float> MatMul(const HostMatrix& matrix, const std::vector<float>& x, int rows) {
    std::vector<float> out(static_cast<size_t>(rows * matrix.rows));
    backend_->MatMul(*backend_->LoadWeight(matrix, WeightFormat::kStored), nullptr, x.data(), rows,
                     false, out.data(), matrix.rows);
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Isa, InvarianceTest,
                         ::testing::Values(Isa::kPlain, Isa::kAvx2, Isa::kAvx512, Isa::kAmx),
                         testing::IsaName);

TEST_P(InvarianceTest, ARowOfAProductDoesNotDependOnTheBatch) {
  for (const int cols : {17, 172, 700}) {
    constexpr int kOutputs = 61;
    const StoredMatrix weight(random_.Floats(static_cast<size_t>(kOutputs * cols)), DType::kBF16,
                              kOutputs, cols);
    for (int rows = 1; rows <= 40; ++rows) {
      const auto x = random_.Floats(static_cast<size_t>(rows * cols));
      const auto batch = MatMul(weight.matrix(), x, rows);
      // Each row alone.
      for (int r = 0; r < rows; ++r) {
        const auto alone = MatMul(weight.matrix(), Slice(x, r, 1, cols), 1);
        ASSERT_TRUE(SameBits(Slice(batch, r, 1, kOutputs), alone)) << "row " << r << " of " << rows;
      }
      // The first row as the last, behind other neighbours.
      auto rotated = x;
      std::rotate(rotated.begin(), rotated.begin() + cols, rotated.end());
      const auto other = MatMul(weight.matrix(), rotated, rows);
      ASSERT_TRUE(SameBits(Slice(batch, 0, 1, kOutputs), Slice(other, rows - 1, 1, kOutputs)));
    }
  }
}

TEST_P(InvarianceTest, SixteenBitWeightsCountAsTheirWidenedValues) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    constexpr int kOutputs = 40;
    constexpr int kCols = 333;
    const StoredMatrix narrow(random_.Floats(kOutputs * kCols), dtype, kOutputs, kCols);
    const StoredMatrix wide(narrow.Widened(), DType::kF32, kOutputs, kCols);
    for (const int rows : {1, 3, 20}) {
      const auto x = random_.Floats(static_cast<size_t>(rows * kCols));
      ASSERT_TRUE(SameBits(MatMul(wide.matrix(), x, rows), MatMul(narrow.matrix(), x, rows)));
    }
  }
}

// A prompt computed whole, in chunks, in other pages and beside other sequences.
TEST_P(InvarianceTest, AttentionDoesNotDependOnChunksPagesOrNeighbours) {
  for (int trial = 0; trial < 12; ++trial) {
    constexpr int kKvHeads = 2;
    constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16, DType::kF8E4M3, DType::kI8};
    const int head_dim = trial % 2 == 0 ? 64 : 40;
    const int group = random_.Int(1, 4);
    const int length = random_.Int(2, 700);
    const int heads = kKvHeads * group;
    const AttentionShape shape{heads, kKvHeads, head_dim, 0.125f,
                               trial % 3 == 0 ? random_.Int(1, 300) : 0};
    const int width = kKvHeads * head_dim;
    const int q_width = heads * head_dim;
    const auto keys = random_.Floats(static_cast<size_t>(length * width));
    const auto values = random_.Floats(static_cast<size_t>(length * width));
    const auto q = random_.Floats(static_cast<size_t>(length * q_width));

    // Writes and attends in chunks of `chunk` rows, pages of `page_size`.
    const auto run = [&](int page_size, int chunk, bool beside_itself) {
      const int pages_needed = (length + page_size - 1) / page_size;
      const auto cache = backend_->CreateKvCache(
          {1, pages_needed, page_size, kKvHeads, head_dim, kTypes[trial % 5]});
      std::vector<int32_t> pages(static_cast<size_t>(pages_needed));
      std::iota(pages.rbegin(), pages.rend(), 0);
      std::vector<float> out(q.size());
      for (int first = 0; first < length; first += chunk) {
        const int rows = std::min(chunk, length - first);
        const std::vector<SequenceRows> written{{0, rows, first, pages}};
        const size_t at = static_cast<size_t>(first) * static_cast<size_t>(width);
        backend_->WriteKv(*cache, 0, written, keys.data() + at, values.data() + at, width);
        std::vector<SequenceRows> step = written;
        std::vector<float> step_q = Slice(q, first, rows, q_width);
        if (beside_itself) {  // a second sequence that reads the same pages
          step = {{0, rows, first, pages}, {rows, rows, first, pages}};
          step_q.insert(step_q.end(), step_q.begin(), step_q.end());
        }
        std::vector<float> step_out(step_q.size());
        backend_->Attention(shape, *cache, 0, step, step_q.data(), q_width, step_out.data());
        std::copy_n(step_out.end() - static_cast<std::ptrdiff_t>(rows) * q_width, rows * q_width,
                    out.begin() + static_cast<std::ptrdiff_t>(first) * q_width);
      }
      return out;
    };

    const auto whole = run(16, length, false);
    ASSERT_TRUE(SameBits(whole, run(1, length, false)));
    ASSERT_TRUE(SameBits(whole, run(7, random_.Int(1, length), true)));
    ASSERT_TRUE(SameBits(whole, run(64, 37, false)));
    ASSERT_TRUE(SameBits(whole, run(1000, 1, false))) << "a row at a time";
    // Few heads and two threads: the context itself is split. Many threads and
    // one must agree.
    for (const int threads : {1, 5}) {
      backend_ = MakeCpuBackend({.threads = threads, .isa = GetParam()});
      ASSERT_TRUE(SameBits(whole, run(16, 250, false))) << threads << " threads";
    }
    backend_ = MakeCpuBackend({.threads = 2, .isa = GetParam()});
  }
}

// Infinities, NaNs, zeros of both signs and subnormals, on every path alike.
TEST_P(InvarianceTest, SpecialValuesStayWhereTheyAre) {
  constexpr int kOutputs = 9;
  constexpr int kCols = 50;
  const auto plain = MakeCpuBackend({.threads = 1, .isa = Isa::kPlain});
  for (int trial = 0; trial < 200; ++trial) {
    auto w = random_.Floats(kOutputs * kCols);
    auto x = random_.Floats(12 * kCols);
    constexpr float kSpecial[] = {INFINITY, -INFINITY, NAN, 0.0f, -0.0f, 1e-40f, -1e-45f, 3e38f};
    for (int i = 0; i < 3; ++i) {
      w[static_cast<size_t>(random_.Int(0, kOutputs * kCols - 1))] = kSpecial[random_.Int(0, 7)];
      x[static_cast<size_t>(random_.Int(0, 12 * kCols - 1))] = kSpecial[random_.Int(0, 7)];
    }
    const StoredMatrix weight(w, DType::kF32, kOutputs, kCols);
    const auto batch = MatMul(weight.matrix(), x, 12);
    std::vector<float> expected(batch.size());
    plain->MatMul(*plain->LoadWeight(weight.matrix(), WeightFormat::kStored), nullptr, x.data(), 12,
                  false, expected.data(), kOutputs);
    ASSERT_TRUE(SameBits(expected, batch));
    std::vector<float> gated(6 * kCols);
    std::vector<float> expected_gated(gated.size());
    backend_->SiluMul(x.data(), 6, kCols, gated.data());
    plain->SiluMul(x.data(), 6, kCols, expected_gated.data());
    ASSERT_TRUE(SameBits(expected_gated, gated));
    backend_->GeluMul(x.data(), 6, kCols, trial % 2 == 0, gated.data());
    plain->GeluMul(x.data(), 6, kCols, trial % 2 == 0, expected_gated.data());
    ASSERT_TRUE(SameBits(expected_gated, gated));
  }
}

TEST_P(InvarianceTest, SubnormalResultsAreKept) {
  const std::vector<float> w{1e-20f};
  const std::vector<float> x{1e-20f};
  const auto out = MatMul({w.data(), DType::kF32, 1, 1}, x, 1);
  EXPECT_GT(out[0], 0);
}

}  // namespace
}  // namespace octogate::kernels

// The largest logits of rows with many equal values, NaNs and infinities: the
// same on every path, and what sorting the row gives.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::SameBits;
using testing::Seed;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Answer {
  std::vector<int32_t> ids;
  std::vector<float> values;
  std::vector<float> log_sum_exp;
};

Answer TopK(Backend& backend, const std::vector<float>& logits, int rows, int k) {
  const auto size = static_cast<size_t>(rows * k);
  Answer answer{std::vector<int32_t>(size, -7), std::vector<float>(size, -7),
                std::vector<float>(static_cast<size_t>(rows), -7)};
  backend.TopK(logits.data(), rows, static_cast<int>(logits.size()) / rows, k, answer.ids,
               answer.values, answer.log_sum_exp);
  return answer;
}

using TopKTest = testing::IsaTest;

INSTANTIATE_TEST_SUITE_P(Isa, TopKTest,
                         ::testing::Values(Isa::kPlain, Isa::kAvx2, Isa::kAvx512, Isa::kAmx),
                         testing::IsaName);

TEST_P(TopKTest, IsTheSortedRow) {
  for (int trial = 0; trial < 60; ++trial) {
    constexpr int kColumns[] = {1, 15, 16, 17, 129, 700, 4096, 5000};
    const int columns = kColumns[random_.Int(0, 7)];
    const int rows = random_.Int(1, 4);
    const int k = random_.Int(0, 2) == 0 ? columns : random_.Int(0, std::min(columns, 40));
    auto logits = random_.Floats(static_cast<size_t>(rows * columns), 3);
    if (trial % 2 == 0) {  // many equal values
      for (float& logit : logits) logit = std::round(logit);
    }
    if (trial % 3 == 0) {
      constexpr float kSpecial[] = {kInfinity, -kInfinity, NAN, 0.0f, -0.0f, 1e-45f};
      for (int i = 0; i < 6; ++i) {
        logits[static_cast<size_t>(random_.Int(0, rows * columns - 1))] =
            kSpecial[random_.Int(0, 5)];
      }
    }
    const Answer answer = TopK(*backend_, logits, rows, k);
    for (int r = 0; r < rows; ++r) {
      const float* row = logits.data() + static_cast<size_t>(r) * static_cast<size_t>(columns);
      std::vector<int32_t> sorted(static_cast<size_t>(columns));
      std::iota(sorted.begin(), sorted.end(), 0);
      std::stable_sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) {
        return std::isnan(row[b]) ? !std::isnan(row[a]) : row[a] > row[b];
      });
      for (int i = 0; i < k; ++i) {
        const auto at = static_cast<size_t>(r * k + i);
        ASSERT_EQ(answer.ids[at], sorted[static_cast<size_t>(i)])
            << "rank " << i << " of " << columns << " (seed " << Seed() << ")";
        ASSERT_TRUE(SameBits({row[answer.ids[at]]}, {answer.values[at]}));
      }
    }
    if (columns > 700 && k > 40) continue;  // the reference is quadratic
    const Answer expected = TopK(*reference_, logits, rows, k);
    ASSERT_EQ(expected.ids, answer.ids) << "seed " << Seed();
    ASSERT_TRUE(SameBits(expected.values, answer.values));
    ASSERT_TRUE(SameBits(expected.log_sum_exp, answer.log_sum_exp)) << columns << " columns";
  }
}

TEST_P(TopKTest, LogSumExpIsCloseToTheExactOne) {
  for (const int columns : {1, 100, 4097, 150000}) {
    for (const float scale : {0.1f, 3.0f, 40.0f}) {
      const auto logits = random_.Floats(static_cast<size_t>(columns), scale);
      const float max = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
      const double exact = max + std::log(sum);
      // All terms are positive: relative errors of the terms (of the difference and of exp) and of
      // the additions on the way, and the last rounding.
      const double relative = (4096 / 16.0 + columns / 4096.0 + 16) * 6e-8;
      const double difference = 6e-8 * 2 * (std::fabs(max) + 16 * scale);
      ASSERT_NEAR(TopK(*backend_, logits, 1, 1).log_sum_exp[0], exact,
                  relative + difference + std::fabs(exact) * 1.2e-7)
          << "seed " << Seed();
    }
  }
}

TEST_P(TopKTest, LogSumExpHasDefinedEnds) {
  const auto of = [&](const std::vector<float>& logits) {
    return TopK(*backend_, logits, 1, 0).log_sum_exp[0];
  };
  EXPECT_EQ(of({-kInfinity, -kInfinity}), -kInfinity);
  EXPECT_EQ(of({1, kInfinity, -kInfinity}), kInfinity);
  EXPECT_EQ(of({-kInfinity, 2.5f}), 2.5f);
  EXPECT_TRUE(std::isnan(of({1, NAN, 3})));
}

}  // namespace
}  // namespace octogate::kernels

// What is drawn from rows of logits: the same on every path of the CPU and by the reference, where
// draws fall as well as where they nearly fall elsewhere, and with the probabilities of a softmax.

#include "kernels/draw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/draw.h"
#include "kernels/elementary.h"
#include "kernels/reduction_order.h"
#include "tests/kernels/isa_test.h"
#include "tests/kernels/random_draws.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::RandomDraws;
using testing::SameBits;
using testing::Seed;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Drawn {
  std::vector<int32_t> ids;
  std::vector<float> values;
};

Drawn Draw(Backend& backend, const std::vector<float>& logits, int columns,
           const std::vector<LogitDraw>& draws) {
  Drawn drawn{std::vector<int32_t>(draws.size(), -7), std::vector<float>(draws.size(), -7)};
  backend.Draw(logits.data(), columns, draws, drawn.ids, drawn.values);
  return drawn;
}

using DrawTest = testing::IsaTest;

INSTANTIATE_TEST_SUITE_P(Isa, DrawTest,
                         ::testing::Values(Isa::kPlain, Isa::kAvx2, Isa::kAvx512, Isa::kAmx),
                         testing::IsaName);

TEST_P(DrawTest, IsTheReferences) {
  for (int trial = 0; trial < 200; ++trial) {
    const RandomDraws random(random_);
    const Drawn expected = Draw(*reference_, random.logits, random.columns, random.draws);
    const Drawn drawn = Draw(*backend_, random.logits, random.columns, random.draws);
    ASSERT_EQ(drawn.ids, expected.ids) << random.columns << " columns (seed " << Seed() << ")";
    std::vector<float> sums;
    for (size_t d = 0; d < drawn.ids.size(); ++d) {
      const auto row = std::span(random.logits)
                           .subspan(static_cast<size_t>(random.draws[d].row * random.columns),
                                    static_cast<size_t>(random.columns));
      ASSERT_EQ(DrawFromRow(row, random.draws[d], sums), expected.ids[d]);
      if (drawn.ids[d] < 0) continue;
      ASSERT_TRUE(SameBits({drawn.values[d]}, {row[static_cast<size_t>(drawn.ids[d])]}));
      ASSERT_TRUE(SameBits({drawn.values[d]}, {expected.values[d]}));
    }
  }
}

TEST_P(DrawTest, GivesNothingFromBrokenRows) {
  for (const float broken : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> logits(3 * kDrawBlock, broken == -kInfinity ? broken : 1.0f);
    logits[static_cast<size_t>(random_.Int(0, 3 * kDrawBlock - 1))] = broken;
    for (const double uniform : {0.0, 0.5, 1 - 0x1p-53}) {
      EXPECT_EQ(Draw(*backend_, logits, 3 * kDrawBlock, {{.uniform = uniform}}).ids[0], -1)
          << broken;
    }
  }
}

// A remainder that no weight takes up, as rounding may leave it, falls to what the definition says.
TEST_P(DrawTest, RemaindersFallToTheLastWeightOrTheBest) {
  std::vector<float> logits(2 * kDrawBlock, -kInfinity);
  logits[3] = 1;
  logits[40] = 2;
  logits[41] = 2;
  const std::vector<LogitDraw> beyond = {{.uniform = 1.5}};
  EXPECT_EQ(Draw(*backend_, logits, 2 * kDrawBlock, beyond).ids[0], 40)
      << "the last block is empty";
  EXPECT_EQ(Draw(*reference_, logits, 2 * kDrawBlock, beyond).ids[0], 40);
  logits[kDrawBlock + 7] = 0;
  logits[kDrawBlock + 9] = -1;
  EXPECT_EQ(Draw(*backend_, logits, 2 * kDrawBlock, beyond).ids[0], kDrawBlock + 9);
  EXPECT_EQ(Draw(*reference_, logits, 2 * kDrawBlock, beyond).ids[0], kDrawBlock + 9);
}

// Of evenly spaced numbers a share falls to each index that is its probability, but for the
// spacing.
TEST_P(DrawTest, SharesAreTheSoftmax) {
  constexpr int kColumns = 700;
  constexpr int kDraws = 20000;
  for (const float scale : {0.5f, 1.0f, 3.0f}) {
    const auto logits = random_.Floats(kColumns, 2);
    double total = 0;
    for (const float logit : logits) total += std::exp(double{logit} * double{scale});
    std::vector<LogitDraw> draws;
    for (int i = 0; i < kDraws; ++i) {
      draws.push_back({.uniform = static_cast<double>(i) / kDraws, .scale = scale});
    }
    std::vector<int> counts(kColumns);
    for (const int32_t id : Draw(*backend_, logits, kColumns, draws).ids) {
      ++counts[static_cast<size_t>(id)];
    }
    for (size_t i = 0; i < logits.size(); ++i) {
      const double share = std::exp(double{logits[i]} * double{scale}) / total;
      ASSERT_NEAR(counts[i], share * kDraws, 1.1) << "index " << i << " (seed " << Seed() << ")";
    }
  }
}

TEST(SumExpTest, HasTheBitsOfTheSpecification) {
  RandomData random;
  std::vector<const KernelTable*> tables = {&PlainKernels()};
#if defined(__x86_64__)
  if (IsSupported(Isa::kAvx2)) tables.push_back(&Avx2Kernels());
  if (IsSupported(Isa::kAvx512)) tables.push_back(&Avx512Kernels());
#endif
  for (const int count : {0, 1, 15, 16, 17, 250, 4096}) {
    for (const float scale : {1.0f, 0.3f, 25.0f}) {
      std::vector<float> x = random.Floats(static_cast<size_t>(count), 5);
      for (size_t i = 0; i < x.size(); i += 7) x[i] = -kInfinity;
      const float expected =
          Sum([&](int i) { return Exp((x[static_cast<size_t>(i)] - 4) * scale); }, count);
      for (const KernelTable* table : tables) {
        ASSERT_TRUE(SameBits({table->sum_exp(x.data(), count, 4, scale)}, {expected}))
            << table->name << ", " << count << " values, seed " << Seed();
      }
    }
  }
}

}  // namespace
}  // namespace octogate::kernels

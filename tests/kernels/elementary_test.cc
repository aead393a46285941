// Accuracy of the elementary functions and conversions against double
// precision.

#include "kernels/elementary.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/float16.h"
#include "kernels/rotary.h"
#include "tests/kernels/random_data.h"

namespace octogate::kernels {
namespace {

using testing::RandomData;
using testing::Seed;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Distance in units in the last place of the float nearest to `exact`.
double Ulps(float actual, double exact) {
  const auto nearest = static_cast<float>(exact);
  const float magnitude = std::max(std::fabs(nearest), std::numeric_limits<float>::min());
  const double ulp = std::nextafter(magnitude, kInfinity) - static_cast<double>(magnitude);
  return std::fabs(actual - exact) / ulp;
}

TEST(ExpTest, IsWithinOneAndAQuarterUnits) {
  RandomData random;
  for (int i = 0; i < 2'000'000; ++i) {
    const float x = -103.0f + 191.0f * static_cast<float>(i) / 2'000'000 + random.Float(1e-3f);
    const double ulps = Ulps(Exp(x), std::exp(static_cast<double>(x)));
    ASSERT_LE(ulps, 1.25) << x << " (seed " << Seed() << ")";
  }
}

TEST(ExpTest, HasDefinedEnds) {
  EXPECT_EQ(Exp(0), 1);
  EXPECT_EQ(Exp(-0.0f), 1);
  EXPECT_EQ(Exp(kInfinity), kInfinity);
  EXPECT_EQ(Exp(89), kInfinity);
  EXPECT_EQ(Exp(-kInfinity), 0);
  EXPECT_EQ(Exp(-200), 0);
  EXPECT_GT(Exp(-103), 0) << "subnormal results are kept";
  EXPECT_TRUE(std::isnan(Exp(kNan)));
}

TEST(LogTest, IsTheNearestOrAlmost) {
  RandomData random;
  for (int i = 0; i < 1'000'000; ++i) {
    const float x = std::fabs(random.AnyFinite());
    if (x == 0) continue;
    const double exact = std::log(static_cast<double>(x));
    const auto nearest = static_cast<float>(exact);
    const double unit = std::nextafter(std::fabs(nearest), HUGE_VALF) - std::fabs(nearest);
    ASSERT_NEAR(Log(x), exact, 0.51 * unit) << x << " (seed " << Seed() << ")";
  }
  EXPECT_EQ(Log(1.0f), 0.0f);
  EXPECT_EQ(Log(0.0f), -HUGE_VALF);
  EXPECT_EQ(Log(HUGE_VALF), HUGE_VALF);
  EXPECT_TRUE(std::isnan(Log(-1.0f)));
  EXPECT_TRUE(std::isnan(Log(NAN)));
}

TEST(ActivationTest, IsWithinAMillionthOfX) {
  const double half_pi_root = std::sqrt(2 / std::acos(-1.0));
  for (int i = 0; i <= 400'000; ++i) {
    const float x = -20.0f + 1e-4f * static_cast<float>(i);
    const double d = x;
    const double bound = 1e-6 * std::fabs(d) + 1e-30;
    ASSERT_NEAR(Silu(x), d / (1 + std::exp(-d)), bound) << x;
    ASSERT_NEAR(GeluErf(x), 0.5 * d * std::erfc(-d / std::sqrt(2.0)), bound) << x;
    ASSERT_NEAR(GeluTanh(x), 0.5 * d * (1 + std::tanh(half_pi_root * (d + 0.044715 * d * d * d))),
                bound)
        << x;
  }
}

TEST(ActivationTest, KeepsTheNegativeTailOfGeluInRelativeTerms) {
  for (float x = -1; x > -12; x -= 0.001f) {
    const double exact = 0.5 * x * std::erfc(-static_cast<double>(x) / std::sqrt(2.0));
    ASSERT_NEAR(GeluErf(x) / exact, 1, 2e-5) << x;
  }
}

TEST(ActivationTest, HasDefinedEnds) {
  for (const auto function : {Silu, GeluErf, GeluTanh}) {
    EXPECT_EQ(function(0), 0);
    EXPECT_EQ(function(kInfinity), kInfinity);
    EXPECT_EQ(function(3e38f), 3e38f);
    EXPECT_EQ(function(-3e38f), 0);
    EXPECT_TRUE(std::isnan(function(kNan)));
  }
}

TEST(SinCosTest, IsWithinOneUnitInTheLastPlace) {
  RandomData random;
  for (int i = 0; i < 500'000; ++i) {
    const float angle =
        static_cast<float>(random.Int(0, 1 << 20)) * std::exp(-std::fabs(random.Float(5)));
    const SineCosine value = SinCos(angle);
    ASSERT_NEAR(value.sine, std::sin(static_cast<double>(angle)), 6.1e-8) << angle;
    ASSERT_NEAR(value.cosine, std::cos(static_cast<double>(angle)), 6.1e-8) << angle;
  }
  EXPECT_NEAR(SinCos(2.1e9f).sine, std::sin(2.1e9), 6.1e-8);
  EXPECT_TRUE(std::isnan(SinCos(kInfinity).sine));
}

TEST(Float16Test, WidensEveryValue) {
  for (int bits = 0; bits < 0x10000; ++bits) {
    const int exponent = (bits >> 10) & 31;
    const int fraction = bits & 1023;
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    const float value = Float16ToFloat(static_cast<uint16_t>(bits));
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(value), fraction != 0);
      EXPECT_EQ(std::isinf(value), fraction == 0);
    } else {
      const double expected =
          exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
      EXPECT_EQ(value, sign * expected);
      EXPECT_EQ(FloatToFloat16(value), bits) << "back again";
    }
  }
}

// The nearest of the narrow type's values, ties to the even one, found by
// comparing the two neighbours in double.
template <typename Narrow, typename Widen>
void ExpectNearest(float x, double largest, const Narrow& narrow, const Widen& widen) {
  const uint16_t bits = narrow(x);
  if (std::fabs(static_cast<double>(x)) >= largest) {
    ASSERT_EQ(std::fabs(widen(bits)), kInfinity) << x;
    return;
  }
  const double error = std::fabs(static_cast<double>(widen(bits)) - x);
  for (const int step : {-1, 1}) {
    if ((bits & 0x7FFF) == 0 && step < 0) continue;
    const float neighbour = widen(static_cast<uint16_t>(bits + step));
    const double other = std::fabs(static_cast<double>(neighbour) - x);
    ASSERT_LE(error, other) << x;
    if (error == other) {
      ASSERT_EQ(bits & 1, 0) << x;
    }
  }
}

TEST(Float16Test, NarrowsToTheNearest) {
  RandomData random;
  for (int i = 0; i < 300'000; ++i) {
    // All exponents; and values that sit on a tie.
    const float any = random.AnyFinite();
    const float small = random.Float(1) * std::exp2(static_cast<float>(random.Int(-26, 15)));
    const float tie = (Float16ToFloat(static_cast<uint16_t>(random.Int(0, 0x7BFE))) +
                       Float16ToFloat(static_cast<uint16_t>(random.Int(0, 0x7BFE)))) /
                      2;
    for (const float x : {any, small, tie}) {
      ExpectNearest(x, 65520, FloatToFloat16, Float16ToFloat);
      ExpectNearest(x, 0x1.FFp127, FloatToBFloat16, BFloat16ToFloat);
    }
  }
  EXPECT_TRUE(std::isnan(Float16ToFloat(FloatToFloat16(kNan))));
  EXPECT_TRUE(std::isnan(BFloat16ToFloat(FloatToBFloat16(kNan))));
  EXPECT_EQ(FloatToFloat16(-kInfinity), 0xFC00);
  EXPECT_EQ(FloatToBFloat16(-kInfinity), 0xFF80);
}

}  // namespace
}  // namespace octogate::kernels

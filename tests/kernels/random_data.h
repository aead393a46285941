// Random inputs for the kernel tests, with a new seed on each run. The seed is
// printed with every failure; OCTOGATE_TEST_SEED repeats a run.

#ifndef OCTOGATE_TESTS_KERNELS_RANDOM_DATA_H_
#define OCTOGATE_TESTS_KERNELS_RANDOM_DATA_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/backend.h"
#include "kernels/float16.h"

namespace octogate::kernels::testing {

inline uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* fixed = std::getenv("OCTOGATE_TEST_SEED");
    return fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : std::random_device{}();
  }();
  return seed;
}

class RandomData {
 public:
  explicit RandomData(uint64_t stream = 0) : generator_(Seed() * 1000003 + stream) {}

  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator_); }

  float Float(float scale = 1) { return std::normal_distribution<float>(0, scale)(generator_); }

  std::vector<float> Floats(size_t count, float scale = 1) {
    std::vector<float> values(count);
    for (float& value : values) value = Float(scale);
    return values;
  }

  // Any bit pattern that is a finite number, subnormals and zeros included.
  float AnyFinite() {
    for (;;) {
      const auto bits = static_cast<uint32_t>(generator_());
      float value;
      std::memcpy(&value, &bits, sizeof(value));
      if (std::isfinite(value)) return value;
    }
  }

 private:
  std::mt19937_64 generator_;
};

// Bytes of a matrix in storage type `dtype`, starting at an odd address.
class StoredMatrix {
 public:
  StoredMatrix(const std::vector<float>& values, DType dtype, int rows, int cols)
      : bytes_(values.size() * SizeOf(dtype) + 1), dtype_(dtype), rows_(rows), cols_(cols) {
    for (size_t i = 0; i < values.size(); ++i) {
      uint8_t* to = bytes_.data() + 1 + i * SizeOf(dtype);
      if (dtype == DType::kF32) {
        std::memcpy(to, &values[i], 4);
      } else {
        const uint16_t narrow =
            dtype == DType::kF16 ? FloatToFloat16(values[i]) : FloatToBFloat16(values[i]);
        std::memcpy(to, &narrow, 2);
      }
    }
  }

  HostMatrix matrix() const { return {bytes_.data() + 1, dtype_, rows_, cols_}; }

  // The stored values, widened.
  std::vector<float> Widened() const {
    std::vector<float> values((bytes_.size() - 1) / SizeOf(dtype_));
    for (size_t i = 0; i < values.size(); ++i) {
      const uint8_t* from = bytes_.data() + 1 + i * SizeOf(dtype_);
      uint16_t narrow;
      if (dtype_ == DType::kF32) {
        std::memcpy(&values[i], from, 4);
        continue;
      }
      std::memcpy(&narrow, from, 2);
      values[i] = dtype_ == DType::kF16 ? Float16ToFloat(narrow) : BFloat16ToFloat(narrow);
    }
    return values;
  }

 private:
  std::vector<uint8_t> bytes_;
  DType dtype_;
  int rows_;
  int cols_;
};

// Equal bits, or NaN on both sides: signs and payloads of NaNs are not promised.
inline ::testing::AssertionResult SameBits(const std::vector<float>& expected,
                                           const std::vector<float>& actual) {
  if (expected.size() != actual.size()) return ::testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isnan(expected[i]) && std::isnan(actual[i])) continue;
    if (std::memcmp(&expected[i], &actual[i], sizeof(float)) != 0) {
      return ::testing::AssertionFailure() << "at " << i << ": expected " << expected[i] << ", got "
                                           << actual[i] << " (seed " << Seed() << ")";
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace octogate::kernels::testing

#endif  // OCTOGATE_TESTS_KERNELS_RANDOM_DATA_H_

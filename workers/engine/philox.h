// Philox4x32-10, a counter-based random number generator: the n-th number of a key is a pure
// function of both. Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011.
#ifndef OCTOGATE_WORKERS_ENGINE_PHILOX_H_
#define OCTOGATE_WORKERS_ENGINE_PHILOX_H_

#include <array>
#include <cstdint>

namespace octogate::workers {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

constexpr PhiloxCounter Philox4x32(PhiloxCounter counter, PhiloxKey key) {
  constexpr uint64_t kMultiplier0 = 0xD2511F53;
  constexpr uint64_t kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9;
  constexpr uint32_t kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = kMultiplier0 * counter[0];
    const uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// The `index`-th number of `seed`'s sequence, uniform over the 2^53 multiples of 2^-53 in [0, 1).
constexpr double UniformDouble(uint64_t seed, uint64_t index) {
  const PhiloxCounter bits =
      Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t mantissa = ((uint64_t{bits[1]} << 32) | bits[0]) >> 11;
  return static_cast<double>(mantissa) * 0x1p-53;
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PHILOX_H_

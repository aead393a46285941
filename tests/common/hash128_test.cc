// Bytes are hashed alike as a whole, in pieces, and one block after another.
#include "common/hash128.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <random>
#include <span>
#include <vector>

namespace octogate {
namespace {

// MurmurHash3_x64_128 as its author wrote it, with a switch over the bytes of the tail.
Hash128 Plain(std::span<const std::byte> bytes, uint32_t seed) {
  constexpr uint64_t kC1 = 0x87c37b91114253d5;
  constexpr uint64_t kC2 = 0x4cf5ad432745937f;
  uint64_t h1 = seed, h2 = seed;
  size_t at = 0;
  for (; at + 16 <= bytes.size(); at += 16) {
    uint64_t k1, k2;
    std::memcpy(&k1, bytes.data() + at, 8);
    std::memcpy(&k2, bytes.data() + at + 8, 8);
    h1 ^= std::rotl(k1 * kC1, 31) * kC2;
    h1 = (std::rotl(h1, 27) + h2) * 5 + 0x52dce729;
    h2 ^= std::rotl(k2 * kC2, 33) * kC1;
    h2 = (std::rotl(h2, 31) + h1) * 5 + 0x38495ab5;
  }
  uint64_t k1 = 0, k2 = 0;
  for (size_t i = bytes.size(); i-- > at;) {
    const uint64_t byte = std::to_integer<uint64_t>(bytes[i]);
    (i - at < 8 ? k1 : k2) ^= byte << (8 * ((i - at) % 8));
  }
  h2 ^= std::rotl(k2 * kC2, 33) * kC1;
  h1 ^= std::rotl(k1 * kC1, 31) * kC2;
  h1 ^= bytes.size();
  h2 ^= bytes.size();
  const auto mixed = [](uint64_t k) {
    k = (k ^ (k >> 33)) * 0xff51afd7ed558ccd;
    k = (k ^ (k >> 33)) * 0xc4ceb9fe1a85ec53;
    return k ^ (k >> 33);
  };
  h1 += h2;
  h2 += h1;
  h1 = mixed(h1);
  h2 = mixed(h2);
  h1 += h2;
  h2 += h1;
  return {h1, h2};
}

TEST(Hash128, IsTheSameInPieces) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (size_t size = 0; size < 6000; size += 1 + random() % 5) {
    std::vector<std::byte> bytes(size + 7);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    // Wherever in memory they begin.
    const auto all = std::span<const std::byte>(bytes).subspan(random() % 8, size);
    const auto hash_seed = static_cast<uint32_t>(random());
    const Hash128 plain = Plain(all, hash_seed);
    ASSERT_EQ(HashBytes(all, hash_seed), plain) << size;
    Hasher128 hasher(hash_seed);
    for (size_t at = 0; at < size;) {
      const size_t piece = std::min(Hasher128::kBlock * (random() % 100), size - at);
      hasher.Add(all.subspan(at, piece));
      at += piece;
    }
    ASSERT_EQ(hasher.Finish(), plain) << size;
  }
}

}  // namespace
}  // namespace octogate

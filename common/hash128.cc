#include "common/hash128.h"

#include <bit>
#include <cstring>

namespace octogate {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kC1 = 0x87c37b91114253d5;
constexpr uint64_t kC2 = 0x4cf5ad432745937f;
constexpr size_t kBlock = 16;

uint64_t Load(const std::byte* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

uint64_t Mix1(uint64_t k) { return std::rotl(k * kC1, 31) * kC2; }
uint64_t Mix2(uint64_t k) { return std::rotl(k * kC2, 33) * kC1; }

uint64_t Finish(uint64_t k) {
  k ^= k >> 33;
  k *= 0xff51afd7ed558ccd;
  k ^= k >> 33;
  k *= 0xc4ceb9fe1a85ec53;
  k ^= k >> 33;
  return k;
}

}  // namespace

Hash128 HashBytes(std::span<const std::byte> bytes, uint32_t seed) {
  uint64_t h1 = seed;
  uint64_t h2 = seed;
  const size_t whole = bytes.size() / kBlock * kBlock;
  for (size_t i = 0; i < whole; i += kBlock) {
    h1 ^= Mix1(Load(bytes.data() + i));
    h1 = (std::rotl(h1, 27) + h2) * 5 + 0x52dce729;
    h2 ^= Mix2(Load(bytes.data() + i + 8));
    h2 = (std::rotl(h2, 31) + h1) * 5 + 0x38495ab5;
  }
  // The rest, zero-padded: absent bytes then contribute Mix(0) == 0.
  std::byte tail[kBlock] = {};
  if (whole < bytes.size()) std::memcpy(tail, bytes.data() + whole, bytes.size() - whole);
  h2 ^= Mix2(Load(tail + 8));
  h1 ^= Mix1(Load(tail));

  h1 ^= bytes.size();
  h2 ^= bytes.size();
  h1 += h2;
  h2 += h1;
  h1 = Finish(h1);
  h2 = Finish(h2);
  h1 += h2;
  h2 += h1;
  return {h1, h2};
}

}  // namespace octogate

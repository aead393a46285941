#include "common/hash128.h"

#include <bit>
#include <cstring>
#include <iterator>

namespace octogate {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint64_t kC1 = 0x87c37b91114253d5;
constexpr uint64_t kC2 = 0x4cf5ad432745937f;

uint64_t Load(const std::byte* at) {
  uint64_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

uint64_t Mix1(uint64_t k) { return std::rotl(k * kC1, 31) * kC2; }
uint64_t Mix2(uint64_t k) { return std::rotl(k * kC2, 33) * kC1; }

// Takes a block that is mixed.
void Chain(uint64_t k1, uint64_t k2, uint64_t& h1, uint64_t& h2) {
  h1 ^= k1;
  h1 = (std::rotl(h1, 27) + h2) * 5 + 0x52dce729;
  h2 ^= k2;
  h2 = (std::rotl(h2, 31) + h1) * 5 + 0x38495ab5;
}

// Bytes of blocks that are mixed together where the machine has AVX-512, eight words at once: what
// is left to be done one block after another is half the work.
constexpr size_t kMixed = 512;

#ifdef __x86_64__
bool MixesWidely() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
}

__attribute__((target("avx512f,avx512dq"))) void MixWidely(const std::byte* bytes, uint64_t* out) {
  using Words = uint64_t __attribute__((vector_size(64)));
  const Words first = {kC1, kC2, kC1, kC2, kC1, kC2, kC1, kC2};
  const Words second = {kC2, kC1, kC2, kC1, kC2, kC1, kC2, kC1};
  const Words left = {31, 33, 31, 33, 31, 33, 31, 33};
  for (size_t i = 0; i < kMixed; i += sizeof(Words)) {
    Words words;
    std::memcpy(&words, bytes + i, sizeof words);
    words *= first;
    words = ((words << left) | (words >> (64 - left))) * second;
    std::memcpy(out + i / sizeof(uint64_t), &words, sizeof words);
  }
}
#else
bool MixesWidely() { return false; }
void MixWidely(const std::byte*, uint64_t*) {}
#endif

uint64_t Avalanche(uint64_t k) {
  k ^= k >> 33;
  k *= 0xff51afd7ed558ccd;
  k ^= k >> 33;
  k *= 0xc4ceb9fe1a85ec53;
  k ^= k >> 33;
  return k;
}

}  // namespace

Hash128 HashBytes(std::span<const std::byte> bytes, uint32_t seed) {
  Hasher128 hasher(seed);
  hasher.Add(bytes);
  return hasher.Finish();
}

void Hasher128::Add(std::span<const std::byte> bytes) {
  uint64_t h1 = h1_;
  uint64_t h2 = h2_;
  size_t done = 0;
  const size_t whole = bytes.size() / kBlock * kBlock;
  const size_t wide = whole >= kMixed && MixesWidely() ? whole / kMixed * kMixed : 0;
  for (; done < wide; done += kMixed) {
    uint64_t mixed[kMixed / sizeof(uint64_t)];
    MixWidely(bytes.data() + done, mixed);
    for (size_t i = 0; i < std::size(mixed); i += 2) Chain(mixed[i], mixed[i + 1], h1, h2);
  }
  for (; done < whole; done += kBlock) {
    const std::byte* block = bytes.data() + done;
    Chain(Mix1(Load(block)), Mix2(Load(block + 8)), h1, h2);
  }
  if (whole < bytes.size()) {
    // The rest, zero-padded: absent bytes then contribute Mix(0) == 0.
    std::byte tail[kBlock] = {};
    std::memcpy(tail, bytes.data() + whole, bytes.size() - whole);
    h2 ^= Mix2(Load(tail + 8));
    h1 ^= Mix1(Load(tail));
  }
  h1_ = h1;
  h2_ = h2;
  size_ += bytes.size();
}

Hash128 Hasher128::Finish() {
  uint64_t h1 = h1_ ^ size_;
  uint64_t h2 = h2_ ^ size_;
  h1 += h2;
  h2 += h1;
  h1 = Avalanche(h1);
  h2 = Avalanche(h2);
  h1 += h2;
  h2 += h1;
  return {h1, h2};
}

}  // namespace octogate

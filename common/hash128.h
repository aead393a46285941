// A fast 128-bit hash of bytes, the same on every machine.
#ifndef OCTOGATE_COMMON_HASH128_H_
#define OCTOGATE_COMMON_HASH128_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace octogate {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;

  bool operator==(const Hash128&) const = default;
};

// MurmurHash3_x64_128 (Austin Appleby, public domain) with a 32-bit seed;
// `high` is its first output word. Blocks are read as little-endian. Not
// cryptographic: collisions can be made on purpose.
Hash128 HashBytes(std::span<const std::byte> bytes, uint32_t seed);

// The same of bytes that come in pieces.
class Hasher128 {
 public:
  static constexpr size_t kBlock = 16;

  explicit Hasher128(uint32_t seed) : h1_(seed), h2_(seed) {}
  // The next bytes: all pieces but the last are whole blocks.
  void Add(std::span<const std::byte> bytes);
  // Of all that was added, once.
  Hash128 Finish();

 private:
  uint64_t h1_;
  uint64_t h2_;
  uint64_t size_ = 0;
};

}  // namespace octogate

#endif  // OCTOGATE_COMMON_HASH128_H_

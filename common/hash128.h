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

}  // namespace octogate

#endif  // OCTOGATE_COMMON_HASH128_H_

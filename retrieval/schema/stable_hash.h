// FNV-1a of 64 bits: the same in every process and build, unlike absl::Hash. Anyone can make two
// texts with the same hash, so equal hashes mean "compare", never "equal".
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_STABLE_HASH_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_STABLE_HASH_H_

#include <cstdint>
#include <string_view>

namespace octogate::schema {

class StableHash {
 public:
  // A text and its length, so that neighbouring texts do not run into each other.
  StableHash& Add(std::string_view text) {
    for (const char c : text) AddByte(static_cast<uint8_t>(c));
    return Add(static_cast<uint64_t>(text.size()));
  }
  StableHash& Add(uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) AddByte(static_cast<uint8_t>(value >> shift));
    return *this;
  }
  uint64_t value() const { return value_; }

 private:
  void AddByte(uint8_t byte) { value_ = (value_ ^ byte) * 0x100000001b3; }

  uint64_t value_ = 0xcbf29ce484222325;
};

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_STABLE_HASH_H_

// Numbers in formats of bytes, the same on every machine.
#ifndef OCTOGATE_COMMON_LITTLE_ENDIAN_BYTES_H_
#define OCTOGATE_COMMON_LITTLE_ENDIAN_BYTES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace octogate {

// T is an unsigned type.
template <typename T>
void AppendLittleEndian(T value, std::string& bytes) {
  std::array<char, sizeof(T)> written;
  for (size_t i = 0; i < sizeof(T); ++i) {
    written[i] = static_cast<char>(static_cast<uint8_t>(value >> (8 * i)));
  }
  bytes.append(written.data(), written.size());
}

// Takes it from the begin. There are as many bytes as it has.
template <typename T>
T TakeLittleEndian(std::string_view& bytes) {
  T value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<T>(static_cast<uint8_t>(bytes[i])) << (8 * i));
  }
  bytes.remove_prefix(sizeof(T));
  return value;
}

}  // namespace octogate

#endif  // OCTOGATE_COMMON_LITTLE_ENDIAN_BYTES_H_

#include "common/digest.h"

#include <openssl/sha.h>

#include <array>

namespace octogate {

std::string Sha256Hex(std::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  std::string text;
  for (const unsigned char byte : digest) text.append({kHex[byte >> 4], kHex[byte & 15]});
  return text;
}

}  // namespace octogate

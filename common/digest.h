#ifndef OCTOGATE_COMMON_DIGEST_H_
#define OCTOGATE_COMMON_DIGEST_H_

#include <string>
#include <string_view>

namespace octogate {

// SHA-256 of `bytes` in lower-case hexadecimal: 64 characters.
std::string Sha256Hex(std::string_view bytes);

// The 32 bytes of the SHA-256 of `bytes`, and of its HMAC (RFC 2104) with a key of any length.
std::string Sha256(std::string_view bytes);
std::string HmacSha256(std::string_view key, std::string_view bytes);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_DIGEST_H_

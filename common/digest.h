#ifndef OCTOGATE_COMMON_DIGEST_H_
#define OCTOGATE_COMMON_DIGEST_H_

#include <string>
#include <string_view>

namespace octogate {

// SHA-256 of `bytes` in lower-case hexadecimal: 64 characters.
std::string Sha256Hex(std::string_view bytes);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_DIGEST_H_

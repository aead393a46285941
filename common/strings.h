#ifndef OCTOGATE_COMMON_STRINGS_H_
#define OCTOGATE_COMMON_STRINGS_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/strings/string_view.h"

namespace octogate {

// absl::string_view is a type of its own where Abseil is built for C++14, as Debian's is.
inline absl::string_view ToAbsl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view ToStd(absl::string_view text) { return {text.data(), text.size()}; }

// `text` between single quotes, fit for a message: control characters, quotes and invalid UTF-8
// are escaped, and what is longer than `max_bytes` is cut and ends with "…".
std::string Quoted(std::string_view text, size_t max_bytes = 80);

// Offset of the first byte that is not part of valid UTF-8 (RFC 3629: no surrogates, no overlong
// forms, at most U+10FFFF), or npos.
size_t FindInvalidUtf8(std::string_view text);

// Least number of bytes inserted, removed, replaced or swapped with their neighbour that turn `a`
// into `b` (optimal string alignment), or `limit` + 1 where it is larger than `limit`.
size_t EditDistance(std::string_view a, std::string_view b, size_t limit);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_STRINGS_H_

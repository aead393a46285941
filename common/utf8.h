// UTF-8 text from peers: whether it is valid, cutting and mending it.
#ifndef OCTOGATE_COMMON_UTF8_H_
#define OCTOGATE_COMMON_UTF8_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace octogate {

// Bytes of the valid character that starts at text[i], i < text.size(); 0 if none does.
size_t Utf8CharacterLength(std::string_view text, size_t i);

// Overlong forms, surrogates and code points past U+10FFFF are not valid.
bool IsValidUtf8(std::string_view text);

// The longest prefix of valid UTF-8 text that has at most `max_bytes` and cuts no character.
std::string_view TruncateUtf8(std::string_view text, size_t max_bytes);

// At most `max_bytes` of text from a peer, fit for a string field: each byte that is not part of a
// valid character becomes "?".
std::string SanitizeUtf8(std::string_view text, size_t max_bytes);

}  // namespace octogate

#endif  // OCTOGATE_COMMON_UTF8_H_

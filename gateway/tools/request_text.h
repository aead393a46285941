#ifndef OCTOGATE_GATEWAY_TOOLS_REQUEST_TEXT_H_
#define OCTOGATE_GATEWAY_TOOLS_REQUEST_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/types/span.h"

// What tools do with the words around a request: "What is 2 + 2?" asks for "2 + 2". This is a
// fixed list of phrases, not language understanding.

namespace octogate::gateway {

// INVALID_ARGUMENT unless `text` is UTF-8 of at most `max_bytes`.
absl::Status CheckRequestText(std::string_view text, size_t max_bytes);

// The part of `text` that is left when spaces, any of `prefixes` (whole words, in any case,
// repeatedly) and any of `suffixes` (likewise; a suffix that starts with a letter is a whole word)
// are taken off. Points into `text`. The phrases are in lower case; ’ in `text` matches '.
std::string_view StripPhrases(std::string_view text, absl::Span<const std::string_view> prefixes,
                              absl::Span<const std::string_view> suffixes);

// How many bytes at the front of `text` spell `phrase` (lower case) in any case and as whole words,
// where one space of the phrase is any run of spaces; 0 when they do not.
size_t MatchPhrase(std::string_view text, std::string_view phrase);

// The 1-based column, in code points, of byte `offset` of `text`.
int ColumnOf(std::string_view text, size_t offset);

// "column N: message", with the code of `status`.
absl::Status AtColumn(int column, const absl::Status& status);
absl::Status InvalidAt(int column, std::string_view message);

// `text` in double quotes, escaped, and cut after 40 bytes.
std::string Quoted(std::string_view text);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TOOLS_REQUEST_TEXT_H_

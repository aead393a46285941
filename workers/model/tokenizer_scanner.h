// Hand-written matchers for the split patterns that nearly every byte-level vocabulary uses. They
// match exactly what the pattern matches, one table look-up a character and without backtracking.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_SCANNER_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_SCANNER_H_

#include <string_view>

namespace octogate::workers {

// GPT-2, and ByteLevel with use_regex.
inline constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Llama 3 (tiktoken's cl100k with a general-purpose (?i:)).
inline constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// Qwen 2, 2.5 and 3.
inline constexpr std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Returns the end of the match that starts at `p`, in well-formed UTF-8 that ends at `end`
// (p < end). These patterns match at every position and never the empty string.
using Scanner = const char* (*)(const char* p, const char* end);

// The scanner for `pattern`, or null if there is none.
Scanner FindScanner(std::string_view pattern);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_SCANNER_H_

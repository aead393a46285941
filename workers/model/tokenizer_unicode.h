// UTF-8 and the Unicode properties that tokenizers ask for.
//
// Properties are those of Unicode 16.0, as in the reference library's regular expressions: ICU's
// tables plus the ranges assigned since.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_UNICODE_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_UNICODE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace octogate::workers {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Reads the code point at `p`, which must point into well-formed UTF-8, and moves past it.
inline char32_t NextCodePoint(const char*& p) {
  const auto byte = [&p](int i) { return static_cast<char32_t>(static_cast<uint8_t>(p[i])); };
  const char32_t first = byte(0);
  if (first < 0x80) {
    p += 1;
    return first;
  }
  if (first < 0xE0) {
    const char32_t code = (first & 0x1F) << 6 | (byte(1) & 0x3F);
    p += 2;
    return code;
  }
  if (first < 0xF0) {
    const char32_t code = (first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    p += 3;
    return code;
  }
  const char32_t code =
      (first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  p += 4;
  return code;
}

// Bytes of the character that starts with `first`, in well-formed UTF-8.
inline size_t Utf8Length(char first) {
  const auto byte = static_cast<uint8_t>(first);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Where the last character of the non-empty well-formed `text` starts.
size_t LastCharacterStart(std::string_view text);

void AppendUtf8(char32_t code, std::string* out);

bool IsValidUtf8(std::string_view bytes);

// Appends `bytes` to `out` with every maximal ill-formed subpart (Unicode 15.0, section 3.9, table
// 3-8) replaced by one U+FFFD: what Python's errors="replace" gives. Unless `final`, a proper
// prefix of a character at the end is left for the next call. Returns the bytes consumed.
size_t AppendUtf8Lossy(std::string_view bytes, bool final, std::string* out);

// \p{L}, \p{N} and \s of every code point, one table look-up each.
class CharClasses {
 public:
  static constexpr uint8_t kLetter = 1;
  static constexpr uint8_t kNumber = 2;
  static constexpr uint8_t kSpace = 4;

  // Built at the first call; constant from then on.
  static const CharClasses& Get();
  // Zero, or one of the bits above.
  uint8_t Of(char32_t code) const { return table_[code]; }

 private:
  CharClasses();
  std::vector<uint8_t> table_;
};

// White_Space.
bool IsWhitespace(char32_t code);
// General category N.
bool IsNumeric(char32_t code);
// Assigned in Unicode 8.0, whose categories the reference library's Punctuation, BertPreTokenizer
// and BertNormalizer go by.
bool IsInUnicode8(char32_t code);
// ASCII punctuation and symbols, or general category P in Unicode 8.0.
bool IsPunctuation(char32_t code);
// \w of UTS #18: Alphabetic, M, Nd, Pc, Join_Control.
bool IsWordCharacter(char32_t code);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_UNICODE_H_

#include "workers/model/tokenizer_unicode.h"

#include <unicode/uchar.h>

#include <array>

namespace octogate::workers {
namespace {

struct Range {
  char32_t first;
  char32_t last;
};

// Letters and numbers of Unicode 15.1 and 16.0, which ICU 72 does not know yet. Harmless beside a
// newer ICU.
constexpr std::array kNewLetters = {
    Range{0x1C89, 0x1C8A},   Range{0xA7CB, 0xA7CD},   Range{0xA7DA, 0xA7DC},
    Range{0x105C0, 0x105F3}, Range{0x10D4A, 0x10D65}, Range{0x10D6F, 0x10D85},
    Range{0x10EC2, 0x10EC4}, Range{0x11380, 0x11389}, Range{0x1138B, 0x1138B},
    Range{0x1138E, 0x1138E}, Range{0x11390, 0x113B5}, Range{0x113B7, 0x113B7},
    Range{0x113D1, 0x113D1}, Range{0x113D3, 0x113D3}, Range{0x11BC0, 0x11BE0},
    Range{0x13460, 0x143FA}, Range{0x16100, 0x1611D}, Range{0x16D40, 0x16D6C},
    Range{0x18CFF, 0x18CFF}, Range{0x1E5D0, 0x1E5ED}, Range{0x1E5F0, 0x1E5F0},
    Range{0x2EBF0, 0x2EE5D},
};
constexpr std::array kNewNumbers = {
    Range{0x10D40, 0x10D49}, Range{0x116D0, 0x116E3}, Range{0x11BF0, 0x11BF9},
    Range{0x16130, 0x16139}, Range{0x16D70, 0x16D79}, Range{0x1CCF0, 0x1CCF9},
    Range{0x1E5F1, 0x1E5FA},
};

// Bytes of the character at the start of `bytes` if it is well-formed; 0 if it is ill-formed, with
// the length of the maximal subpart in `*subpart`, and whether more bytes could complete it in
// `*prefix`.
size_t CheckCharacter(std::string_view bytes, size_t* subpart, bool* prefix) {
  const auto at = [&bytes](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  *subpart = 1;
  *prefix = false;
  const uint8_t first = at(0);
  if (first < 0x80) {
    return 1;
  }
  if (first < 0xC2 || first > 0xF4) {
    return 0;
  }
  const size_t length = Utf8Length(bytes[0]);
  // The second byte's range depends on the first (no overlong forms, surrogates, > U+10FFFF).
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (first == 0xE0) {
    low = 0xA0;
  } else if (first == 0xED) {
    high = 0x9F;
  } else if (first == 0xF0) {
    low = 0x90;
  } else if (first == 0xF4) {
    high = 0x8F;
  }
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) {
      *prefix = true;
      return 0;
    }
    if (at(i) < low || at(i) > high) {
      return 0;
    }
    *subpart = i + 1;
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

}  // namespace

size_t LastCharacterStart(std::string_view text) {
  size_t i = text.size() - 1;
  while (i > 0 && (static_cast<uint8_t>(text[i]) & 0xC0) == 0x80) {
    --i;
  }
  return i;
}

void AppendUtf8(char32_t code, std::string* out) {
  if (code < 0x80) {
    out->push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out->push_back(static_cast<char>(0xC0 | code >> 6));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else if (code < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | code >> 12));
    out->push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  } else {
    out->push_back(static_cast<char>(0xF0 | code >> 18));
    out->push_back(static_cast<char>(0x80 | (code >> 12 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code >> 6 & 0x3F)));
    out->push_back(static_cast<char>(0x80 | (code & 0x3F)));
  }
}

bool IsValidUtf8(std::string_view bytes) {
  size_t subpart;
  bool prefix;
  while (!bytes.empty()) {
    const size_t length = CheckCharacter(bytes, &subpart, &prefix);
    if (length == 0) {
      return false;
    }
    bytes.remove_prefix(length);
  }
  return true;
}

size_t AppendUtf8Lossy(std::string_view bytes, bool final, std::string* out) {
  size_t done = 0;  // Bytes of the input dealt with.
  size_t good = 0;  // Start of the well-formed stretch that ends at `done`.
  while (done < bytes.size()) {
    size_t subpart;
    bool prefix;
    const size_t length = CheckCharacter(bytes.substr(done), &subpart, &prefix);
    if (length > 0) {
      done += length;
      continue;
    }
    out->append(bytes.substr(good, done - good));
    if (prefix && !final) {
      return done;
    }
    out->append(kReplacementCharacter);
    done += subpart;
    good = done;
  }
  out->append(bytes.substr(good, done - good));
  return done;
}

CharClasses::CharClasses() : table_(0x110000, 0) {
  for (size_t code = 0; code < table_.size(); ++code) {
    const uint32_t mask = U_GET_GC_MASK(static_cast<UChar32>(code));
    table_[code] = (mask & U_GC_L_MASK) != 0 ? kLetter : (mask & U_GC_N_MASK) != 0 ? kNumber : 0;
  }
  for (const Range& range : kNewLetters) {
    for (char32_t code = range.first; code <= range.last; ++code) {
      table_[code] = kLetter;
    }
  }
  for (const Range& range : kNewNumbers) {
    for (char32_t code = range.first; code <= range.last; ++code) {
      table_[code] = kNumber;
    }
  }
  // Every White_Space character lies below U+3100; none is a letter or a number.
  for (char32_t code = 0; code < 0x3100; ++code) {
    if (u_isUWhiteSpace(static_cast<UChar32>(code)) != 0) {
      table_[code] = kSpace;
    }
  }
}

const CharClasses& CharClasses::Get() {
  static const CharClasses* const classes = new CharClasses();
  return *classes;
}

bool IsWhitespace(char32_t code) { return u_isUWhiteSpace(static_cast<UChar32>(code)) != 0; }

bool IsNumeric(char32_t code) {
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & U_GC_N_MASK) != 0;
}

bool IsInUnicode8(char32_t code) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(code), age);
  return age[0] <= 8;
}

bool IsPunctuation(char32_t code) {
  if (code < 0x80) {
    return (code >= '!' && code <= '/') || (code >= ':' && code <= '@') ||
           (code >= '[' && code <= '`') || (code >= '{' && code <= '~');
  }
  // Two whose category has changed since.
  if (code == 0x166D || code == 0x111C9) return true;
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & U_GC_P_MASK) != 0 && IsInUnicode8(code);
}

bool IsWordCharacter(char32_t code) {
  const auto c = static_cast<UChar32>(code);
  return (U_GET_GC_MASK(c) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
         u_hasBinaryProperty(c, UCHAR_ALPHABETIC) != 0 ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL) != 0;
}

}  // namespace octogate::workers

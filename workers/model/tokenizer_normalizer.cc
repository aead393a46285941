#include "workers/model/tokenizer_normalizer.h"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

using normalizer::Form;
using Deadline = std::chrono::steady_clock::time_point;

constexpr size_t kMaxSteps = 64;

// Byte <-> character of byte-level vocabularies. Printable Latin-1 stands for itself; the 68
// others take the characters from U+0100 on, in order.
struct ByteLevelTables {
  std::array<std::string, 256> spelled;
  std::array<int16_t, 0x144> byte_of;

  ByteLevelTables() {
    byte_of.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const char32_t code = printable ? static_cast<char32_t>(byte) : next++;
      AppendUtf8(code, &spelled[byte]);
      byte_of[code] = static_cast<int16_t>(byte);
    }
  }
};

const ByteLevelTables& ByteLevelCharacters() {
  static const ByteLevelTables* const tables = new ByteLevelTables();
  return *tables;
}

// The four forms by Unicode 9.0, as the reference library has them: by its stability policy, that
// is today's data with later characters left alone.
class UnicodeForms {
 public:
  UnicodeForms() : filter_(icu::UnicodeString("[:Age=9.0:]"), error_) {
    filter_.freeze();
    const auto add = [this](const icu::Normalizer2* form) {
      if (U_SUCCESS(error_)) {
        forms_.emplace_back(*form, filter_);
      }
    };
    add(icu::Normalizer2::getNFCInstance(error_));
    add(icu::Normalizer2::getNFDInstance(error_));
    add(icu::Normalizer2::getNFKCInstance(error_));
    add(icu::Normalizer2::getNFKDInstance(error_));
  }

  // Null if ICU's data is missing.
  const icu::Normalizer2* Get(Form form) const {
    return U_SUCCESS(error_) ? &forms_[static_cast<size_t>(form)] : nullptr;
  }

 private:
  UErrorCode error_ = U_ZERO_ERROR;
  icu::UnicodeSet filter_;
  std::deque<icu::FilteredNormalizer2> forms_;  // In the order of Form.
};

const icu::Normalizer2* IcuNormalizer(Form form) {
  static const UnicodeForms* const forms = new UnicodeForms();
  return forms->Get(form);
}

// Whether no character of `text` can change: nothing below U+0300 does in NFC, no ASCII elsewhere.
bool IsNormalized(std::string_view text, Form form) {
  const uint8_t limit = form == Form::kNfc ? 0xCC : 0x80;
  return std::all_of(text.begin(), text.end(),
                     [limit](char c) { return static_cast<uint8_t>(c) < limit; });
}

template <typename Keep>
void FilterCharacters(std::string* text, Keep keep) {
  size_t written = 0;
  const char* const end = text->data() + text->size();
  for (const char* p = text->data(); p < end;) {
    const char* const start = p;
    if (keep(NextCodePoint(p))) {
      const auto length = static_cast<size_t>(p - start);
      std::char_traits<char>::move(text->data() + written, start, length);
      written += length;
    }
  }
  text->resize(written);
}

uint32_t CategoryMask(char32_t code) { return U_GET_GC_MASK(static_cast<UChar32>(code)); }

// As the reference library's BertNormalizer sees them.
bool IsBertControl(char32_t code) {
  if (code < 0x80)
    return (code < ' ' && code != '\t' && code != '\n' && code != '\r') || code == 0x7F;
  if (code == 0xFFFD) return true;
  return (CategoryMask(code) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK)) != 0 &&
         IsInUnicode8(code);
}

bool IsBertNonspacingMark(char32_t code) {
  if (code < 0x300) return false;
  // Characters whose category has changed since.
  if (code == 0x1734) return true;
  if (code == 0x1885 || code == 0x1886 || code == 0xA9BD || code == 0x111C9) return false;
  return (CategoryMask(code) & U_GC_MN_MASK) != 0 && IsInUnicode8(code);
}

// The ranges are the reference library's, the gap at U+2B820 included.
bool IsBertChinese(char32_t code) {
  return (code >= 0x4E00 && code <= 0x9FFF) || (code >= 0x3400 && code <= 0x4DBF) ||
         (code >= 0xF900 && code <= 0xFAFF) || (code >= 0x20000 && code <= 0x2A6DF) ||
         (code >= 0x2A700 && code <= 0x2B81F) || (code >= 0x2B920 && code <= 0x2CEAF) ||
         (code >= 0x2F800 && code <= 0x2FA1F);
}

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

// One application of a step to `*text`.
struct Apply {
  std::string* text;
  size_t max_bytes;
  Deadline deadline;

  absl::Status operator()(const normalizer::Prepend& step) const {
    if (!text->empty()) {
      text->insert(0, step.text);
    }
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::Replace& step) const {
    std::vector<TextRange> matches;
    OCTOGATE_RETURN_IF_ERROR(step.pattern.FindAll(*text, deadline, &matches));
    if (matches.empty()) {
      return absl::OkStatus();
    }
    std::string result;
    result.reserve(text->size());
    size_t done = 0;
    for (const TextRange& match : matches) {
      result.append(*text, done, match.begin - done);
      result.append(step.content);
      done = match.end;
      if (result.size() > max_bytes) {
        break;  // Run reports it.
      }
    }
    result.append(*text, done);
    *text = std::move(result);
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::Unicode& step) const {
    if (IsNormalized(*text, step.form)) {
      return absl::OkStatus();
    }
    const icu::Normalizer2* const icu_normalizer = IcuNormalizer(step.form);
    if (icu_normalizer == nullptr) {
      return absl::InternalError("ICU has no Unicode normalization data");
    }
    std::string result;
    icu::StringByteSink<std::string> sink(&result, static_cast<int32_t>(text->size()));
    UErrorCode code = U_ZERO_ERROR;
    icu_normalizer->normalizeUTF8(
        0, icu::StringPiece(text->data(), static_cast<int32_t>(text->size())), sink, nullptr, code);
    if (U_FAILURE(code)) {
      return absl::InternalError(absl::StrCat("Unicode normalization failed: ", u_errorName(code)));
    }
    *text = std::move(result);
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::Lowercase&) const {
    std::string result;
    result.reserve(text->size());
    const char* const end = text->data() + text->size();
    for (const char* p = text->data(); p < end;) {
      const char32_t code = NextCodePoint(p);
      if (code == 0x130) {
        // The only character whose lower case, context aside, is two characters.
        result.append("i\u0307");
      } else {
        AppendUtf8(static_cast<char32_t>(u_tolower(static_cast<UChar32>(code))), &result);
      }
    }
    *text = std::move(result);
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::Strip& step) const {
    size_t begin = 0;
    size_t end = text->size();
    while (step.left && begin < end) {
      const char* p = text->data() + begin;
      if (!IsWhitespace(NextCodePoint(p))) {
        break;
      }
      begin = static_cast<size_t>(p - text->data());
    }
    while (step.right && begin < end) {
      const size_t last = LastCharacterStart({text->data(), end});
      const char* p = text->data() + last;
      if (!IsWhitespace(NextCodePoint(p))) {
        break;
      }
      end = last;
    }
    *text = text->substr(begin, end - begin);
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::StripAccents&) const {
    FilterCharacters(text, [](char32_t code) {
      return (U_GET_GC_MASK(static_cast<UChar32>(code)) & U_GC_M_MASK) == 0;
    });
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::ByteLevel&) const {
    *text = BytesToByteLevel(*text);
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::CleanText&) const {
    std::string result;
    result.reserve(text->size());
    const char* const end = text->data() + text->size();
    for (const char* p = text->data(); p < end;) {
      const char* const start = p;
      const char32_t code = NextCodePoint(p);
      if (IsBertControl(code)) {
        continue;
      }
      if (IsWhitespace(code)) {
        result.push_back(' ');
      } else {
        result.append(start, p);
      }
    }
    *text = std::move(result);
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::IsolateChinese&) const {
    if (IsAscii(*text)) {
      return absl::OkStatus();
    }
    std::string result;
    result.reserve(text->size() + text->size() / 2);
    const char* const end = text->data() + text->size();
    for (const char* p = text->data(); p < end;) {
      const char* const start = p;
      const bool chinese = IsBertChinese(NextCodePoint(p));
      if (chinese) {
        result.push_back(' ');
      }
      result.append(start, p);
      if (chinese) {
        result.push_back(' ');
      }
    }
    *text = std::move(result);
    return absl::OkStatus();
  }

  absl::Status operator()(const normalizer::StripNonspacingMarks&) const {
    if (!IsAscii(*text)) {
      FilterCharacters(text, [](char32_t code) { return !IsBertNonspacingMark(code); });
    }
    return absl::OkStatus();
  }
};

}  // namespace

absl::StatusOr<TextPattern> ParsePattern(const JsonNode& node) {
  absl::StatusOr<TextPattern> pattern = absl::InvalidArgumentError("");
  if (node.is_string()) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::string text, node.String());
    pattern = TextPattern::Literal(text);
  } else {
    OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> literal, node.Find("String"));
    OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> regex, node.Find("Regex"));
    if (literal.has_value() == regex.has_value()) {
      return node.Error("expected either \"String\" or \"Regex\"");
    }
    OCTOGATE_ASSIGN_OR_RETURN(const std::string text,
                              literal.has_value() ? literal->String() : regex->String());
    pattern = literal.has_value() ? TextPattern::Literal(text) : TextPattern::Regex(text);
  }
  if (!pattern.ok()) {
    const std::string message(pattern.status().message());
    return absl::IsUnimplemented(pattern.status()) ? node.Unimplemented(message)
                                                   : node.Error(message);
  }
  return pattern;
}

absl::StatusOr<Normalizer> Normalizer::Parse(const JsonNode& node) {
  Normalizer result;
  OCTOGATE_RETURN_IF_ERROR(result.ParseStep(node));
  return result;
}

absl::Status Normalizer::ParseStep(const JsonNode& node) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string type, node.GetString("type"));
  if (steps_.size() >= kMaxSteps) {
    return node.Error(absl::StrCat("more than ", kMaxSteps, " steps"));
  }
  if (type == "Sequence") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode list, node.Get("normalizers"));
    OCTOGATE_RETURN_IF_ERROR(list.CheckArray(kMaxSteps));
    for (size_t i = 0; i < list.value().size(); ++i) {
      OCTOGATE_RETURN_IF_ERROR(ParseStep(list.At(i)));
    }
  } else if (type == "Prepend") {
    OCTOGATE_ASSIGN_OR_RETURN(std::string text, node.GetString("prepend"));
    steps_.emplace_back(normalizer::Prepend{std::move(text)});
  } else if (type == "Replace") {
    OCTOGATE_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Get("pattern"));
    OCTOGATE_ASSIGN_OR_RETURN(TextPattern pattern, ParsePattern(pattern_node));
    OCTOGATE_ASSIGN_OR_RETURN(std::string content, node.GetString("content"));
    steps_.emplace_back(normalizer::Replace{std::move(pattern), std::move(content)});
  } else if (type == "NFC") {
    steps_.emplace_back(normalizer::Unicode{Form::kNfc});
  } else if (type == "NFD") {
    steps_.emplace_back(normalizer::Unicode{Form::kNfd});
  } else if (type == "NFKC") {
    steps_.emplace_back(normalizer::Unicode{Form::kNfkc});
  } else if (type == "NFKD") {
    steps_.emplace_back(normalizer::Unicode{Form::kNfkd});
  } else if (type == "Lowercase") {
    steps_.emplace_back(normalizer::Lowercase{});
  } else if (type == "Strip") {
    OCTOGATE_ASSIGN_OR_RETURN(const bool left, node.GetBool("strip_left"));
    OCTOGATE_ASSIGN_OR_RETURN(const bool right, node.GetBool("strip_right"));
    steps_.emplace_back(normalizer::Strip{left, right});
  } else if (type == "StripAccents") {
    steps_.emplace_back(normalizer::StripAccents{});
  } else if (type == "ByteLevel") {
    steps_.emplace_back(normalizer::ByteLevel{});
  } else if (type == "BertNormalizer") {
    OCTOGATE_ASSIGN_OR_RETURN(const bool clean_text, node.GetBool("clean_text", true));
    OCTOGATE_ASSIGN_OR_RETURN(const bool chinese, node.GetBool("handle_chinese_chars", true));
    OCTOGATE_ASSIGN_OR_RETURN(const bool lowercase, node.GetBool("lowercase", true));
    OCTOGATE_ASSIGN_OR_RETURN(const bool strip_accents, node.GetBool("strip_accents", lowercase));
    if (clean_text) {
      steps_.emplace_back(normalizer::CleanText{});
    }
    if (chinese) {
      steps_.emplace_back(normalizer::IsolateChinese{});
    }
    if (strip_accents) {
      steps_.emplace_back(normalizer::Unicode{Form::kNfd});
      steps_.emplace_back(normalizer::StripNonspacingMarks{});
    }
    if (lowercase) {
      steps_.emplace_back(normalizer::Lowercase{});
    }
  } else {
    return node.Unimplemented(absl::StrCat("the normalizer ", Quoted(type), " is not supported"));
  }
  return absl::OkStatus();
}

absl::Status Normalizer::Run(std::string* text, size_t max_bytes, Deadline deadline) const {
  for (const normalizer::Step& step : steps_) {
    OCTOGATE_RETURN_IF_ERROR(std::visit(Apply{text, max_bytes, deadline}, step));
    if (text->size() > max_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("the normalized text has ", text->size(),
                                                       " bytes; the limit is ", max_bytes));
    }
  }
  return absl::OkStatus();
}

std::string BytesToByteLevel(std::string_view text) {
  const ByteLevelTables& tables = ByteLevelCharacters();
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    result.append(tables.spelled[static_cast<uint8_t>(c)]);
  }
  return result;
}

bool ByteLevelToBytes(std::string_view text, std::string* bytes) {
  const ByteLevelTables& tables = ByteLevelCharacters();
  bytes->clear();
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    const char32_t code = NextCodePoint(p);
    if (code >= tables.byte_of.size() || tables.byte_of[code] < 0) {
      return false;
    }
    bytes->push_back(static_cast<char>(tables.byte_of[code]));
  }
  return true;
}

}  // namespace octogate::workers

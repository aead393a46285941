#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "workers/model/tokenizer_decoder.h"
#include "workers/model/tokenizer_normalizer.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// <0xHH>
bool IsFallback(std::string_view token) {
  return token.size() == 6 && token.substr(0, 3) == "<0x" && token[5] == '>' &&
         HexDigit(token[3]) >= 0 && HexDigit(token[4]) >= 0;
}

absl::Status DependsOnPlace(std::string_view step) {
  return absl::UnimplementedError(
      absl::StrCat("the tokenizer's decoder step ", std::string(step),
                   " makes a token's bytes depend on where it stands; use a byte-level or "
                   "byte-fallback tokenizer"));
}

}  // namespace

absl::StatusOr<std::string> TokenDecoder::BytesOf(std::string_view token) const {
  std::string bytes(token);
  bool fused = false;
  for (const decoder::Step& step : steps_) {
    if (std::holds_alternative<decoder::ByteLevel>(step)) {
      std::string raw;
      if (ByteLevelToBytes(bytes, &raw)) bytes = raw;
    } else if (std::holds_alternative<decoder::ByteFallback>(step)) {
      if (!IsFallback(bytes)) continue;
      return std::string(1, static_cast<char>(HexDigit(bytes[3]) << 4 | HexDigit(bytes[4])));
    } else if (std::holds_alternative<decoder::Fuse>(step)) {
      fused = true;
    } else if (std::holds_alternative<decoder::Strip>(step)) {
      // Of the whole text, once it is in one piece.
      if (!fused) return DependsOnPlace("Strip");
    } else if (const auto* replace = std::get_if<decoder::Replace>(&step)) {
      if (replace->pattern.literal().empty()) return DependsOnPlace("Replace");
      bytes = absl::StrReplaceAll(bytes, {{replace->pattern.literal(), replace->content}});
    } else if (const auto* metaspace = std::get_if<decoder::Metaspace>(&step)) {
      std::string replacement;
      AppendUtf8(metaspace->replacement, &replacement);
      bytes = absl::StrReplaceAll(bytes, {{replacement, " "}});
    } else {
      return DependsOnPlace("WordPiece, BPEDecoder or none");
    }
  }
  return bytes;
}

}  // namespace octogate::workers

// The normalizers of tokenizer.json: text in, text out.
//
// Sequence, Prepend, Replace (String and Regex), NFC, NFD, NFKC, NFKD, Lowercase, Strip,
// StripAccents, ByteLevel, BertNormalizer. Others (Nmt, Precompiled) are UNIMPLEMENTED.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_NORMALIZER_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_NORMALIZER_H_

#include <chrono>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/tokenizer_json.h"
#include "workers/model/tokenizer_regex.h"

namespace octogate::workers {

namespace normalizer {
struct Prepend {
  std::string text;
};
struct Replace {
  TextPattern pattern;
  std::string content;
};
enum class Form { kNfc, kNfd, kNfkc, kNfkd };
struct Unicode {
  Form form;
};
struct Lowercase {};
struct Strip {
  bool left;
  bool right;
};
struct StripAccents {};
struct ByteLevel {};
// The parts of BertNormalizer. Control characters go, white space becomes blanks.
struct CleanText {};
// A blank on both sides of every Chinese character.
struct IsolateChinese {};
struct StripNonspacingMarks {};
using Step = std::variant<Prepend, Replace, Unicode, Lowercase, Strip, StripAccents, ByteLevel,
                          CleanText, IsolateChinese, StripNonspacingMarks>;
}  // namespace normalizer

// Immutable after Parse.
class Normalizer {
 public:
  // No steps: the identity.
  Normalizer() = default;
  static absl::StatusOr<Normalizer> Parse(const JsonNode& node);

  bool empty() const { return steps_.empty(); }

  // Normalizes `text`, well-formed UTF-8, in place. RESOURCE_EXHAUSTED if it grows beyond
  // `max_bytes` or a regular expression takes too long (see TextPattern::FindAll).
  absl::Status Run(std::string* text, size_t max_bytes,
                   std::chrono::steady_clock::time_point deadline) const;

 private:
  absl::Status ParseStep(const JsonNode& node);

  std::vector<normalizer::Step> steps_;
};

// {"String": …} or {"Regex": …}, or a plain string, as patterns appear in tokenizer.json.
absl::StatusOr<TextPattern> ParsePattern(const JsonNode& node);

// The bytes of `text`, each written as the character that byte-level vocabularies use for it
// (https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode).
std::string BytesToByteLevel(std::string_view text);
// The inverse. False, with `bytes` unspecified, if `text` has a character that stands for no byte.
bool ByteLevelToBytes(std::string_view text, std::string* bytes);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_NORMALIZER_H_

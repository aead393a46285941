// The pre-tokenizers of tokenizer.json: they cut a text into the pieces that the model encodes one
// by one.
//
// Sequence, ByteLevel, Split (String and Regex), Metaspace, Digits, Punctuation, Whitespace,
// WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit. Others are UNIMPLEMENTED.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_PRETOKENIZER_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_PRETOKENIZER_H_

#include <chrono>
#include <deque>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/tokenizer_json.h"
#include "workers/model/tokenizer_regex.h"

namespace octogate::workers {

// A non-empty stretch of the text on its way to the model.
struct Piece {
  std::string_view text;
  // Whether it starts where the original text starts.
  bool at_start = false;
};

namespace pretokenizer {
// What becomes of the delimiters that a split finds.
enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
enum class PrependScheme { kFirst, kNever, kAlways };

struct ByteLevel {
  bool add_prefix_space;
  bool use_regex;
  // Write bytes as characters; false for the last step, whose pieces stay plain.
  bool spell = true;
};
struct Split {
  TextPattern pattern;
  Behavior behavior;
  bool invert;
};
struct Metaspace {
  std::string replacement;
  PrependScheme prepend_scheme;
  bool split;
};
// Splits at every character for which `is_delimiter` holds.
struct CharacterSplit {
  bool (*is_delimiter)(char32_t);
  Behavior behavior;
};
struct Delimiter {
  char32_t delimiter;
};
// \w+|[^\w\s]+
struct Words {};
using Step = std::variant<ByteLevel, Split, Metaspace, CharacterSplit, Delimiter, Words>;
}  // namespace pretokenizer

// Immutable after Parse.
class PreTokenizer {
 public:
  // No steps: the text is one piece.
  PreTokenizer() = default;
  static absl::StatusOr<PreTokenizer> Parse(const JsonNode& node);

  // Whether the model should read the bytes of the pieces as byte-level characters (see
  // BytesToByteLevel): the last step is ByteLevel, and leaves that to the model's look-up.
  bool byte_level() const;

  // Appends the pieces of `piece`, well-formed UTF-8, to `pieces`. They point into `piece` or into
  // strings added to `storage`. RESOURCE_EXHAUSTED as TextPattern::FindAll says.
  absl::Status Run(const Piece& piece, std::chrono::steady_clock::time_point deadline,
                   std::deque<std::string>* storage, std::vector<Piece>* pieces) const;

 private:
  absl::Status ParseStep(const JsonNode& node);

  std::vector<pretokenizer::Step> steps_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_PRETOKENIZER_H_

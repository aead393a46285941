// Regular expressions of tokenizer.json. They are written in Oniguruma's syntax; here they run on
// ICU, with bounded time and stack.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_REGEX_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_REGEX_H_

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/tokenizer_scanner.h"

struct URegularExpression;

namespace octogate::workers {

// A stretch [begin, end) of a text, in bytes.
struct TextRange {
  size_t begin;
  size_t end;
};

// `pattern` in ICU's syntax with the meaning that Oniguruma gives it, or UNIMPLEMENTED for
// constructs that the two understand differently and that cannot be rewritten.
absl::StatusOr<std::string> TranslatePattern(std::string_view pattern);

// A compiled pattern: immutable, may be matched from any number of threads at once.
class TextPattern {
 public:
  // A pattern that FindScanner knows gets its scanner unless `allow_scanner` is false.
  // INVALID_ARGUMENT or UNIMPLEMENTED says what is wrong with the pattern.
  static absl::StatusOr<TextPattern> Regex(std::string_view pattern, bool allow_scanner = true);
  // A literal, which must not be empty.
  static absl::StatusOr<TextPattern> Literal(std::string_view text);

  // Appends the non-overlapping, leftmost, non-empty matches in `text`, which is well-formed
  // UTF-8. RESOURCE_EXHAUSTED if the expression is still matching two seconds after `deadline`, or
  // takes two seconds for one match, or more than 8 MiB of stack.
  absl::Status FindAll(std::string_view text, std::chrono::steady_clock::time_point deadline,
                       std::vector<TextRange>* matches) const;

  // Null unless a scanner does the matching.
  Scanner scanner() const { return scanner_; }
  // Empty unless the pattern is a literal.
  const std::string& literal() const { return literal_; }

 private:
  TextPattern() = default;

  Scanner scanner_ = nullptr;
  std::string literal_;
  std::shared_ptr<const URegularExpression> regex_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_REGEX_H_

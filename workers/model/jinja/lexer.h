// From a template's source to tokens, with Jinja's whitespace control under
// trim_blocks and lstrip_blocks.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_LEXER_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_LEXER_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/model/jinja/value.h"

namespace octogate::workers::jinja {

struct Token {
  enum class Kind {
    kData,           // text
    kVariableBegin,  // {{
    kVariableEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,      // text
    kString,    // text, escapes resolved
    kInteger,   // integer
    kFloat,     // number
    kOperator,  // text
    kEnd,
  };
  Kind kind = Kind::kEnd;
  int line = 1;
  int column = 1;
  std::string text;
  Integer integer = 0;
  double number = 0;

  bool IsOperator(std::string_view op) const { return kind == Kind::kOperator && text == op; }
  bool IsName(std::string_view name) const { return kind == Kind::kName && text == name; }
};

// The last token is kEnd. INVALID_ARGUMENT with line and column.
absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_LEXER_H_

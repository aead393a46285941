// The tokens of SQL text, as far as reading CREATE TABLE takes.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_DDL_TOKENS_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_DDL_TOKENS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace octogate::schema {

struct DdlToken {
  enum Kind { kWord, kQuotedIdentifier, kString, kNumber, kSymbol, kEnd };
  Kind kind = kEnd;
  std::string text;  // of identifiers and strings, without quotes and escapes
  size_t line = 1;

  // Whether it is this keyword (in upper case) or symbol; quoted identifiers are neither.
  bool Is(std::string_view what) const;
};

// All tokens and one kEnd. Comments are skipped: "--", "/*", which nest. Strings are '…', E'…' and
// $tag$…$tag$; identifiers bare, "…", `…` or […]. Backslash lines of psql and rows of COPY … FROM
// stdin are skipped. INVALID_ARGUMENT with `source` and line for what does not end or is not
// UTF-8.
absl::StatusOr<std::vector<DdlToken>> DdlTokens(std::string_view text, std::string_view source);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_DDL_TOKENS_H_

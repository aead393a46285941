// Regular expressions for JSON strings, as the "pattern" of JSON Schema has them.
#ifndef OCTOGATE_WORKERS_GRAMMAR_STRING_PATTERN_H_
#define OCTOGATE_WORKERS_GRAMMAR_STRING_PATTERN_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace octogate::workers {

// An expression of the grammar notation for the insides of JSON strings in which `pattern` is found
// (see json_schema_grammar.h for what is supported); it uses the rule "character". Errors name
// `place`: UNIMPLEMENTED for what is not supported, INVALID_ARGUMENT for what is no expression.
absl::StatusOr<std::string> StringPatternNotation(std::string_view pattern, std::string_view place);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_STRING_PATTERN_H_

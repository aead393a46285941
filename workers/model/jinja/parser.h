// From tokens to the syntax tree, by Jinja's grammar.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_PARSER_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_PARSER_H_

#include <string_view>

#include "absl/status/statusor.h"
#include "workers/model/jinja/ast.h"

namespace octogate::workers::jinja {

// Far beyond any chat template, and within a thread's stack.
inline constexpr int kMaxExpressionDepth = 200;
inline constexpr int kMaxBlockDepth = 64;

// INVALID_ARGUMENT with line and column for what is not a template, or uses
// what chat templates have no use for (extends, include, import, block,
// autoescape, recursive loops, unknown filters and tests); RESOURCE_EXHAUSTED
// when nested too deeply.
absl::StatusOr<Block> ParseTemplate(std::string_view source);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_PARSER_H_

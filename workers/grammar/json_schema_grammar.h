// JSON Schemas as grammars.
//
// Supported: true and false; type (one or several); enum; const; anyOf, and oneOf, which is read as
// anyOf; allOf of one schema; $ref within the document (recursive too), with $defs and definitions;
//   of objects  properties, required, additionalProperties
//   of arrays   items, minItems, maxItems
//   of strings  minLength, maxLength (in characters); pattern (alone): literals, classes, ".",
//   groups,
//               | * + ? {m,n}, \d \w \s \D \W \S and escaped signs, "^" at its beginning and "$" at
//               its end only; signs are written as they are, not as \u escapes
//   of numbers  minimum 0; of integers also minimum 1 and exclusiveMinimum 0
// Annotations (title, description, default, examples, $schema, $id, $comment, deprecated, readOnly,
// writeOnly) are read over. Any other keyword is an error: none is ignored.
//
// A grammar generates a part of what a schema allows: the properties of an object come in the
// schema's order, those it does not name last and without escapes in their names; integers have
// neither fraction nor exponent. What it generates always conforms, but that names which a schema
// does not have may come twice.
#ifndef OCTOGATE_WORKERS_GRAMMAR_JSON_SCHEMA_GRAMMAR_H_
#define OCTOGATE_WORKERS_GRAMMAR_JSON_SCHEMA_GRAMMAR_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "workers/grammar/grammar.h"

namespace octogate::workers {

// The grammar's text. INVALID_ARGUMENT for what is no schema, UNIMPLEMENTED for what is not
// supported, both with the place in the schema; RESOURCE_EXHAUSTED for one that is too large.
absl::StatusOr<std::string> JsonSchemaNotation(std::string_view schema);

absl::StatusOr<Grammar> JsonSchemaGrammar(std::string_view schema);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_JSON_SCHEMA_GRAMMAR_H_

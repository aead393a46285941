// A schema as plain JSON, for whoever has a catalog of their own:
//
//   {"name": "shop", "tables": [
//     {"name": "orders", "description": "…", "rows": 12,
//      "columns": [{"name": "id", "type": "integer", "primary_key": true},
//                  {"name": "customer_id", "type": "integer", "alias": "…", "description": "…",
//                   "value_description": "…", "values": ["…", 1], "values_truncated": false,
//                   "sensitive": false}],
//      "foreign_keys": [{"columns": ["customer_id"], "table": "customers",
//                        "references": ["id"]}]}]}
//
// All but names may be left out; other keys are errors.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_JSON_READER_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_JSON_READER_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "retrieval/schema/schema.h"

namespace octogate::schema {

// Errors: see schema.h.
absl::StatusOr<Schema> ParseJsonSchema(std::string_view text, std::string_view source);
absl::StatusOr<Schema> ReadJsonSchema(const std::string& path);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_JSON_READER_H_

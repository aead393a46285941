// A schema from SQL text, as pg_dump --schema-only writes it and people paste it: CREATE TABLE with
// column and table constraints, ALTER TABLE … ADD PRIMARY KEY or FOREIGN KEY, COMMENT ON TABLE or
// COLUMN, and MySQL's COMMENT '…' beside a column or table. All other statements are skipped.
//
// Names are as written (PostgreSQL folds bare ones to lower case, which links compare anyway);
// those of a schema other than "public", "main" or "dbo" keep it: "sales.orders".
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_DDL_READER_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_DDL_READER_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "retrieval/schema/schema.h"

namespace octogate::schema {

// `name` is the schema's. INVALID_ARGUMENT with source and line for text that ends inside of a
// string, comment or CREATE TABLE, or has no CREATE TABLE at all. See also schema.h.
absl::StatusOr<Schema> ParseDdl(std::string_view text, std::string_view source, std::string name);
absl::StatusOr<Schema> ReadDdl(const std::string& path);  // named as the file

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_DDL_READER_H_

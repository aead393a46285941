// The schema of a PostgreSQL database, read from its server.
#ifndef OCTOGATE_GATEWAY_CATALOG_POSTGRESQL_SOURCE_H_
#define OCTOGATE_GATEWAY_CATALOG_POSTGRESQL_SOURCE_H_

#include <cstddef>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/sql/sql_database.h"
#include "retrieval/schema/schema.h"

namespace octogate::gateway {

// Tables, views and foreign tables that a statement of the role finds by their bare names (those of
// the schemas in its search_path) with the columns that it may read, keys between them, and
// comments as descriptions; without values. Partitions are part of their table. The schema's name
// is the database's; what the role could read under longer names is counted in a warning. Each
// query is a read-only transaction of its own, so that a schema that changes meanwhile may be read
// in part: a key to a table that is not there is left out later. Errors are those of SqlDatabase;
// RESOURCE_EXHAUSTED past the bounds of retrieval/schema/schema.h or 64 MiB, INVALID_ARGUMENT for
// names with control characters.
absl::StatusOr<schema::Schema> ReadPostgresqlSchema(SqlDatabase& database, absl::Time deadline);

struct PostgresqlValueOptions {
  size_t max_values_per_column = 1000;  // of text columns; 0 reads none
  size_t max_other_values_per_column = 10;
  // Of each table: columns of longer ones are marked as truncated.
  size_t max_rows_per_table = 100'000;
  absl::Duration max_time_per_query = absl::Seconds(10);
  absl::Duration max_time = absl::Minutes(2);  // of all tables
};

// Reads the distinct values of columns that are not sensitive, of those of `schema` that are not
// values_truncated, which ReadPostgresqlSchema says of views and foreign tables: these would run
// code, or ask other servers. Where a table's cannot be read, or not in time, they are left out
// with a warning. `schema` is as ReadPostgresqlSchema has read it, and may have been marked since.
void ReadPostgresqlValues(SqlDatabase& database, const PostgresqlValueOptions& options,
                          absl::Time deadline, schema::Schema* schema);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_POSTGRESQL_SOURCE_H_

// The schema of a SQLite database file, with the distinct values of its text columns.
//
// The file may be hostile: it is opened read-only and defensively, functions and virtual tables of
// its schema are not trusted, views and virtual tables are described but never queried, and every
// scan for values ends after a bounded number of steps, which sets values_truncated.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_SQLITE_READER_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_SQLITE_READER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "retrieval/schema/schema.h"

namespace octogate::schema {

struct SqliteReaderOptions {
  size_t max_values_per_column = 1000;  // of text columns; 0 reads none
  size_t max_other_values_per_column = 10;
  // Instructions of SQLite's virtual machine for the values of one column, and for those of the
  // whole file. Some 10 to 100 million run in a second.
  uint64_t max_steps_per_column = 20'000'000;
  uint64_t max_steps = 1'000'000'000;
  bool guess_sensitive = true;  // see CatalogOptions; such columns are not read
  absl::Time deadline = absl::InfiniteFuture();
};

// The schema's name is the file's, without folder and extension. NOT_FOUND for no such file,
// INVALID_ARGUMENT for one that is no SQLite database or a damaged one, DEADLINE_EXCEEDED.
absl::StatusOr<Schema> ReadSqliteSchema(const std::string& path,
                                        const SqliteReaderOptions& options = {});

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_SQLITE_READER_H_

// Comma-separated values (RFC 4180).
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_CSV_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_CSV_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace octogate::schema {

struct CsvRow {
  size_t line = 0;  // where it starts, from 1
  std::vector<std::string> fields;
};

// All rows but empty ones; a byte order mark is skipped, lines end with \n, \r\n or \r. Quotes
// inside of a field that does not start with one are taken as they are. INVALID_ARGUMENT with
// `source` and the line for a quoted field that does not end, RESOURCE_EXHAUSTED for more than
// `max_rows` rows or 1000 fields in one.
absl::StatusOr<std::vector<CsvRow>> ParseCsv(std::string_view text, std::string_view source,
                                             size_t max_rows);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_CSV_H_

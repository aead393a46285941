// Results of statements as text.
#ifndef OCTOGATE_GATEWAY_SQL_ROW_TEXT_H_
#define OCTOGATE_GATEWAY_SQL_ROW_TEXT_H_

#include <cstddef>
#include <string>

#include "gateway/sql/sql_database.h"

namespace octogate::gateway {

struct RowText {
  std::string text;  // valid UTF-8
  size_t rows = 0;   // of the result's that are in the text
};

// Each renders as many whole rows as fit into `max_bytes`. The least text, that without rows, may
// be longer; then it is returned as it is. NULL, and what a format has no word for, is written as
// said.

// {"columns":["a","b"],"rows":[[1,"x"],[null,2.5]],"truncated":false} (RFC 8259) in one line.
// "truncated" is "rows" or "bytes" where the result, or this text, lacks rows: the limit that was
// reached first. Integers have all their digits. Reals that JSON cannot write are the strings
// "Infinity", "-Infinity" and "NaN". A blob is {"blob_bytes":3}.
RowText RowsAsJson(const SqlResult& result, size_t max_bytes);

// RFC 4180: a header of the columns' names, lines that end with CRLF, values in quotation marks
// where they need them. NULL is nothing at all, empty text is "". A blob is the text "(blob of 3
// bytes)".
RowText RowsAsCsv(const SqlResult& result, size_t max_bytes);

// For people and models: columns padded to one width, numbers to the right, "NULL", and a last line
// where rows lack: "(3 of more rows)". Control characters and backslashes in values are written as
// in C ("\n"), so that one row is one line. Width is counted in code points.
RowText RowsAsTable(const SqlResult& result, size_t max_bytes);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_ROW_TEXT_H_

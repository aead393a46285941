#include "retrieval/schema/csv.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::schema {
namespace {

constexpr size_t kMaxFields = 1000;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

}  // namespace

absl::StatusOr<std::vector<CsvRow>> ParseCsv(std::string_view text, std::string_view source,
                                             size_t max_rows) {
  if (text.substr(0, kByteOrderMark.size()) == kByteOrderMark) {
    text.remove_prefix(kByteOrderMark.size());
  }
  std::vector<CsvRow> rows;
  size_t line = 1;
  size_t at = 0;
  while (at < text.size()) {
    CsvRow row{.line = line, .fields = {}};
    bool row_ends = false;
    while (!row_ends) {
      std::string field;
      if (at < text.size() && text[at] == '"') {
        const size_t starts = line;
        bool closed = false;
        for (++at; at < text.size(); ++at) {
          if (text[at] == '\n') ++line;
          if (text[at] != '"') {
            field.push_back(text[at]);
          } else if (at + 1 < text.size() && text[at + 1] == '"') {
            field.push_back('"');
            ++at;
          } else {
            closed = true;
            ++at;
            break;
          }
        }
        if (!closed) {
          return absl::InvalidArgumentError(
              absl::StrCat(ToAbsl(source), ":", starts, ": a quoted field does not end"));
        }
      }
      while (at < text.size() && text[at] != ',' && text[at] != '\n' && text[at] != '\r') {
        field.push_back(text[at++]);
      }
      row.fields.push_back(std::move(field));
      if (row.fields.size() > kMaxFields) {
        return absl::ResourceExhaustedError(
            absl::StrCat(ToAbsl(source), ":", row.line, ": has more than ", kMaxFields, " fields"));
      }
      row_ends = at >= text.size() || text[at] != ',';
      if (!row_ends) ++at;
    }
    if (at < text.size()) {
      if (text[at] == '\r' && at + 1 < text.size() && text[at + 1] == '\n') ++at;
      ++at;
      ++line;
    }
    if (row.fields.size() == 1 && row.fields[0].empty()) continue;
    if (rows.size() == max_rows) {
      return absl::ResourceExhaustedError(
          absl::StrCat(ToAbsl(source), ":", row.line, ": more than ", max_rows, " rows"));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace octogate::schema

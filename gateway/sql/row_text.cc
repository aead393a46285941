#include "gateway/sql/row_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// The shortest digits that are read back as the same number, with ".0" where they look like those
// of an integer.
std::string Real(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  char digits[40];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), value).ptr;
  std::string text(digits, end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

void AppendJsonString(std::string_view text, std::string* out) {
  *out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          char escaped[8];
          std::snprintf(escaped, sizeof(escaped), "\\u%04x", static_cast<unsigned char>(c));
          *out += escaped;
        } else {
          *out += c;
        }
    }
  }
  *out += '"';
}

void AppendJson(const SqlValue& value, std::string* out) {
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    absl::StrAppend(out, *integer);
  } else if (const auto* real = std::get_if<double>(&value)) {
    const std::string text = Real(*real);
    std::isfinite(*real) ? * out += text : * out += absl::StrCat("\"", text, "\"");
  } else if (const auto* text = std::get_if<std::string>(&value)) {
    AppendJsonString(*text, out);
  } else if (const auto* blob = std::get_if<SqlBlob>(&value)) {
    absl::StrAppend(out, "{\"blob_bytes\":", blob->bytes, "}");
  } else {
    *out += "null";
  }
}

// Of a value in CSV and in tables, before quoting and escaping; NULL is `null`.
std::string Plain(const SqlValue& value, std::string_view null) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return absl::StrCat(*integer);
  if (const auto* real = std::get_if<double>(&value)) return Real(*real);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* blob = std::get_if<SqlBlob>(&value)) {
    return absl::StrCat("(blob of ", blob->bytes, " bytes)");
  }
  return std::string(null);
}

void AppendCsv(const std::string& text, bool is_null, std::string* out) {
  if (is_null) return;
  const bool quote = text.empty() || text.find_first_of("\",\r\n") != std::string::npos ||
                     text.front() == ' ' || text.back() == ' ';
  if (!quote) {
    *out += text;
    return;
  }
  *out += '"';
  for (const char c : text) {
    if (c == '"') *out += '"';
    *out += c;
  }
  *out += '"';
}

std::string OneLine(std::string_view text) {
  std::string line;
  for (const char c : text) {
    switch (c) {
      case '\\':
        line += "\\\\";
        break;
      case '\n':
        line += "\\n";
        break;
      case '\r':
        line += "\\r";
        break;
      case '\t':
        line += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          char escaped[8];
          std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<unsigned char>(c));
          line += escaped;
        } else {
          line += c;
        }
    }
  }
  return line;
}

size_t Width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string_view JsonTruncation(SqlTruncation truncation) {
  switch (truncation) {
    case SqlTruncation::kRows:
      return "\"rows\"";
    case SqlTruncation::kBytes:
      return "\"bytes\"";
    case SqlTruncation::kNone:
      break;
  }
  return "false";
}

// The cells of a table's rows, padded to common widths.
class Table {
 public:
  explicit Table(const SqlResult& result) : result_(result) {
    for (const std::string& name : result.columns) header_.push_back(OneLine(name));
    for (const auto& row : result.rows) {
      std::vector<std::string>& cells = cells_.emplace_back();
      for (const SqlValue& value : row) cells.push_back(OneLine(Plain(value, "NULL")));
    }
  }

  // The first `rows` rows. Ends early where the text has become longer than `max_bytes`: one wide
  // cell pads those of all other rows.
  std::string Render(size_t rows, size_t max_bytes) const {
    std::vector<size_t> widths;
    for (size_t i = 0; i < header_.size(); ++i) {
      widths.push_back(Width(header_[i]));
      for (size_t row = 0; row < rows; ++row) {
        widths[i] = std::max(widths[i], Width(cells_[row][i]));
      }
    }
    std::string text;
    AppendLine(header_, widths, nullptr, &text);
    for (size_t i = 0; i < widths.size(); ++i) {
      absl::StrAppend(&text, i == 0 ? "" : "-+-", std::string(widths[i], '-'));
    }
    text += '\n';
    for (size_t row = 0; row < rows; ++row) {
      AppendLine(cells_[row], widths, &result_.rows[row], &text);
      if (text.size() > max_bytes) return text;
    }
    if (rows < result_.rows.size() || result_.truncation != SqlTruncation::kNone) {
      absl::StrAppend(&text, "(", rows, " of more rows)\n");
    }
    return text;
  }

 private:
  static void AppendLine(const std::vector<std::string>& cells, const std::vector<size_t>& widths,
                         const std::vector<SqlValue>* values, std::string* out) {
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i > 0) *out += " | ";
      const std::string padding(widths[i] - Width(cells[i]), ' ');
      const bool right = values != nullptr && (std::holds_alternative<int64_t>((*values)[i]) ||
                                               std::holds_alternative<double>((*values)[i]));
      absl::StrAppend(out, right ? padding : "", cells[i],
                      right || i + 1 == cells.size() ? "" : padding);
    }
    *out += '\n';
  }

  const SqlResult& result_;
  std::vector<std::string> header_;
  std::vector<std::vector<std::string>> cells_;
};

}  // namespace

RowText RowsAsJson(const SqlResult& result, size_t max_bytes) {
  RowText rendered;
  std::string& text = rendered.text;
  text = "{\"columns\":[";
  for (size_t i = 0; i < result.columns.size(); ++i) {
    if (i > 0) text += ',';
    AppendJsonString(result.columns[i], &text);
  }
  text += "],\"rows\":[";
  constexpr std::string_view kEnd = "],\"truncated\":\"bytes\"}";  // the longest
  SqlTruncation truncation = result.truncation;
  for (const auto& row : result.rows) {
    const size_t before = text.size();
    text += rendered.rows == 0 ? "[" : ",[";
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += ',';
      AppendJson(row[i], &text);
    }
    text += ']';
    if (text.size() + kEnd.size() > max_bytes) {
      text.resize(before);
      truncation = SqlTruncation::kBytes;
      break;
    }
    ++rendered.rows;
  }
  absl::StrAppend(&text, "],\"truncated\":", ToAbsl(JsonTruncation(truncation)), "}");
  return rendered;
}

RowText RowsAsCsv(const SqlResult& result, size_t max_bytes) {
  RowText rendered;
  std::string& text = rendered.text;
  for (size_t i = 0; i < result.columns.size(); ++i) {
    if (i > 0) text += ',';
    AppendCsv(result.columns[i], false, &text);
  }
  text += "\r\n";
  for (const auto& row : result.rows) {
    const size_t before = text.size();
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += ',';
      AppendCsv(Plain(row[i], ""), std::holds_alternative<std::monostate>(row[i]), &text);
    }
    text += "\r\n";
    if (text.size() > max_bytes) {
      text.resize(before);
      break;
    }
    ++rendered.rows;
  }
  return rendered;
}

RowText RowsAsTable(const SqlResult& result, size_t max_bytes) {
  const Table table(result);
  // More rows take more bytes, but for the last line, which the whole result may lack.
  std::string text = table.Render(result.rows.size(), max_bytes);
  if (text.size() <= max_bytes) return {std::move(text), result.rows.size()};
  size_t fits = 0;
  size_t too_many = result.rows.size();
  while (too_many - fits > 1) {
    const size_t middle = fits + (too_many - fits) / 2;
    (table.Render(middle, max_bytes).size() <= max_bytes ? fits : too_many) = middle;
  }
  return {table.Render(fits, max_bytes), fits};
}

}  // namespace octogate::gateway

#include "gateway/sql/row_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/utf8.h"

namespace octogate::gateway {
namespace {

SqlResult Sample() {
  SqlResult result;
  result.columns = {"id", "na\"me", ""};
  result.rows = {{int64_t{1}, std::string("Zoë, \"Z\"\n"), 0.1},
                 {std::numeric_limits<int64_t>::min(), SqlValue(), -2.0},
                 {SqlBlob{3}, std::string(), HUGE_VAL}};
  return result;
}

TEST(RowTextTest, Json) {
  EXPECT_EQ(RowsAsJson(Sample(), 1000).text,
            "{\"columns\":[\"id\",\"na\\\"me\",\"\"],\"rows\":[[1,\"Zoë, \\\"Z\\\"\\n\",0.1],"
            "[-9223372036854775808,null,-2.0],[{\"blob_bytes\":3},\"\",\"Infinity\"]],"
            "\"truncated\":false}");
}

TEST(RowTextTest, Csv) {
  EXPECT_EQ(RowsAsCsv(Sample(), 1000).text,
            "id,\"na\"\"me\",\"\"\r\n1,\"Zoë, \"\"Z\"\"\n\",0.1\r\n-9223372036854775808,,-2.0\r\n"
            "(blob of 3 bytes),\"\",Infinity\r\n");
}

TEST(RowTextTest, Table) {
  EXPECT_EQ(RowsAsTable(Sample(), 1000).text,
            "id                   | na\"me      | \n"
            "---------------------+------------+---------\n"
            "                   1 | Zoë, \"Z\"\\n |      0.1\n"
            "-9223372036854775808 | NULL       |     -2.0\n"
            "(blob of 3 bytes)    |            | Infinity\n");
  SqlResult cut = Sample();
  cut.rows.resize(1);
  cut.truncation = SqlTruncation::kRows;
  EXPECT_THAT(RowsAsTable(cut, 1000).text, ::testing::EndsWith("\n(1 of more rows)\n"));
}

// Splits CSV by the grammar of RFC 4180; a field that is not quoted and empty is "NULL".
std::vector<std::vector<std::string>> ParseCsv(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1);
  std::string field;
  bool quoted = false;
  bool was_quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted) {
      if (text[i] != '"') {
        field += text[i];
      } else if (i + 1 < text.size() && text[i + 1] == '"') {
        field += text[++i];
      } else {
        quoted = false;
      }
    } else if (text[i] == '"') {
      quoted = was_quoted = true;
    } else if (text[i] == ',' || text[i] == '\r') {
      rows.back().push_back(field.empty() && !was_quoted ? "NULL" : field);
      field.clear();
      was_quoted = false;
      if (text[i] == '\r') {
        EXPECT_EQ(text[++i], '\n');
        rows.emplace_back();
      }
    } else {
      field += text[i];
    }
  }
  EXPECT_TRUE(rows.back().empty());
  rows.pop_back();
  return rows;
}

TEST(RowTextTest, RandomResultsAreReadBackAndKeepWholeRows) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const std::vector<std::string> pieces = {"a", ",", "\"", "\n",   "\r", "é",
                                           "€", "😀", "\\", "\x01", " ",  std::string(1, '\0')};
  for (int round = 0; round < 300; ++round) {
    SqlResult result;
    const auto text = [&] {
      std::string value;
      for (size_t n = random() % 6; n > 0; --n) value += pieces[random() % pieces.size()];
      return value;
    };
    const size_t width = 1 + random() % 4;
    for (size_t i = 0; i < width; ++i) result.columns.push_back(text());
    for (size_t rows = random() % 8; rows > 0; --rows) {
      auto& row = result.rows.emplace_back();
      for (size_t i = 0; i < width; ++i) {
        switch (random() % 4) {
          case 0:
            row.emplace_back();
            break;
          case 1:
            row.emplace_back(static_cast<int64_t>(random()) - 2'000'000'000);
            break;
          case 2:
            row.emplace_back(static_cast<double>(random()) / 1000.0);
            break;
          default:
            row.emplace_back(text());
        }
      }
    }
    const size_t limit = random() % 400;

    const RowText json = RowsAsJson(result, limit);
    const auto parsed = nlohmann::json::parse(json.text);
    ASSERT_EQ(parsed["columns"], nlohmann::json(result.columns));
    ASSERT_EQ(parsed["rows"].size(), json.rows);
    for (size_t r = 0; r < json.rows; ++r) {
      for (size_t i = 0; i < width; ++i) {
        const auto& cell = parsed["rows"][r][i];
        const SqlValue& value = result.rows[r][i];
        if (const auto* integer = std::get_if<int64_t>(&value)) {
          EXPECT_EQ(cell.get<int64_t>(), *integer);
        } else if (const auto* real = std::get_if<double>(&value)) {
          EXPECT_EQ(cell.get<double>(), *real);
        } else if (const auto* string = std::get_if<std::string>(&value)) {
          EXPECT_EQ(cell.get<std::string>(), *string);
        } else {
          EXPECT_TRUE(cell.is_null());
        }
      }
    }
    EXPECT_EQ(parsed["truncated"].is_string(), json.rows < result.rows.size());

    const RowText csv = RowsAsCsv(result, limit);
    const auto lines = ParseCsv(csv.text);
    ASSERT_EQ(lines.size(), csv.rows + 1);
    EXPECT_EQ(lines[0], result.columns);
    for (size_t r = 0; r < csv.rows; ++r) {
      ASSERT_EQ(lines[r + 1].size(), width);
      for (size_t i = 0; i < width; ++i) {
        if (const auto* string = std::get_if<std::string>(&result.rows[r][i])) {
          EXPECT_EQ(lines[r + 1][i], *string);
        } else if (std::holds_alternative<std::monostate>(result.rows[r][i])) {
          EXPECT_EQ(lines[r + 1][i], "NULL");
        }
      }
    }

    const RowText table = RowsAsTable(result, limit);
    const bool is_cut = table.rows < result.rows.size();
    EXPECT_EQ(std::count(table.text.begin(), table.text.end(), '\n'),
              static_cast<std::ptrdiff_t>(table.rows + 2 + is_cut));
    for (const auto& [rendered, all] :
         {std::pair(json, RowsAsJson(result, 1 << 20)), std::pair(csv, RowsAsCsv(result, 1 << 20)),
          std::pair(table, RowsAsTable(result, 1 << 20))}) {
      EXPECT_TRUE(IsValidUtf8(rendered.text));
      EXPECT_TRUE(rendered.text.size() <= limit || rendered.rows == 0);
      EXPECT_EQ(all.rows, result.rows.size());
    }
  }
}

// Padding all rows to the wide one would take tens of gigabytes.
TEST(RowTextTest, OneWideCellAmongManyRowsTakesNoMoreThanTheLimit) {
  SqlResult result{.columns = {"a", "b"}};
  result.rows.push_back({std::string(900'000, 'x'), std::string()});
  for (int i = 0; i < 60'000; ++i) result.rows.push_back({std::string(), std::string()});
  const RowText text = RowsAsTable(result, size_t{4} << 20);
  EXPECT_LE(text.text.size(), size_t{4} << 20);
  EXPECT_EQ(text.rows, 2U);
}

}  // namespace
}  // namespace octogate::gateway

#include "tests/gateway/sql/sql_test_files.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace octogate::gateway {

TestFolder::TestFolder() {
  path_ = absl::StrCat(::testing::TempDir(), "/sql_XXXXXX");
  if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "cannot make " << path_;
}

TestFolder::~TestFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::vector<std::string> TestFolder::List() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void RunOnFile(const std::string& path, const std::string& sql) {
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  char* error = nullptr;
  EXPECT_EQ(sqlite3_exec(database, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK)
      << error << " in " << sql;
  sqlite3_free(error);
  EXPECT_EQ(sqlite3_close(database), SQLITE_OK);
}

SqlResult PlainResult(const std::string& path, const std::string& sql) {
  SqlResult result;
  sqlite3* database = nullptr;
  EXPECT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
  sqlite3_stmt* statement = nullptr;
  EXPECT_EQ(sqlite3_prepare_v2(database, sql.c_str(), -1, &statement, nullptr), SQLITE_OK)
      << sqlite3_errmsg(database) << " in " << sql;
  const int width = sqlite3_column_count(statement);
  for (int i = 0; i < width; ++i) result.columns.emplace_back(sqlite3_column_name(statement, i));
  while (sqlite3_step(statement) == SQLITE_ROW) {
    std::vector<SqlValue>& row = result.rows.emplace_back();
    for (int i = 0; i < width; ++i) {
      const auto bytes = [&] { return static_cast<size_t>(sqlite3_column_bytes(statement, i)); };
      switch (sqlite3_column_type(statement, i)) {
        case SQLITE_NULL:
          row.emplace_back();
          break;
        case SQLITE_INTEGER:
          row.emplace_back(int64_t{sqlite3_column_int64(statement, i)});
          break;
        case SQLITE_FLOAT:
          row.emplace_back(sqlite3_column_double(statement, i));
          break;
        case SQLITE_BLOB:
          row.emplace_back(SqlBlob{bytes()});
          break;
        default: {
          const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
          row.emplace_back(std::string(text, bytes()));
        }
      }
    }
  }
  EXPECT_EQ(sqlite3_finalize(statement), SQLITE_OK) << sqlite3_errmsg(database) << " in " << sql;
  sqlite3_close(database);
  return result;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
}

std::string Describe(const SqlResult& result) {
  std::string text;
  for (const auto& row : result.rows) {
    for (const SqlValue& value : row) {
      if (std::holds_alternative<std::monostate>(value)) {
        text += "NULL|";
      } else if (const auto* integer = std::get_if<int64_t>(&value)) {
        absl::StrAppend(&text, *integer, "|");
      } else if (const auto* real = std::get_if<double>(&value)) {
        absl::StrAppend(&text, *real, "|");
      } else if (const auto* string = std::get_if<std::string>(&value)) {
        absl::StrAppend(&text, *string, "|");
      } else {
        absl::StrAppend(&text, "blob of ", std::get<SqlBlob>(value).bytes, "|");
      }
    }
    text += "\n";
  }
  return text;
}

}  // namespace octogate::gateway

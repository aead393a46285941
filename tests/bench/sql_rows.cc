#include "tests/bench/sql_rows.h"

#include <sqlite3.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace octogate::bench {
namespace {

using nlohmann::json;

constexpr size_t kMaxRows = 100'000;
constexpr absl::Duration kMaxTime = absl::Seconds(10);

json ValueOf(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_NULL:
      return nullptr;
    case SQLITE_INTEGER:
      return sqlite3_column_int64(statement, column);
    case SQLITE_FLOAT:
      return sqlite3_column_double(statement, column);
    case SQLITE_BLOB:
      return {{"blob_bytes", sqlite3_column_bytes(statement, column)}};
    default:
      return std::string(reinterpret_cast<const char*>(sqlite3_column_text(statement, column)),
                         static_cast<size_t>(sqlite3_column_bytes(statement, column)));
  }
}

// Below, at and above: kinds in order, numbers by value with those that are nearly equal at.
int Compare(const json& left, const json& right) {
  const auto kind = [](const json& value) {
    return value.is_null() ? 0 : value.is_number() ? 1 : value.is_string() ? 2 : 3;
  };
  if (kind(left) != kind(right)) return kind(left) < kind(right) ? -1 : 1;
  if (kind(left) == 1) {
    if (left.is_number_integer() && right.is_number_integer()) {
      const auto a = left.get<int64_t>();
      const auto b = right.get<int64_t>();
      return a < b ? -1 : a > b ? 1 : 0;
    }
    const auto a = left.get<double>();
    const auto b = right.get<double>();
    if (std::abs(a - b) <= 1e-9 * std::max({1.0, std::abs(a), std::abs(b)})) return 0;
    return a < b ? -1 : 1;
  }
  if (kind(left) == 2) {
    const int order =
        left.get_ref<const std::string&>().compare(right.get_ref<const std::string&>());
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  return left == right ? 0 : left < right ? -1 : 1;
}

bool RowLess(const std::vector<json>& left, const std::vector<json>& right) {
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    const int order = Compare(left[i], right[i]);
    if (order != 0) return order < 0;
  }
  return left.size() < right.size();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ReferenceDatabase>> ReferenceDatabase::Open(
    const std::filesystem::path& file) {
  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(file.c_str(), &database, SQLITE_OPEN_READONLY, nullptr);
  if (code != SQLITE_OK) {
    sqlite3_close(database);
    return absl::NotFoundError(absl::StrCat(file.string(), ": ", sqlite3_errstr(code)));
  }
  sqlite3_db_config(database, SQLITE_DBCONFIG_DQS_DML, 0, nullptr);
  return std::unique_ptr<ReferenceDatabase>(new ReferenceDatabase(database));
}

ReferenceDatabase::~ReferenceDatabase() { sqlite3_close(database_); }

absl::StatusOr<SqlRows> ReferenceDatabase::Run(std::string_view statement) const {
  sqlite3_stmt* prepared = nullptr;
  if (sqlite3_prepare_v2(database_, statement.data(), static_cast<int>(statement.size()), &prepared,
                         nullptr) != SQLITE_OK ||
      prepared == nullptr) {
    return absl::InvalidArgumentError(sqlite3_errmsg(database_));
  }
  const absl::Time end = absl::Now() + kMaxTime;
  sqlite3_progress_handler(
      database_, 10'000,
      [](void* until) { return absl::Now() > *static_cast<const absl::Time*>(until) ? 1 : 0; },
      const_cast<absl::Time*>(&end));
  SqlRows rows;
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(prepared)) == SQLITE_ROW && rows.size() <= kMaxRows) {
    std::vector<json>& row = rows.emplace_back();
    for (int i = 0; i < sqlite3_column_count(prepared); ++i) row.push_back(ValueOf(prepared, i));
  }
  const std::string message = sqlite3_errmsg(database_);
  sqlite3_finalize(prepared);
  sqlite3_progress_handler(database_, 0, nullptr, nullptr);
  if (code == SQLITE_INTERRUPT) return absl::ResourceExhaustedError("takes more than ten seconds");
  if (code == SQLITE_ROW) return absl::ResourceExhaustedError("gives more than 100,000 rows");
  if (code != SQLITE_DONE) return absl::InvalidArgumentError(message);
  return rows;
}

absl::StatusOr<SqlSchema> ReferenceDatabase::Schema() const {
  const absl::StatusOr<SqlRows> rows =
      Run("SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c "
          "WHERE m.type = 'table' ORDER BY m.name, c.cid");
  if (!rows.ok()) return rows.status();
  SqlSchema schema;
  for (const auto& row : *rows) schema[row[0]].push_back(row[1]);
  return schema;
}

absl::Status ExecuteSql(const std::filesystem::path& file, const std::string& script) {
  sqlite3* database = nullptr;
  absl::Status status;
  char* error = nullptr;
  if (sqlite3_open(file.c_str(), &database) != SQLITE_OK ||
      sqlite3_exec(database, script.c_str(), nullptr, nullptr, &error) != SQLITE_OK) {
    status = absl::InvalidArgumentError(
        absl::StrCat(file.string(), ": ", error != nullptr ? error : sqlite3_errmsg(database)));
  }
  sqlite3_free(error);
  sqlite3_close(database);
  return status;
}

absl::StatusOr<SqlRows> ParseRows(std::string_view text) {
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("rows") || !parsed["rows"].is_array()) {
    return absl::InvalidArgumentError("not rows in JSON");
  }
  if (parsed.contains("truncated") && parsed["truncated"] != false) {
    return absl::ResourceExhaustedError("rows were left out");
  }
  SqlRows rows;
  for (const json& row : parsed["rows"]) rows.push_back(row.get<std::vector<json>>());
  return rows;
}

bool SameRows(const SqlRows& left, const SqlRows& right, bool ordered) {
  if (left.size() != right.size()) return false;
  SqlRows a = left;
  SqlRows b = right;
  if (!ordered) {
    std::sort(a.begin(), a.end(), RowLess);
    std::sort(b.begin(), b.end(), RowLess);
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].size() != b[i].size() || RowLess(a[i], b[i]) || RowLess(b[i], a[i])) return false;
  }
  return true;
}

}  // namespace octogate::bench

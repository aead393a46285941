#include "retrieval/schema/sqlite_reader.h"

#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "retrieval/schema/inferred_keys.h"
#include "retrieval/schema/sensitive.h"

namespace octogate::schema {
namespace {

constexpr int kStepsPerCheck = 1000;

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Database = std::unique_ptr<sqlite3, CloseDatabase>;
using Statement = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

// What SQLite's progress handler counts down.
struct StepBudget {
  uint64_t column = 0;
  uint64_t file = 0;
  absl::Time deadline;

  static int Spend(void* self) {
    auto* budget = static_cast<StepBudget*>(self);
    if (budget->column < kStepsPerCheck || budget->file < kStepsPerCheck) return 1;
    if (absl::Now() >= budget->deadline) return 1;
    budget->column -= kStepsPerCheck;
    budget->file -= kStepsPerCheck;
    return 0;
  }
};

std::string QuotedIdentifier(std::string_view name) {
  return absl::StrCat("\"", absl::StrReplaceAll(ToAbsl(name), {{"\"", "\"\""}}), "\"");
}

std::string TextAt(sqlite3_stmt* row, int index) {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(row, index));
  return text == nullptr ? std::string()
                         : std::string(text, static_cast<size_t>(sqlite3_column_bytes(row, index)));
}

class Reader {
 public:
  Reader(std::string path, const SqliteReaderOptions& options)
      : path_(std::move(path)), options_(options) {}

  absl::StatusOr<Schema> Read() {
    const absl::Status status = ReadAll();
    // Whatever the late statement was about.
    if (absl::Now() >= options_.deadline) {
      return absl::DeadlineExceededError(absl::StrCat(path_, ": reading it took too long"));
    }
    if (!status.ok()) return status;
    return std::move(schema_);
  }

 private:
  absl::Status ReadAll() {
    OCTOGATE_RETURN_IF_ERROR(Open());
    schema_.name = std::filesystem::path(path_).stem().string();
    OCTOGATE_RETURN_IF_ERROR(ReadTables());
    for (size_t i = 0; i < schema_.tables.size(); ++i) {
      OCTOGATE_RETURN_IF_ERROR(ReadColumns(&schema_.tables[i]));
      if (kinds_[i] != "table") continue;
      OCTOGATE_RETURN_IF_ERROR(ReadForeignKeys(&schema_.tables[i]));
    }
    // Last, so that the rest does not lack what they take of the budget.
    for (size_t i = 0; i < schema_.tables.size(); ++i) {
      if (absl::Now() >= options_.deadline) break;
      if (kinds_[i] == "table") ReadAllValues(&schema_.tables[i]);
    }
    return absl::OkStatus();
  }

  absl::Status Error(std::string_view doing) const {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": ", ToAbsl(doing), ": ", sqlite3_errmsg(database_.get())));
  }

  absl::Status Open() {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path_, error)) {
      return absl::NotFoundError(absl::StrCat(path_, ": there is no such file"));
    }
    sqlite3* opened = nullptr;
    const int code = sqlite3_open_v2(path_.c_str(), &opened,
                                     SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
    database_.reset(opened);
    if (code != SQLITE_OK) return Error("cannot be opened");
    sqlite3* db = database_.get();
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 1 << 24);
    sqlite3_limit(db, SQLITE_LIMIT_EXPR_DEPTH, 100);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
    sqlite3_busy_timeout(db, 1000);
    budget_.file = options_.max_steps;
    budget_.column = options_.max_steps;
    budget_.deadline = options_.deadline;
    sqlite3_progress_handler(db, kStepsPerCheck, &StepBudget::Spend, &budget_);
    return Run("PRAGMA cell_size_check = ON", [](sqlite3_stmt*) { return absl::OkStatus(); });
  }

  // Calls `each` with every row.
  template <typename Each>
  absl::Status Run(const std::string& sql, Each each) {
    sqlite3_stmt* prepared = nullptr;
    if (sqlite3_prepare_v2(database_.get(), sql.c_str(), -1, &prepared, nullptr) != SQLITE_OK) {
      return Error(sql);
    }
    const Statement statement(prepared);
    int code = SQLITE_ROW;
    while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
      OCTOGATE_RETURN_IF_ERROR(each(statement.get()));
    }
    return code == SQLITE_DONE ? absl::OkStatus() : Error(sql);
  }

  absl::Status ReadTables() {
    // "table_list" says which are virtual; shadow tables belong to those.
    OCTOGATE_RETURN_IF_ERROR(Run("PRAGMA main.table_list", [&](sqlite3_stmt* row) {
      std::string name = TextAt(row, 1);
      const std::string kind = TextAt(row, 2);
      if (kind == "shadow" || name.rfind("sqlite_", 0) == 0) return absl::OkStatus();
      OCTOGATE_RETURN_IF_ERROR(CheckName(name, path_));
      if (schema_.tables.size() == kMaxTables) {
        return absl::ResourceExhaustedError(
            absl::StrCat(path_, ": has more than ", kMaxTables, " tables"));
      }
      schema_.tables.push_back({.name = std::move(name)});
      kinds_.push_back(kind);
      return absl::OkStatus();
    }));
    // The list's order depends on a hash: that of the catalog does not.
    std::vector<std::pair<std::string, std::string>> named;
    for (size_t i = 0; i < kinds_.size(); ++i)
      named.emplace_back(schema_.tables[i].name, kinds_[i]);
    std::sort(named.begin(), named.end());
    for (size_t i = 0; i < kinds_.size(); ++i) {
      schema_.tables[i].name = named[i].first;
      kinds_[i] = named[i].second;
    }
    return absl::OkStatus();
  }

  absl::Status ReadColumns(Table* table) {
    const absl::Status status =
        Run(absl::StrCat("PRAGMA main.table_xinfo(", QuotedIdentifier(table->name), ")"),
            [&](sqlite3_stmt* row) {
              const int hidden = sqlite3_column_int(row, 6);  // 2: computed when it is read
              if (hidden == 1) return absl::OkStatus();
              Column column;
              column.values_truncated = hidden == 2;
              column.name = TextAt(row, 1);
              column.type = TextAt(row, 2);
              column.primary_key = sqlite3_column_int(row, 5) > 0;
              column.sensitive = options_.guess_sensitive && IsSensitiveName(column.name);
              OCTOGATE_RETURN_IF_ERROR(
                  CheckName(column.name, absl::StrCat(path_, ": table ", Quoted(table->name))));
              table->columns.push_back(std::move(column));
              return absl::OkStatus();
            });
    // A view whose tables are gone, or a virtual table of an unknown module.
    if (absl::IsInvalidArgument(status) && table->columns.empty()) {
      Warn(std::string(status.message()), &schema_);
      return absl::OkStatus();
    }
    return status;
  }

  absl::Status ReadForeignKeys(Table* table) {
    std::map<int, ForeignKey> keys;
    OCTOGATE_RETURN_IF_ERROR(
        Run(absl::StrCat("PRAGMA main.foreign_key_list(", QuotedIdentifier(table->name), ")"),
            [&](sqlite3_stmt* row) {
              ForeignKey& key = keys[sqlite3_column_int(row, 0)];
              key.table = TextAt(row, 2);
              key.columns.push_back(TextAt(row, 3));
              // Without names the key is the other table's primary key.
              if (sqlite3_column_type(row, 4) != SQLITE_NULL) {
                key.references.push_back(TextAt(row, 4));
              }
              return absl::OkStatus();
            }));
    for (auto& [id, key] : keys) table->foreign_keys.push_back(std::move(key));
    return absl::OkStatus();
  }

  void ReadAllValues(Table* table) {
    if (options_.max_values_per_column == 0) return;
    for (Column& column : table->columns) {
      // The expression of a computed column is the file's: one call may take hours.
      if (column.sensitive || column.values_truncated) continue;
      const TypeClass type = ClassOf(column.type);
      const bool text = type == TypeClass::kText || type == TypeClass::kUnknown;
      ReadValues(*table,
                 text ? options_.max_values_per_column : options_.max_other_values_per_column,
                 &column);
    }
  }

  void ReadValues(const Table& table, size_t limit, Column* column) {
    if (limit == 0) return;
    budget_.column = options_.max_steps_per_column;
    const std::string name = QuotedIdentifier(column->name);
    size_t skipped = 0;
    const absl::Status status = Run(
        absl::StrCat("SELECT DISTINCT ", name, " FROM main.", QuotedIdentifier(table.name),
                     " WHERE typeof(", name, ") IN ('text', 'integer', 'real') LIMIT ", limit + 1),
        [&](sqlite3_stmt* row) {
          std::string value = TextAt(row, 0);
          const bool fits = !value.empty() && value.size() <= kMaxValueBytes &&
                            FindInvalidUtf8(value) == std::string_view::npos;
          if (fits && column->values.size() < limit) {
            column->values.push_back(std::move(value));
          } else if (!value.empty()) {
            ++skipped;
          }
          return absl::OkStatus();
        });
    column->values_truncated = skipped > 0 || !status.ok();
    std::sort(column->values.begin(), column->values.end());
    if (!status.ok()) {
      Warn(absl::StrCat("values of ", Quoted(table.name), ".", Quoted(column->name),
                        " are not complete: ", status.message()),
           &schema_);
    }
    budget_.column = options_.max_steps;
  }

  const std::string path_;
  const SqliteReaderOptions options_;
  StepBudget budget_;
  Database database_;
  Schema schema_;
  std::vector<std::string> kinds_;  // of the tables: table, view, virtual
};

}  // namespace

absl::StatusOr<Schema> ReadSqliteSchema(const std::string& path,
                                        const SqliteReaderOptions& options) {
  return Reader(path, options).Read();
}

}  // namespace octogate::schema

#include "gateway/sql/sqlite_connection.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "gateway/sql/sqlite_functions.h"
#include "gateway/sql/sqlite_memory.h"

namespace octogate::gateway {
namespace {

constexpr int kInstructionsPerCheck = 100;
constexpr absl::Duration kMaxLockWait = absl::Seconds(5);
constexpr absl::Duration kLockPoll = absl::Milliseconds(10);
constexpr size_t kMaxMessageBytes = 500;

absl::Status NotPermitted(std::string_view what) {
  return absl::PermissionDeniedError(
      absl::StrCat("the statement may not use ", ToAbsl(what),
                   ": only reading, of what the caller is permitted to read, is allowed"));
}

}  // namespace

absl::StatusOr<FileIdentity> IdentifyFile(const std::string& path) {
  struct stat found;
  if (stat(path.c_str(), &found) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) {
      return absl::NotFoundError(absl::StrCat("there is no database file ", path));
    }
    return absl::UnavailableError(
        absl::StrCat("the database file ", path, " cannot be reached: ", std::strerror(errno)));
  }
  if (!S_ISREG(found.st_mode)) {
    return absl::NotFoundError(absl::StrCat(path, " is no file, so no SQLite database"));
  }
  return FileIdentity{found.st_dev, found.st_ino};
}

absl::StatusOr<std::unique_ptr<SqliteConnection>> SqliteConnection::Open(
    const SqliteOptions& options) {
  auto connection = std::unique_ptr<SqliteConnection>(new SqliteConnection(options));
  OCTOGATE_ASSIGN_OR_RETURN(connection->file_, IdentifyFile(options.path));
  // Debian's SQLite takes "file:" for a URI whatever the flags say.
  const std::string path =
      absl::StartsWith(options.path, "file:") ? absl::StrCat("./", options.path) : options.path;
  sqlite3* opened = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &opened, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, nullptr);
  connection->database_.reset(opened);
  if (code != SQLITE_OK) {
    return absl::UnavailableError(absl::StrCat("the database file ", options.path,
                                               " cannot be opened: ", sqlite3_errstr(code)));
  }
  OCTOGATE_RETURN_IF_ERROR(connection->Configure());
  return connection;
}

absl::Status SqliteConnection::Configure() {
  sqlite3* db = database_.get();
  sqlite3_extended_result_codes(db, 1);
  struct Setting {
    int name;
    int value;
  };
  constexpr Setting kSettings[] = {
      {SQLITE_DBCONFIG_DEFENSIVE, 1},
      {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
      {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
      {SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0},
      {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
      {SQLITE_DBCONFIG_WRITABLE_SCHEMA, 0},
      // Of statements and views; tables' definitions that rely on it must stay readable.
      {SQLITE_DBCONFIG_DQS_DML, 0},
  };
  for (const Setting& setting : kSettings) {
    int now = -1;
    if (sqlite3_db_config(db, setting.name, setting.value, &now) != SQLITE_OK ||
        now != setting.value) {
      return absl::FailedPreconditionError(absl::StrCat("this SQLite (", sqlite3_libversion(),
                                                        ") cannot be set to be safe: option ",
                                                        setting.name, " is not supported"));
    }
  }
  const int value_bytes = static_cast<int>(options_.max_value_bytes);
  sqlite3_limit(db, SQLITE_LIMIT_LENGTH, value_bytes);
  // The definitions in the file count, too.
  sqlite3_limit(db, SQLITE_LIMIT_SQL_LENGTH, 1 << 20);
  sqlite3_limit(db, SQLITE_LIMIT_EXPR_DEPTH, 200);
  sqlite3_limit(db, SQLITE_LIMIT_COMPOUND_SELECT, 100);
  sqlite3_limit(db, SQLITE_LIMIT_VDBE_OP, 250'000);
  sqlite3_limit(db, SQLITE_LIMIT_FUNCTION_ARG, 100);
  sqlite3_limit(db, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 500);
  sqlite3_limit(db, SQLITE_LIMIT_VARIABLE_NUMBER, 100);
  sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
  sqlite3_limit(db, SQLITE_LIMIT_TRIGGER_DEPTH, 1);
  sqlite3_limit(db, SQLITE_LIMIT_WORKER_THREADS, 0);

  const char* modules[] = {"json_each", "json_tree", nullptr};
  sqlite3_drop_modules(db, modules);
  OCTOGATE_RETURN_IF_ERROR(ReplaceQuadraticFunctions(db));

  sqlite3_set_authorizer(db, &SqliteAuthorizer::Callback, &authorizer_);
  sqlite3_progress_handler(db, kInstructionsPerCheck, &SqliteConnection::OnProgress, this);
  sqlite3_busy_handler(db, &SqliteConnection::OnBusy, this);
  return absl::OkStatus();
}

absl::Status SqliteConnection::Run(std::string_view statement, const SqlCallOptions& call,
                                   SqlResult* result) {
  call_ = &call;
  started_ = absl::Now();
  stopped_ = absl::OkStatus();
  absl::Status status;
  {
    const SqliteMemoryLimit memory(options_.max_memory_bytes);
    status = MustStop() ? stopped_ : RunInSnapshot(statement, result);
    if (memory.exceeded()) reusable_ = false;
  }
  authorizer_.End();
  stopped_ = absl::OkStatus();
  call_ = nullptr;
  if (sqlite3_get_autocommit(database_.get()) == 0 && !RunInternal("ROLLBACK").ok()) {
    reusable_ = false;
  }
  return status;
}

absl::Status SqliteConnection::RunInSnapshot(std::string_view statement, SqlResult* result) {
  if (!is_set_up_) {
    // Temporary tables and sorting stay in memory, which is bounded.
    for (const char* sql : {"PRAGMA query_only = ON", "PRAGMA cell_size_check = ON",
                            "PRAGMA temp_store = MEMORY", "PRAGMA mmap_size = 0"}) {
      OCTOGATE_RETURN_IF_ERROR(RunInternal(sql));
    }
    // Setting up a table-valued function asks the authorizer for writing the schema, so they are
    // set up here. A table of the file may have the name: then it is the one that is read.
    for (const char* sql : {"SELECT 1 FROM json_each('1')", "SELECT 1 FROM json_tree('1')"}) {
      const absl::Status status = RunInternal(sql);
      if (!status.ok() && !absl::IsInvalidArgument(status)) return status;
    }
    is_set_up_ = true;
  }
  OCTOGATE_RETURN_IF_ERROR(RunInternal("BEGIN"));
  // Takes the lock: from here on the file is in one state.
  OCTOGATE_RETURN_IF_ERROR(RunInternal("SELECT 1 FROM main.sqlite_schema LIMIT 1"));
  authorizer_.Begin(call_->permitted);
  OCTOGATE_ASSIGN_OR_RETURN(const Statement compiled, Compile(statement));
  authorizer_.End();
  if (authorizer_.restricted()) OCTOGATE_RETURN_IF_ERROR(CheckTablesRead(statement));
  if (result == nullptr) return absl::OkStatus();
  // For a recompilation, which cannot happen within one state of the file.
  authorizer_.Begin(call_->permitted);
  return ReadRows(compiled.get(), result);
}

absl::StatusOr<SqliteConnection::Statement> SqliteConnection::Compile(std::string_view statement) {
  sqlite3_stmt* prepared = nullptr;
  const char* rest = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), statement.data(),
                                      static_cast<int>(statement.size()), 0, &prepared, &rest);
  Statement compiled(prepared);
  if (!authorizer_.refused().empty()) return NotPermitted(authorizer_.refused());
  if (code != SQLITE_OK) return ErrorFor(code, true);
  if (compiled == nullptr) return absl::InvalidArgumentError("there is no statement");
  // Before anything else is said, since what follows may be what matters.
  const size_t end = static_cast<size_t>(rest - statement.data());
  const std::string_view tail = statement.substr(end);
  sqlite3_stmt* second = nullptr;
  const char* position = tail.data();
  const char* const tail_end = tail.data() + tail.size();
  while (position < tail_end) {
    // Empty statements: semicolons, spaces and comments.
    const char* next = nullptr;
    const int tail_code = sqlite3_prepare_v3(
        database_.get(), position, static_cast<int>(tail_end - position), 0, &second, &next);
    const bool is_empty = tail_code == SQLITE_OK && second == nullptr && next > position;
    sqlite3_finalize(second);
    second = nullptr;
    if (!is_empty) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is more than one statement: the second starts at offset ",
                       position - statement.data()));
    }
    position = next;
  }
  if (sqlite3_stmt_isexplain(compiled.get()) != 0) return NotPermitted("EXPLAIN");
  if (sqlite3_stmt_readonly(compiled.get()) == 0 || !authorizer_.has_select() ||
      sqlite3_column_count(compiled.get()) == 0) {
    return NotPermitted("anything but SELECT and VALUES");
  }
  if (sqlite3_bind_parameter_count(compiled.get()) > 0) {
    const char* name = sqlite3_bind_parameter_name(compiled.get(), 1);
    return absl::InvalidArgumentError(
        absl::StrCat("the statement has a parameter (", name == nullptr ? "?" : name,
                     "), but nothing is given for it: write the value instead"));
  }
  return compiled;
}

absl::Status SqliteConnection::CheckTablesRead(std::string_view statement) {
  OCTOGATE_ASSIGN_OR_RETURN(
      const Statement objects,
      PrepareInternal("SELECT type = 'view', name, lower(name), sql FROM main.sqlite_schema "
                      "WHERE type IN ('table', 'view')"));
  struct View {
    std::string name;
    std::string sql;
  };
  std::vector<View> clear;  // views whose definitions name every column that they read
  std::vector<View> unclear;
  const auto text_at = [&](int i) {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(objects.get(), i));
    return std::string(text == nullptr ? "" : text);
  };
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(objects.get())) == SQLITE_ROW) {
    const std::string table = text_at(2);
    if (authorizer_.read().count(table) > 0 && !authorizer_.Permits(table)) {
      return NotPermitted(absl::StrCat("table ", table));
    }
    if (sqlite3_column_int(objects.get(), 0) == 0) continue;
    View view{text_at(1), text_at(3)};
    (HasJoinByColumnNames(view.sql) ? unclear : clear).push_back(std::move(view));
  }
  if (code != SQLITE_DONE) return ErrorFor(code, false);
  // What uses an unclear view is unclear.
  for (size_t i = 0; i < unclear.size(); ++i) {
    const auto uses = std::stable_partition(clear.begin(), clear.end(), [&](const View& view) {
      return !Mentions(view.sql, unclear[i].name);
    });
    const std::vector<View> users(uses, clear.end());
    clear.erase(uses, clear.end());
    unclear.insert(unclear.end(), users.begin(), users.end());
  }
  for (const View& view : unclear) {
    if (!Mentions(statement, view.name)) continue;
    return NotPermitted(absl::StrCat(
        "view ", view.name, ", which compares columns without naming them (NATURAL or USING)"));
  }
  if (HasJoinByColumnNames(statement)) {
    return NotPermitted("NATURAL or USING, which compares columns without naming them (write ON)");
  }
  return absl::OkStatus();
}

absl::Status SqliteConnection::ReadRows(sqlite3_stmt* statement, SqlResult* result) {
  const int width = sqlite3_column_count(statement);
  for (int i = 0; i < width; ++i) {
    const char* name = sqlite3_column_name(statement, i);
    if (name == nullptr) return ErrorFor(SQLITE_NOMEM, false);
    result->columns.push_back(SanitizeUtf8(name, std::strlen(name)));
  }
  OCTOGATE_ASSIGN_OR_RETURN(size_t bytes, BytesOfNames(*result, call_->max_bytes));
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
    if (result->rows.size() >= call_->max_rows) {
      result->truncation = SqlTruncation::kRows;
      return absl::OkStatus();
    }
    std::vector<SqlValue> row(static_cast<size_t>(width));
    for (int i = 0; i < width; ++i) {
      SqlValue& value = row[static_cast<size_t>(i)];
      size_t size = 8;
      switch (sqlite3_column_type(statement, i)) {
        case SQLITE_INTEGER:
          value = int64_t{sqlite3_column_int64(statement, i)};
          break;
        case SQLITE_FLOAT:
          value = sqlite3_column_double(statement, i);
          break;
        case SQLITE_TEXT: {
          const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, i));
          if (text == nullptr) return ErrorFor(SQLITE_NOMEM, false);
          size = static_cast<size_t>(sqlite3_column_bytes(statement, i));
          if (size <= call_->max_bytes - bytes) {
            value = SanitizeUtf8(std::string_view(text, size), size);
          }
          break;
        }
        case SQLITE_BLOB:
          value = SqlBlob{static_cast<uint64_t>(sqlite3_column_bytes(statement, i))};
          break;
      }
      if (size > call_->max_bytes - bytes) {
        result->truncation = SqlTruncation::kBytes;
        return absl::OkStatus();
      }
      bytes += size;
    }
    result->rows.push_back(std::move(row));
  }
  if (code == SQLITE_DONE) return absl::OkStatus();
  if (!authorizer_.refused().empty()) return NotPermitted(authorizer_.refused());
  return ErrorFor(code, false);
}

absl::StatusOr<SqliteConnection::Statement> SqliteConnection::PrepareInternal(const char* sql) {
  sqlite3_stmt* prepared = nullptr;
  const int code = sqlite3_prepare_v3(database_.get(), sql, -1, 0, &prepared, nullptr);
  if (code != SQLITE_OK) return ErrorFor(code, false);
  return Statement(prepared);
}

absl::Status SqliteConnection::RunInternal(const char* sql) {
  OCTOGATE_ASSIGN_OR_RETURN(const Statement statement, PrepareInternal(sql));
  int code = SQLITE_ROW;
  while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
  }
  return code == SQLITE_DONE ? absl::OkStatus() : ErrorFor(code, false);
}

absl::Status SqliteConnection::ErrorFor(int code, bool with_offset) {
  if (!stopped_.ok()) return stopped_;
  const char* text = sqlite3_errmsg(database_.get());
  const std::string message = SanitizeUtf8(text, std::min(std::strlen(text), kMaxMessageBytes));
  switch (code & 0xff) {
    case SQLITE_NOMEM:
      reusable_ = false;
      return absl::ResourceExhaustedError(
          absl::StrCat("the statement takes more than ", options_.max_memory_bytes,
                       " bytes of memory: sort, group or combine less at once"));
    case SQLITE_TOOBIG:
      return absl::ResourceExhaustedError(
          absl::StrCat("the statement reads or makes a value of more than ",
                       options_.max_value_bytes, " bytes: ", message));
    case SQLITE_AUTH:
    case SQLITE_PERM:
      return NotPermitted(message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return WithRetryAfter(absl::UnavailableError(absl::StrCat("the database ", options_.path,
                                                                " is locked by somebody else")),
                            absl::Seconds(1));
    case SQLITE_SCHEMA:
      return WithRetryAfter(absl::UnavailableError("the database's schema changed in the meantime"),
                            absl::Milliseconds(100));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
      reusable_ = false;
      return absl::DataLossError(absl::StrCat("the database ", options_.path, ": ", message));
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
    case SQLITE_READONLY:
    case SQLITE_FULL:
    case SQLITE_PROTOCOL:
    case SQLITE_NOLFS:
      reusable_ = false;
      return absl::UnavailableError(absl::StrCat("the database ", options_.path, ": ", message));
    case SQLITE_ERROR:
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
    case SQLITE_RANGE: {
      const int offset = with_offset ? sqlite3_error_offset(database_.get()) : -1;
      return absl::InvalidArgumentError(
          offset < 0 ? message : absl::StrCat(message, " (at offset ", offset, ")"));
    }
    default:
      reusable_ = false;
      return absl::InternalError(absl::StrCat("SQLite: ", message, " (code ", code, ")"));
  }
}

bool SqliteConnection::MustStop() {
  if (call_ == nullptr) return false;
  if (call_->cancellation != nullptr && call_->cancellation->IsCancelled()) {
    stopped_ = absl::CancelledError("the call was cancelled");
  } else if (absl::Now() >= call_->deadline) {
    stopped_ = absl::DeadlineExceededError(
        "the statement did not end in time: read fewer rows, or join on keys");
  }
  return !stopped_.ok();
}

int SqliteConnection::OnProgress(void* self) noexcept {
  return static_cast<SqliteConnection*>(self)->MustStop() ? 1 : 0;
}

int SqliteConnection::OnBusy(void* self, int /*attempts*/) noexcept {
  auto* connection = static_cast<SqliteConnection*>(self);
  if (connection->MustStop() || absl::Now() - connection->started_ > kMaxLockWait) return 0;
  absl::SleepFor(kLockPoll);
  return 1;
}

}  // namespace octogate::gateway

#include "gateway/sql/sqlite_authorizer.h"

#include <sqlite3.h>

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// Sorted, for binary search.
constexpr auto kFunctions = std::to_array<std::string_view>({
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "soundex",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unicode",
    "unixepoch",
    "unlikely",
    "upper",
});

struct Action {
  int code;
  std::string_view name;
};
// Those whose first argument is worth saying have a preposition.
constexpr Action kActions[] = {
    {SQLITE_ALTER_TABLE, "ALTER TABLE"},
    {SQLITE_ANALYZE, "ANALYZE"},
    {SQLITE_ATTACH, "ATTACH"},
    {SQLITE_CREATE_INDEX, "CREATE INDEX"},
    {SQLITE_CREATE_TABLE, "CREATE TABLE"},
    {SQLITE_CREATE_TEMP_INDEX, "CREATE TEMP INDEX"},
    {SQLITE_CREATE_TEMP_TABLE, "CREATE TEMP TABLE"},
    {SQLITE_CREATE_TEMP_TRIGGER, "CREATE TEMP TRIGGER"},
    {SQLITE_CREATE_TEMP_VIEW, "CREATE TEMP VIEW"},
    {SQLITE_CREATE_TRIGGER, "CREATE TRIGGER"},
    {SQLITE_CREATE_VIEW, "CREATE VIEW"},
    {SQLITE_CREATE_VTABLE, "CREATE VIRTUAL TABLE"},
    {SQLITE_DELETE, "DELETE FROM"},
    {SQLITE_DETACH, "DETACH"},
    {SQLITE_DROP_INDEX, "DROP INDEX"},
    {SQLITE_DROP_TABLE, "DROP TABLE"},
    {SQLITE_DROP_TEMP_INDEX, "DROP TEMP INDEX"},
    {SQLITE_DROP_TEMP_TABLE, "DROP TEMP TABLE"},
    {SQLITE_DROP_TEMP_TRIGGER, "DROP TEMP TRIGGER"},
    {SQLITE_DROP_TEMP_VIEW, "DROP TEMP VIEW"},
    {SQLITE_DROP_TRIGGER, "DROP TRIGGER"},
    {SQLITE_DROP_VIEW, "DROP VIEW"},
    {SQLITE_DROP_VTABLE, "DROP VIRTUAL TABLE"},
    {SQLITE_INSERT, "INSERT INTO"},
    {SQLITE_PRAGMA, "PRAGMA"},
    {SQLITE_REINDEX, "REINDEX"},
    {SQLITE_SAVEPOINT, "SAVEPOINT"},
    {SQLITE_TRANSACTION, "transactions:"},
    {SQLITE_UPDATE, "UPDATE"},
};

// SQLite ignores the case of ASCII letters in names, and of no others.
std::string Small(std::string_view name) { return absl::AsciiStrToLower(ToAbsl(name)); }

bool IsNameStart(unsigned char c) { return absl::ascii_isalpha(c) || c == '_' || c >= 0x80; }

}  // namespace

bool IsPermittedSqliteFunction(std::string_view name) {
  return std::binary_search(kFunctions.begin(), kFunctions.end(), std::string_view(Small(name)));
}

bool HasJoinByColumnNames(std::string_view sql) {
  size_t i = 0;
  const auto skip_past = [&](std::string_view end, size_t from) {
    const size_t found = sql.find(end, from);
    i = found == std::string_view::npos ? sql.size() : found + end.size();
  };
  while (i < sql.size()) {
    const char c = sql[i];
    if (c == '\'' || c == '"' || c == '`') {
      // A doubled quotation mark ends one text and starts the next: nothing is lost.
      skip_past(std::string_view(&c, 1), i + 1);
    } else if (c == '[') {
      skip_past("]", i + 1);
    } else if (sql.substr(i, 2) == "--") {
      skip_past("\n", i + 2);
    } else if (sql.substr(i, 2) == "/*") {
      skip_past("*/", i + 2);
    } else if (sql.substr(i, 3) == "\xef\xbb\xbf") {
      i += 3;  // where a word could start, SQLite takes a byte order mark for a space
    } else if (IsNameStart(c)) {
      const size_t begin = i;
      while (i < sql.size() &&
             (IsNameStart(sql[i]) || absl::ascii_isdigit(sql[i]) || sql[i] == '$'))
        ++i;
      const absl::string_view word = ToAbsl(sql.substr(begin, i - begin));
      if (absl::EqualsIgnoreCase(word, "natural") || absl::EqualsIgnoreCase(word, "using")) {
        return true;
      }
    } else {
      ++i;
    }
  }
  return false;
}

bool Mentions(std::string_view sql, std::string_view name) {
  if (name.find_first_of("\"'`[]") != std::string_view::npos) return true;
  const auto is_ascii_word = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$';
  };
  const std::string small_sql = Small(sql);
  const std::string small_name = Small(name);
  for (size_t at = small_sql.find(small_name); at != std::string::npos;
       at = small_sql.find(small_name, at + 1)) {
    const size_t end = at + small_name.size();
    if (small_name.empty()) return true;
    const bool starts = at == 0 || !is_ascii_word(small_sql[at - 1]) || !is_ascii_word(name[0]);
    const bool ends =
        end == small_sql.size() || !is_ascii_word(small_sql[end]) || !is_ascii_word(name.back());
    if (starts && ends) return true;
  }
  return false;
}

int SqliteAuthorizer::Callback(void* self, int action, const char* first, const char* second,
                               const char* database, const char* /*context*/) noexcept {
  auto* authorizer = static_cast<SqliteAuthorizer*>(self);
  if (!authorizer->active_) return SQLITE_OK;
  return authorizer->Allows(action, first == nullptr ? "" : first, second == nullptr ? "" : second,
                            database)
             ? SQLITE_OK
             : SQLITE_DENY;
}

void SqliteAuthorizer::Begin(const std::optional<std::vector<SqlTablePermission>>& permitted) {
  active_ = true;
  restricted_ = permitted.has_value();
  permitted_.clear();
  has_select_ = false;
  functions_ = 0;
  read_.clear();
  refused_.clear();
  if (!restricted_) return;
  for (const SqlTablePermission& permission : *permitted) {
    const auto [entry, is_new] =
        permitted_.try_emplace(Small(permission.table), std::set<std::string>());
    Columns& columns = entry->second;
    if (!permission.columns.has_value()) {
      columns.reset();
    } else if (columns.has_value()) {
      for (const std::string& column : *permission.columns) columns->insert(Small(column));
    }
  }
}

bool SqliteAuthorizer::Refuse(std::string what) {
  if (refused_.empty()) refused_ = std::move(what);
  return false;
}

bool SqliteAuthorizer::Allows(int action, std::string_view first, std::string_view second,
                              const char* database) {
  switch (action) {
    case SQLITE_SELECT:
      has_select_ = true;
      return true;
    case SQLITE_RECURSIVE:
      return true;
    case SQLITE_FUNCTION:
      // Calls without a loop around them are not interrupted.
      if (++functions_ > kMaxFunctions) {
        return Refuse(absl::StrCat("more than ", kMaxFunctions, " functions and LIKE"));
      }
      return IsPermittedSqliteFunction(second) || Refuse(absl::StrCat("function ", ToAbsl(second)));
    case SQLITE_READ:
      return AllowsRead(first, second, database);
  }
  if (action == SQLITE_UPDATE && absl::StartsWith(Small(first), "sqlite_")) {
    // SQLite asks so, too, before it sets up a table-valued function.
    return Refuse("UPDATE sqlite_master, or a PRAGMA as a table");
  }
  const auto* known = std::find_if(std::begin(kActions), std::end(kActions),
                                   [&](const Action& a) { return a.code == action; });
  if (known == std::end(kActions)) return Refuse(absl::StrCat("action ", action));
  // The name of a file is nobody's business.
  if (first.empty() || action == SQLITE_ATTACH) return Refuse(std::string(known->name));
  return Refuse(absl::StrCat(ToAbsl(known->name), " ", ToAbsl(first)));
}

bool SqliteAuthorizer::AllowsRead(std::string_view table, std::string_view column,
                                  const char* database) {
  const std::string name = Small(table);
  if (absl::StartsWith(name, "sqlite_") || absl::StartsWith(name, "pragma_") ||
      (database != nullptr && !absl::EqualsIgnoreCase(database, "main"))) {
    return Refuse(absl::StrCat("table ", ToAbsl(table)));
  }
  read_.insert(name);
  if (!restricted_) return true;
  const auto permitted = permitted_.find(name);
  if (permitted == permitted_.end()) {
    // The caller of this class looks whether a table has the name, of which these two would not be
    // known: a common table expression whose columns are not used, and the functions.
    if (column.empty() || name == "json_each" || name == "json_tree") return true;
    return Refuse(absl::StrCat("table ", ToAbsl(table)));
  }
  if (column.empty() || !permitted->second.has_value() ||
      permitted->second->count(Small(column)) > 0) {
    return true;
  }
  return Refuse(absl::StrCat("column ", ToAbsl(table), ".", ToAbsl(column)));
}

}  // namespace octogate::gateway

// What statements may do: SQLite's authorizer callback for one connection.
#ifndef OCTOGATE_GATEWAY_SQL_SQLITE_AUTHORIZER_H_
#define OCTOGATE_GATEWAY_SQL_SQLITE_AUTHORIZER_H_

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/sql/sql_database.h"

namespace octogate::gateway {

// The functions that statements may call: those without side effects that take no longer than in
// proportion to their arguments. Left out on purpose: what reads files or loads code
// (load_extension, readfile, edit, fts3_tokenizer), what tells about the connection or the library
// (changes, last_insert_rowid, sqlite_version …), randomblob, zeroblob and json_patch.
bool IsPermittedSqliteFunction(std::string_view name);

// Whether the text has the keyword NATURAL or USING outside of names in quotation marks, strings
// and comments; it may also say so of text that SQLite refuses.
bool HasJoinByColumnNames(std::string_view sql);

// Whether the text has the name as a word, in any case of letters: bare, in quotation marks, or
// anywhere else, such as in a comment. Names with a quotation mark in them count as mentioned.
bool Mentions(std::string_view sql, std::string_view name);

// Not thread-safe.
class SqliteAuthorizer {
 public:
  // For sqlite3_set_authorizer, with this object as its first argument.
  static int Callback(void* self, int action, const char* first, const char* second,
                      const char* database, const char* context) noexcept;

  // Starts a statement from outside.
  void Begin(const std::optional<std::vector<SqlTablePermission>>& permitted);
  // Between statements everything is allowed: this library's own are not asked about.
  void End() { active_ = false; }

  bool restricted() const { return restricted_; }
  // The first thing refused, e.g. "column people.ssn"; empty: none.
  const std::string& refused() const { return refused_; }
  bool has_select() const { return has_select_; }
  // Names of tables and views that the statement reads, in small letters, and of common table
  // expressions no column of which is used. A view that SQLite merges into the statement may lack.
  const std::set<std::string>& read() const { return read_; }
  bool Permits(const std::string& small_table) const { return permitted_.count(small_table) > 0; }

 private:
  using Columns = std::optional<std::set<std::string>>;  // nullopt: all

  bool AllowsRead(std::string_view table, std::string_view column, const char* database);
  bool Allows(int action, std::string_view first, std::string_view second, const char* database);
  bool Refuse(std::string what);

  bool active_ = false;
  bool restricted_ = false;
  std::map<std::string, Columns> permitted_;  // by table; names in small letters
  static constexpr int kMaxFunctions = 256;   // of a statement

  bool has_select_ = false;
  int functions_ = 0;
  std::set<std::string> read_;
  std::string refused_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_SQL_SQLITE_AUTHORIZER_H_

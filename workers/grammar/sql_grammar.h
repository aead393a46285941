// The grammars that come with the product, and SELECT statements limited to a schema's identifiers.
#ifndef OCTOGATE_WORKERS_GRAMMAR_SQL_GRAMMAR_H_
#define OCTOGATE_WORKERS_GRAMMAR_SQL_GRAMMAR_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/grammar/grammar.h"

namespace octogate::workers {

// Any JSON text (RFC 8259).
absl::StatusOr<Grammar> JsonGrammar();

enum class SqlDialect { kSqlite, kPostgresql };

struct SqlGrammarOptions {
  SqlDialect dialect = SqlDialect::kSqlite;
  // The only tables and columns that a statement can name, spelled as the database has them. Both
  // are written bare where the dialect allows it (in any case of letters, as far as it ignores
  // that) and in its quotation marks.
  std::vector<std::string> tables;
  std::vector<std::string> columns;
  // Further names that may be used as tables and as columns. Aliases of one letter and at most two
  // digits (T1, a, c2) may always, and those that people make of a table's name: the initials of
  // its words, two to four (pt of PlaylistTrack, oi of order_items). Other aliases can be given but
  // not referred to, since a grammar cannot know them from columns that do not exist.
  std::vector<std::string> names;
  // SQLite reads a string in double quotes where it finds no such column.
  bool double_quoted_strings = false;
};

// INVALID_ARGUMENT for names that are empty, too long or not UTF-8. Without tables and columns a
// statement can use constants only.
absl::StatusOr<Grammar> SqlGrammar(const SqlGrammarOptions& options);

// A rule that matches every word over [A-Za-z_][A-Za-z0-9_]* but those given, whose case is
// ignored.
std::string RuleForOtherNames(std::string_view rule, const std::vector<std::string>& words);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_SQL_GRAMMAR_H_

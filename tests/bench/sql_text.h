// Statements as tokens: as much of SQL as a benchmark needs for counting and changing them.
#ifndef OCTOGATE_TESTS_BENCH_SQL_TEXT_H_
#define OCTOGATE_TESTS_BENCH_SQL_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace octogate::bench {

struct SqlToken {
  enum Kind { kWord, kNumber, kString, kQuotedName, kSymbol };
  Kind kind = kSymbol;
  size_t begin = 0;  // bytes of the statement
  size_t end = 0;
  std::string text;  // as it is written
  std::string
      name;       // of words in lower case; of strings and quoted names what is between the marks
  int depth = 0;  // parentheses around it; those of a parenthesis not counting itself
};

// 'a''b' is a string; "a", `a` and [a] are quoted names. What is not closed reaches to the end.
// Symbols of two characters, such as <=, are one token. White space and comments are left out.
std::vector<SqlToken> LexSql(std::string_view statement);

// Whether the statement as a whole has an ORDER BY: one of a subquery does not count.
bool OrdersItsRows(std::string_view statement);

// The statement with what stands in double quotes as a string in single quotes, but for names in
// `columns` (in lower case): SQLite's old habit, which public benchmarks rely on.
std::string WithSingleQuotes(std::string_view statement, const std::vector<std::string>& columns);

// 'text' with its quotation marks doubled.
std::string SqlString(std::string_view text);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SQL_TEXT_H_

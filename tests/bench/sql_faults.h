// Mistakes that models make in SQL, put into statements that are right.
#ifndef OCTOGATE_TESTS_BENCH_SQL_FAULTS_H_
#define OCTOGATE_TESTS_BENCH_SQL_FAULTS_H_

#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/sql_rows.h"

namespace octogate::bench {

enum class SqlFault {
  // A database mostly refuses these.
  kMisspeltColumn,   // two letters swapped, a plural, snake_case: a name that no table has
  kMisspeltTable,    // likewise
  kWrongTable,       // another table of the database in its place
  kMissingJoin,      // one JOIN … ON … is left out
  kUnknownFunction,  // one of another database, such as MEAN
  kMissingQuote,     // a string that is not closed
  kMissingParenthesis,
  kMisspeltKeyword,  // FORM, WHER
  kDoubleQuotes,     // a string in double quotes
  kProse,            // "The query is:" before the statement
  // A database mostly runs these.
  kOtherColumn,      // another column of the same table
  kOtherValue,       // another number, a string in another case
  kLostCondition,    // without its WHERE
  kOtherComparison,  // <> for =, > for <, the other order
  kOtherAggregate,   // SUM for AVG, MIN for MAX
};

// In the order above.
const std::vector<SqlFault>& AllSqlFaults();
// Those of the first group.
bool IsMechanical(SqlFault fault);
std::string_view Name(SqlFault fault);

// The statement with the fault at one of its places; nullopt where it has none for it. `schema` is
// that of its database.
std::optional<std::string> WithFault(std::string_view statement, SqlFault fault,
                                     const SqlSchema& schema, std::mt19937_64& random);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SQL_FAULTS_H_

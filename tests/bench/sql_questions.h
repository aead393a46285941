// Questions about databases with the statements that answer them, and the databases.
#ifndef OCTOGATE_TESTS_BENCH_SQL_QUESTIONS_H_
#define OCTOGATE_TESTS_BENCH_SQL_QUESTIONS_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "tests/bench/sql_rows.h"

namespace octogate::bench {

struct SqlQuestion {
  std::string database;  // name of its file: DATABASE.sqlite
  std::string kind;      // "easy", "non-nested", "nested"; empty where nobody said
  std::string question;
  std::string gold;
  std::string original;  // the gold statement as its source has it
};

struct SqlSuite {
  std::string name;
  std::vector<SqlQuestion> questions;
};

// Lines {"kind", "question", "sql"} about one database.
absl::StatusOr<std::vector<SqlQuestion>> ReadSqlQuestions(const std::filesystem::path& file,
                                                          const std::string& database);

// Copies Chinook from `text2sql` of the evaluation data to `root`, for the questions in `file`.
absl::StatusOr<SqlSuite> MakeChinook(const std::filesystem::path& text2sql,
                                     const std::filesystem::path& file,
                                     const std::filesystem::path& root);

// KaggleDBQA's 272 questions; their databases, which its repository does not have, are made below
// `root` with rows by MakeRows. Its gold statements write strings in double quotes, which the
// gateway's SQLite takes for names: `gold` has single ones.
absl::StatusOr<SqlSuite> MakeKaggleDbqa(const std::filesystem::path& text2sql, uint64_t seed,
                                        const std::filesystem::path& root);

// A script that makes the tables of one database of a `tables.json` and fills each with `rows` rows
// or a few more: of the columns' types, with the texts and numbers that the statements compare each
// column to, and, for each statement, a row of each of its tables in which all of that holds at
// once. Columns of one name, and both ends of a foreign key, have the same values; foreign keys are
// declared, and no column is unique. Equal arguments give equal scripts.
std::string MakeRows(const nlohmann::json& database, const std::vector<std::string>& statements,
                     int rows, uint64_t seed);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_SQL_QUESTIONS_H_

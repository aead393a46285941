#include "tests/bench/sql_questions.h"

#include <algorithm>
#include <fstream>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "tests/bench/sql_text.h"

namespace octogate::bench {
namespace {

using nlohmann::json;

constexpr int kRowsPerTable = 200;

absl::StatusOr<json> ReadJson(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path.string(), ": cannot be read"));
  json parsed = json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), ": is not JSON"));
  }
  return parsed;
}

std::string Lower(const std::string& text) { return absl::AsciiStrToLower(text); }

struct Column {
  std::string name;
  std::string type;
  size_t values = 0;  // which of the shared values it has
};

struct Table {
  std::string name;
  std::vector<Column> columns;
  std::string keys;  // as they are declared
};

// What a statement compares columns to, by the column's name in lower case.
using Compared = std::multimap<std::string, std::string>;

// A text that LIKE finds with the pattern.
std::string Matching(const std::string& pattern) {
  return absl::StrReplaceAll(pattern, {{"%", ""}, {"_", "x"}});
}

Compared ComparedTo(const std::string& statement) {
  static const auto& comparisons = *new std::set<std::string>{
      "=", "==", "<", ">", "<=", ">=", "!=", "<>", "like", "between", "and", "in", ","};
  Compared compared;
  std::string column;
  for (const SqlToken& token : LexSql(statement)) {
    const bool literal = token.kind == SqlToken::kString || token.kind == SqlToken::kNumber;
    if (literal && !column.empty()) {
      compared.emplace(column, token.kind == SqlToken::kString ? Matching(token.name) : token.text);
    } else if (token.kind == SqlToken::kWord && !comparisons.contains(token.name) &&
               token.name != "not") {
      column = token.name;
    } else if (token.kind == SqlToken::kQuotedName) {
      column = Lower(token.name);
    } else if (token.kind == SqlToken::kSymbol && !comparisons.contains(token.text) &&
               token.text != "(") {
      column.clear();
    }
  }
  return compared;
}

bool IsNumber(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '.';
  });
}

// The columns that statements compute with or compare to numbers, in lower case.
std::set<std::string> ComputedColumns(const std::vector<std::string>& statements) {
  static const auto& functions = *new std::set<std::string>{"sum", "avg", "max", "min"};
  std::set<std::string> columns;
  for (const std::string& statement : statements) {
    const std::vector<SqlToken> tokens = LexSql(statement);
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i].kind != SqlToken::kWord) continue;
      const std::string before = i > 0 ? tokens[i - 1].text : "";
      const std::string after = i + 1 < tokens.size() ? tokens[i + 1].text : "";
      const bool called = before == "(" && i > 1 && functions.contains(tokens[i - 2].name);
      // Behind the alias and the dot.
      const bool called_by_alias = before == "." && i > 3 && tokens[i - 3].text == "(" &&
                                   functions.contains(tokens[i - 4].name);
      if (called || called_by_alias || after == "-" || after == "+" || after == "/" ||
          before == "-" || before == "+") {
        columns.insert(tokens[i].name);
      }
    }
    for (const auto& [column, literal] : ComparedTo(statement)) {
      if (IsNumber(literal)) columns.insert(column);
    }
  }
  return columns;
}

class RowMaker {
 public:
  RowMaker(const json& database, const std::vector<std::string>& statements, uint64_t seed)
      : statements_(statements), random_(seed), computed_(ComputedColumns(statements)) {
    ReadTables(database);
    for (const std::string& statement : statements) {
      for (const auto& [column, literal] : ComparedTo(statement)) {
        for (const Table& table : tables_) {
          for (const Column& own : table.columns) {
            if (Lower(own.name) == column) literals_[own.values].insert(literal);
          }
        }
      }
    }
  }

  std::string Script(int rows) {
    std::string script = "BEGIN;\n";
    for (const Table& table : tables_) {
      absl::StrAppend(&script, "CREATE TABLE ", Name(table.name), " (");
      for (size_t c = 0; c < table.columns.size(); ++c) {
        absl::StrAppend(&script, c == 0 ? "" : ", ", Name(table.columns[c].name), " ",
                        table.columns[c].type);
      }
      absl::StrAppend(&script, table.keys, ");\n");
    }
    for (const std::string& statement : statements_) AddWitnesses(statement, &script);
    for (const Table& table : tables_) {
      for (int row = 0; row < rows; ++row) Insert(table, {}, &script);
    }
    return script + "COMMIT;\n";
  }

 private:
  void ReadTables(const json& database) {
    const json& names = database["table_names_original"];
    const json& columns = database["column_names_original"];
    std::vector<std::pair<size_t, size_t>> places;  // by the file's number of the column
    std::vector<size_t> group(columns.size());
    std::map<std::string, size_t> by_name;
    for (const json& name : names) tables_.push_back({.name = name});
    for (size_t i = 0; i < columns.size(); ++i) {
      const int table = columns[i][0];
      group[i] = by_name.emplace(Lower(columns[i][1]), i).first->second;
      if (table < 0) {
        places.emplace_back(0, 0);
        continue;
      }
      Table& own = tables_[static_cast<size_t>(table)];
      places.emplace_back(table, own.columns.size());
      const std::string type = database["column_types"][i];
      own.columns.push_back({.name = columns[i][1], .type = type == "number" ? "NUMERIC" : "TEXT"});
    }
    for (const json& key : database["foreign_keys"]) {
      const size_t from = group[key[0].get<size_t>()];
      const size_t to = group[key[1].get<size_t>()];
      std::replace(group.begin(), group.end(), from, to);
      const size_t table = columns[key[0].get<size_t>()][0];
      const size_t other = columns[key[1].get<size_t>()][0];
      absl::StrAppend(&tables_[table].keys, ", FOREIGN KEY (",
                      Name(columns[key[0].get<size_t>()][1]), ") REFERENCES ",
                      Name(tables_[other].name), " (", Name(columns[key[1].get<size_t>()][1]), ")");
    }
    for (size_t i = 0; i < columns.size(); ++i) {
      if (columns[i][0].get<int>() < 0) continue;
      tables_[places[i].first].columns[places[i].second].values = group[i];
    }
    for (const Table& table : tables_) {
      for (const Column& column : table.columns) {
        keys_[column.values] += 1;
      }
    }
  }

  static std::string Name(const std::string& name) { return absl::StrCat("\"", name, "\""); }

  // A row of each of the statement's tables for which its equalities hold, joined to each other.
  void AddWitnesses(const std::string& statement, std::string* script) {
    std::set<std::string> words;
    for (const SqlToken& token : LexSql(statement)) words.insert(Lower(token.name));
    std::map<size_t, std::string> given;
    const Compared compared = ComparedTo(statement);
    for (const Table& table : tables_) {
      if (!words.contains(Lower(table.name))) continue;
      for (const Column& column : table.columns) {
        const auto found = compared.find(Lower(column.name));
        if (found != compared.end() && !found->second.empty()) {
          given.emplace(column.values, found->second);
        } else if (keys_[column.values] > 1) {
          given.emplace(column.values, "");  // filled with the first value drawn
        }
      }
    }
    for (const Table& table : tables_) {
      if (words.contains(Lower(table.name))) Insert(table, &given, script);
    }
  }

  void Insert(const Table& table, std::map<size_t, std::string>* given, std::string* script) {
    std::vector<std::string> values;
    for (const Column& column : table.columns) {
      std::string value;
      const auto found =
          given == nullptr ? std::map<size_t, std::string>::iterator() : given->end();
      const auto own = given == nullptr ? found : given->find(column.values);
      if (own != found && !own->second.empty()) {
        value = own->second;
      } else {
        value = Draw(column);
        if (own != found) own->second = value;
      }
      values.push_back(column.type == "NUMERIC" && IsNumber(value) ? value : SqlString(value));
    }
    absl::StrAppend(script, "INSERT INTO ", Name(table.name), " VALUES (");
    for (size_t i = 0; i < values.size(); ++i) {
      absl::StrAppend(script, i == 0 ? "" : ", ", values[i]);
    }
    absl::StrAppend(script, ");\n");
  }

  std::string Draw(const Column& column) {
    const std::set<std::string>& literals = literals_[column.values];
    if (!literals.empty() && random_() % 2 == 0) {
      return *std::next(literals.begin(), static_cast<ptrdiff_t>(random_() % literals.size()));
    }
    const bool numeric = column.type == "NUMERIC" || computed_.contains(Lower(column.name));
    if (keys_[column.values] > 1) {
      // So few that rows meet each other.
      const auto number = static_cast<int64_t>(random_() % 60) + 1;
      return numeric ? absl::StrCat(number) : absl::StrCat("key", number);
    }
    if (numeric) {
      const auto number = static_cast<int64_t>(random_() % 5'000);
      return random_() % 4 == 0 ? absl::StrCat(number, ".5") : absl::StrCat(number);
    }
    static constexpr const char* kWords[] = {"amber", "birch", "coral", "delta", "ember", "fjord",
                                             "grove", "haven", "islet", "jetty", "knoll", "lagoon"};
    const size_t word = random_() % std::size(kWords);
    return absl::StrCat(kWords[word], " ", random_() % 20);
  }

  const std::vector<std::string>& statements_;
  std::mt19937_64 random_;
  const std::set<std::string> computed_;
  std::vector<Table> tables_;
  std::map<size_t, std::set<std::string>> literals_;
  std::map<size_t, int> keys_;  // in how many columns values are
};

}  // namespace

std::string MakeRows(const json& database, const std::vector<std::string>& statements, int rows,
                     uint64_t seed) {
  return RowMaker(database, statements, seed).Script(rows);
}

absl::StatusOr<std::vector<SqlQuestion>> ReadSqlQuestions(const std::filesystem::path& path,
                                                          const std::string& database) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path.string(), ": cannot be read"));
  std::vector<SqlQuestion> questions;
  for (std::string line; std::getline(file, line);) {
    if (line.empty()) continue;
    const json item = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!item.is_object() || !item.contains("question") || !item.contains("sql")) {
      return absl::InvalidArgumentError(absl::StrCat(path.string(), ":", questions.size() + 1,
                                                     ": is not {\"kind\", \"question\", \"sql\"}"));
    }
    questions.push_back({.database = database,
                         .kind = item.value("kind", ""),
                         .question = item["question"],
                         .gold = item["sql"],
                         .original = item["sql"]});
  }
  return questions;
}

absl::StatusOr<SqlSuite> MakeChinook(const std::filesystem::path& text2sql,
                                     const std::filesystem::path& file,
                                     const std::filesystem::path& root) {
  std::error_code error;
  std::filesystem::copy_file(text2sql / "chinook/Chinook_Sqlite.sqlite", root / "chinook.sqlite",
                             std::filesystem::copy_options::overwrite_existing, error);
  if (error) return absl::NotFoundError(absl::StrCat("Chinook: ", error.message()));
  std::filesystem::permissions(root / "chinook.sqlite", std::filesystem::perms::owner_write,
                               std::filesystem::perm_options::add, error);
  SqlSuite suite{.name = "Chinook"};
  OCTOGATE_ASSIGN_OR_RETURN(suite.questions, ReadSqlQuestions(file, "chinook"));
  return suite;
}

absl::StatusOr<SqlSuite> MakeKaggleDbqa(const std::filesystem::path& text2sql, uint64_t seed,
                                        const std::filesystem::path& root) {
  SqlSuite suite{.name = "KaggleDBQA"};
  OCTOGATE_ASSIGN_OR_RETURN(const json databases,
                            ReadJson(text2sql / "kaggledbqa/KaggleDBQA_tables.json"));
  for (const json& database : databases) {
    const std::string name = database["db_id"];
    std::vector<std::string> columns;
    for (const json& column : database["column_names_original"]) {
      columns.push_back(Lower(column[1]));
    }
    OCTOGATE_ASSIGN_OR_RETURN(const json examples, ReadJson(text2sql / "kaggledbqa/examples" /
                                                            absl::StrCat(name, ".json")));
    std::vector<std::string> statements;
    for (const json& example : examples) {
      const std::string original = example["query"];
      suite.questions.push_back({.database = name,
                                 .question = example["question"],
                                 .gold = WithSingleQuotes(original, columns),
                                 .original = original});
      statements.push_back(suite.questions.back().gold);
    }
    const std::filesystem::path file = root / absl::StrCat(name, ".sqlite");
    std::filesystem::remove(file);
    OCTOGATE_RETURN_IF_ERROR(ExecuteSql(file, MakeRows(database, statements, kRowsPerTable, seed)));
  }
  return suite;
}

}  // namespace octogate::bench

#include "retrieval/schema/ddl_reader.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "retrieval/schema/ddl_tokens.h"

namespace octogate::schema {
namespace {

class Parser {
 public:
  Parser(std::vector<DdlToken> tokens, std::string_view source, std::string name)
      : tokens_(std::move(tokens)), source_(source) {
    schema_.name = std::move(name);
  }

  absl::StatusOr<Schema> Run() {
    while (Peek().kind != DdlToken::kEnd) {
      OCTOGATE_RETURN_IF_ERROR(ReadStatement());
      SkipStatement();
    }
    if (schema_.tables.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(ToAbsl(source_), ":1: there is no CREATE TABLE"));
    }
    return std::move(schema_);
  }

 private:
  const DdlToken& Peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool Take(std::string_view what) {
    if (!Peek().Is(what)) return false;
    ++at_;
    return true;
  }
  // Both or none.
  bool Take(std::string_view first, std::string_view second) {
    if (!Peek().Is(first) || !Peek(1).Is(second)) return false;
    at_ += 2;
    return true;
  }
  std::string Where() const { return absl::StrCat(ToAbsl(source_), ":", Peek().line); }
  absl::Status Expected(std::string_view what) const {
    const std::string found =
        Peek().kind == DdlToken::kEnd ? "the text ends" : absl::StrCat(Quoted(Peek().text), " is");
    return absl::InvalidArgumentError(
        absl::StrCat(Where(), ": ", found, " where ", ToAbsl(what), " should be"));
  }

  void SkipStatement() {
    while (Peek().kind != DdlToken::kEnd && !Take(";")) ++at_;
  }

  // At "(": to after its ")".
  absl::Status SkipParentheses() {
    int depth = 0;
    do {
      if (Peek().kind == DdlToken::kEnd) return Expected("\")\"");
      if (Peek().Is("(")) ++depth;
      if (Peek().Is(")")) --depth;
      ++at_;
    } while (depth > 0);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Identifier() {
    const DdlToken& token = Peek();
    if (token.kind != DdlToken::kWord && token.kind != DdlToken::kQuotedIdentifier) {
      return Expected("a name");
    }
    OCTOGATE_RETURN_IF_ERROR(CheckName(token.text, Where()));
    ++at_;
    return token.text;
  }

  // "a.b.c" in parts.
  absl::StatusOr<std::vector<std::string>> QualifiedParts() {
    std::vector<std::string> parts;
    do {
      OCTOGATE_ASSIGN_OR_RETURN(std::string part, Identifier());
      parts.push_back(std::move(part));
    } while (parts.size() < 4 && Take("."));
    return parts;
  }

  static std::string TableName(std::vector<std::string> parts) {
    while (parts.size() > 2) parts.erase(parts.begin());
    if (parts.size() == 2) {
      const std::string qualifier = absl::AsciiStrToLower(parts[0]);
      if (qualifier != "public" && qualifier != "main" && qualifier != "dbo") {
        return absl::StrCat(parts[0], ".", parts[1]);
      }
    }
    return parts.back();
  }

  absl::StatusOr<std::string> TableName() {
    OCTOGATE_ASSIGN_OR_RETURN(std::vector<std::string> parts, QualifiedParts());
    return TableName(std::move(parts));
  }

  absl::StatusOr<std::vector<std::string>> NameList() {
    std::vector<std::string> names;
    if (!Take("(")) return Expected("\"(\"");
    do {
      OCTOGATE_ASSIGN_OR_RETURN(std::string name, Identifier());
      names.push_back(std::move(name));
      // Lengths and directions of index columns.
      if (Peek().Is("(")) OCTOGATE_RETURN_IF_ERROR(SkipParentheses());
      while (Peek().kind == DdlToken::kWord) ++at_;
    } while (Take(","));
    if (!Take(")")) return Expected("\")\"");
    return names;
  }

  // After REFERENCES.
  absl::Status References(std::vector<std::string> columns, Table* table) {
    ForeignKey key{.columns = std::move(columns), .table = {}, .references = {}};
    OCTOGATE_ASSIGN_OR_RETURN(key.table, TableName());
    if (Peek().Is("(")) {
      OCTOGATE_ASSIGN_OR_RETURN(key.references, NameList());
      if (key.references.size() != key.columns.size()) {
        return absl::InvalidArgumentError(absl::StrCat(
            Where(), ": ", key.columns.size(), " columns refer to ", key.references.size()));
      }
    }
    table->foreign_keys.push_back(std::move(key));
    return absl::OkStatus();
  }

  Table* Find(const std::string& name) {
    const auto found = tables_.find(absl::AsciiStrToLower(name));
    return found == tables_.end() ? nullptr : &schema_.tables[found->second];
  }

  void MarkPrimaryKey(const std::vector<std::string>& names, Table* table) {
    for (const std::string& name : names) {
      const int column = FindColumn(*table, name);
      if (column >= 0) {
        table->columns[static_cast<size_t>(column)].primary_key = true;
      } else {
        Warn(absl::StrCat(Where(), ": the table ", Quoted(table->name), " has no column ",
                          Quoted(name)),
             &schema_);
      }
    }
  }

  // [CONSTRAINT name] PRIMARY KEY …, FOREIGN KEY …; false if no table constraint stands here.
  absl::StatusOr<bool> TableConstraint(Table* table, std::vector<std::string>* primary_key) {
    if (Take("CONSTRAINT")) {
      // MySQL may leave out the name.
      if (!Peek().Is("PRIMARY") && !Peek().Is("FOREIGN") && !Peek().Is("UNIQUE") &&
          !Peek().Is("CHECK")) {
        OCTOGATE_RETURN_IF_ERROR(Identifier().status());
      }
    }
    if (Take("PRIMARY", "KEY")) {
      while (Peek().kind == DdlToken::kWord) ++at_;  // CLUSTERED
      OCTOGATE_ASSIGN_OR_RETURN(*primary_key, NameList());
      return true;
    }
    if (Take("FOREIGN", "KEY")) {
      while (Peek().kind == DdlToken::kWord || Peek().kind == DdlToken::kQuotedIdentifier) ++at_;
      OCTOGATE_ASSIGN_OR_RETURN(std::vector<std::string> columns, NameList());
      if (!Take("REFERENCES")) return Expected("REFERENCES");
      OCTOGATE_RETURN_IF_ERROR(References(std::move(columns), table));
      return true;
    }
    const DdlToken& first = Peek();
    const DdlToken& second = Peek(1);
    if (first.Is("CHECK") && second.Is("(")) return true;
    if (first.Is("EXCLUDE") || first.Is("LIKE") || first.Is("FULLTEXT") || first.Is("SPATIAL")) {
      return first.kind == DdlToken::kWord && !IsType(second);
    }
    if (first.Is("UNIQUE") || first.Is("KEY") || first.Is("INDEX")) {
      return second.Is("(") || second.Is("KEY") || second.Is("INDEX") || Peek(2).Is("(");
    }
    return false;
  }

  static bool IsType(const DdlToken& token) {
    return token.Is("TEXT") || token.Is("INT") || token.Is("INTEGER") || token.Is("VARCHAR");
  }

  // Up to the "," or ")" that ends the item of a CREATE TABLE.
  absl::Status SkipItem() {
    while (!Peek().Is(",") && !Peek().Is(")")) {
      if (Peek().kind == DdlToken::kEnd || Peek().Is(";")) return Expected("\")\"");
      if (Peek().Is("(")) {
        OCTOGATE_RETURN_IF_ERROR(SkipParentheses());
      } else {
        ++at_;
      }
    }
    return absl::OkStatus();
  }

  static bool EndsType(const DdlToken& token) {
    static constexpr const char* kWords[] = {
        "CONSTRAINT", "NOT",     "NULL",        "DEFAULT",        "PRIMARY", "UNIQUE", "REFERENCES",
        "CHECK",      "COLLATE", "GENERATED",   "AUTO_INCREMENT", "COMMENT", "AS",     "ON",
        "IDENTITY",   "STORAGE", "COMPRESSION", "AUTOINCREMENT",  "ENCODE",  "KEY"};
    return std::any_of(std::begin(kWords), std::end(kWords),
                       [&](const char* word) { return token.Is(word); });
  }

  absl::Status ReadType(Column* column) {
    while (!Peek().Is(",") && !Peek().Is(")") && Peek().kind != DdlToken::kEnd &&
           !EndsType(Peek())) {
      if (Peek().Is("(")) {
        const size_t first = at_;
        OCTOGATE_RETURN_IF_ERROR(SkipParentheses());
        for (size_t i = first; i < at_; ++i) {
          const bool text = tokens_[i].kind == DdlToken::kString;
          absl::StrAppend(&column->type, text ? "'" : "", tokens_[i].text, text ? "'" : "");
          // The values of an ENUM are all there are.
          if (text && column->type.size() > 5) column->values.push_back(tokens_[i].text);
        }
        continue;
      }
      const bool tight = column->type.empty() || Peek().kind == DdlToken::kSymbol;
      absl::StrAppend(&column->type, tight ? "" : " ", Peek().text);
      ++at_;
    }
    return absl::OkStatus();
  }

  absl::Status ReadColumn(Table* table, absl::flat_hash_set<std::string>* names) {
    Column column;
    OCTOGATE_ASSIGN_OR_RETURN(column.name, Identifier());
    if (!names->insert(column.name).second) {
      return absl::InvalidArgumentError(absl::StrCat(Where(), ": the column ", Quoted(column.name),
                                                     " of ", Quoted(table->name),
                                                     " is there twice"));
    }
    OCTOGATE_RETURN_IF_ERROR(ReadType(&column));
    while (!Peek().Is(",") && !Peek().Is(")")) {
      if (Peek().kind == DdlToken::kEnd || Peek().Is(";")) return Expected("\")\"");
      if (Take("PRIMARY", "KEY")) {
        column.primary_key = true;
      } else if (Take("REFERENCES")) {
        OCTOGATE_RETURN_IF_ERROR(References({column.name}, table));
      } else if (Peek().Is("COMMENT") && Peek(1).kind == DdlToken::kString) {
        column.description = Peek(1).text;
        at_ += 2;
      } else if (Peek().Is("(")) {
        OCTOGATE_RETURN_IF_ERROR(SkipParentheses());
      } else {
        ++at_;
      }
    }
    if (table->columns.size() == kMaxColumnsPerTable) {
      return absl::ResourceExhaustedError(absl::StrCat(
          Where(), ": ", Quoted(table->name), " has more than ", kMaxColumnsPerTable, " columns"));
    }
    table->columns.push_back(std::move(column));
    return absl::OkStatus();
  }

  // After CREATE … TABLE.
  absl::Status CreateTable() {
    if (Take("IF", "NOT") && !Take("EXISTS")) return Expected("EXISTS");
    Table table;
    OCTOGATE_ASSIGN_OR_RETURN(table.name, TableName());
    // CREATE TABLE … AS and PARTITION OF have no columns of their own.
    if (!Take("(")) return absl::OkStatus();
    std::vector<std::string> primary_key;
    absl::flat_hash_set<std::string> names;  // of columns
    do {
      OCTOGATE_ASSIGN_OR_RETURN(const bool constraint, TableConstraint(&table, &primary_key));
      if (!constraint) {
        OCTOGATE_RETURN_IF_ERROR(ReadColumn(&table, &names));
      } else {
        OCTOGATE_RETURN_IF_ERROR(SkipItem());
      }
    } while (Take(","));
    if (!Take(")")) return Expected("\")\"");
    MarkPrimaryKey(primary_key, &table);
    while (Peek().kind != DdlToken::kEnd && !Peek().Is(";")) {
      if (Take("COMMENT")) {
        Take("=");
        if (Peek().kind == DdlToken::kString) table.description = Peek().text;
      }
      if (Peek().kind != DdlToken::kEnd && !Peek().Is(";")) ++at_;
    }
    const auto [at, is_new] =
        tables_.emplace(absl::AsciiStrToLower(table.name), schema_.tables.size());
    if (!is_new) {
      return absl::InvalidArgumentError(
          absl::StrCat(Where(), ": the table ", Quoted(table.name), " is created twice"));
    }
    if (schema_.tables.size() == kMaxTables) {
      return absl::ResourceExhaustedError(
          absl::StrCat(Where(), ": more than ", kMaxTables, " tables"));
    }
    schema_.tables.push_back(std::move(table));
    return absl::OkStatus();
  }

  // After ALTER TABLE.
  absl::Status AlterTable() {
    Take("IF", "EXISTS");
    Take("ONLY");
    OCTOGATE_ASSIGN_OR_RETURN(const std::string name, TableName());
    Table* table = Find(name);
    if (table == nullptr) {
      Warn(absl::StrCat(Where(), ": there is no table ", Quoted(name), " to alter"), &schema_);
      return absl::OkStatus();
    }
    while (Take("ADD")) {
      std::vector<std::string> primary_key;
      OCTOGATE_ASSIGN_OR_RETURN(const bool constraint, TableConstraint(table, &primary_key));
      if (!constraint) return absl::OkStatus();
      MarkPrimaryKey(primary_key, table);
      while (Peek().kind != DdlToken::kEnd && !Peek().Is(",") && !Peek().Is(";")) ++at_;
      if (!Take(",")) return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  // After COMMENT ON.
  absl::Status CommentOn() {
    const bool column = Take("COLUMN");
    if (!column && !Take("TABLE") && !Take("VIEW")) return absl::OkStatus();
    OCTOGATE_ASSIGN_OR_RETURN(std::vector<std::string> parts, QualifiedParts());
    std::string column_name;
    if (column) {
      if (parts.size() < 2) return Expected("\".\" and the column's name");
      column_name = std::move(parts.back());
      parts.pop_back();
    }
    if (!Take("IS")) return Expected("IS");
    const std::string comment = Peek().kind == DdlToken::kString ? Peek().text : std::string();
    Table* table = Find(TableName(std::move(parts)));
    const int found = table == nullptr || !column ? -1 : FindColumn(*table, column_name);
    if (table == nullptr || (column && found < 0)) {
      Warn(absl::StrCat(Where(), ": a comment is on what is not there"), &schema_);
    } else if (column) {
      table->columns[static_cast<size_t>(found)].description = comment;
    } else {
      table->description = comment;
    }
    return absl::OkStatus();
  }

  absl::Status ReadStatement() {
    if (Take("ALTER", "TABLE")) return AlterTable();
    if (Take("COMMENT", "ON")) return CommentOn();
    if (!Take("CREATE")) return absl::OkStatus();
    for (int words = 0; words < 4; ++words) {
      if (Take("TABLE")) return CreateTable();
      if (!Peek().Is("TEMP") && !Peek().Is("TEMPORARY") && !Peek().Is("UNLOGGED") &&
          !Peek().Is("GLOBAL") && !Peek().Is("LOCAL") && !Peek().Is("OR") &&
          !Peek().Is("REPLACE") && !Peek().Is("FOREIGN") && !Peek().Is("EXTERNAL") &&
          !Peek().Is("TRANSIENT")) {
        break;
      }
      ++at_;
    }
    return absl::OkStatus();
  }

  const std::vector<DdlToken> tokens_;
  const std::string_view source_;
  size_t at_ = 0;
  Schema schema_;
  absl::flat_hash_map<std::string, size_t> tables_;
};

}  // namespace

absl::StatusOr<Schema> ParseDdl(std::string_view text, std::string_view source, std::string name) {
  OCTOGATE_ASSIGN_OR_RETURN(std::vector<DdlToken> tokens, DdlTokens(text, source));
  return Parser(std::move(tokens), source, std::move(name)).Run();
}

absl::StatusOr<Schema> ReadDdl(const std::string& path) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string text, ReadBoundedFile(path));
  return ParseDdl(text, path, std::filesystem::path(path).stem().string());
}

}  // namespace octogate::schema

#include "workers/server/worker_grammar.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/grammar/json_schema_grammar.h"
#include "workers/grammar/sql_grammar.h"

namespace octogate::workers {
namespace {

using Kind = v1::WorkerGrammar::KindCase;
using Names = google::protobuf::RepeatedPtrField<std::string>;

absl::Status CheckBytes(const std::string& field, size_t bytes, size_t max_bytes) {
  if (bytes <= max_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(field, " has ", bytes, " bytes; at most ", max_bytes, " are allowed"));
}

size_t TotalBytes(const Names& names) {
  size_t bytes = 0;
  for (const std::string& name : names) bytes += name.size();
  return bytes;
}

absl::StatusOr<Grammar> ParseSql(const v1::WorkerSqlGrammar& sql) {
  SqlGrammarOptions options;
  switch (sql.dialect()) {
    case v1::SQL_DIALECT_UNSPECIFIED:
    case v1::SQL_DIALECT_SQLITE:
      break;
    case v1::SQL_DIALECT_POSTGRESQL:
      options.dialect = SqlDialect::kPostgresql;
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat(static_cast<int>(sql.dialect()), " is not a dialect of SQL"));
  }
  OCTOGATE_RETURN_IF_ERROR(CheckBytes("tables and columns",
                                      TotalBytes(sql.tables()) + TotalBytes(sql.columns()),
                                      kMaxSqlNameBytes));
  options.tables.assign(sql.tables().begin(), sql.tables().end());
  options.columns.assign(sql.columns().begin(), sql.columns().end());
  return SqlGrammar(options);
}

// The first rule is the whole. GBNF calls it "root": where that is another one, either could be
// meant.
absl::StatusOr<Grammar> ParseRules(std::string_view text) {
  OCTOGATE_ASSIGN_OR_RETURN(Grammar grammar, ParseGrammar(text, {.root = ""}));
  for (size_t i = 0; i < grammar.rules.size(); ++i) {
    if (grammar.rules[i].name != "root" || i == grammar.root) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("grammar:", grammar.rules[i].line,
                     ":1: the rule \"root\" is not the first, and the first rule is the whole; "
                     "move it before the others"));
  }
  return grammar;
}

void AddNames(const Names& names, std::string& key) {
  std::vector<std::string_view> sorted(names.begin(), names.end());
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  // Lengths, since a name may have any byte.
  absl::StrAppend(&key, ";", sorted.size());
  for (const std::string_view name : sorted) {
    absl::StrAppend(&key, ";", name.size(), ":");
    key.append(name);
  }
}

}  // namespace

absl::StatusOr<Grammar> ParseWorkerGrammar(const v1::WorkerGrammar& grammar) {
  switch (grammar.kind_case()) {
    case Kind::kJson:
      return JsonGrammar();
    case Kind::kJsonSchema: {
      OCTOGATE_RETURN_IF_ERROR(
          CheckBytes("the schema", grammar.json_schema().size(), kMaxGrammarBytes));
      absl::StatusOr<Grammar> parsed = JsonSchemaGrammar(grammar.json_schema());
      if (parsed.ok()) return parsed;
      // Nothing is wrong with a worker that does not know a keyword.
      const absl::StatusCode code = absl::IsUnimplemented(parsed.status())
                                        ? absl::StatusCode::kInvalidArgument
                                        : parsed.status().code();
      return absl::Status(code, absl::StrCat("JSON Schema: ", parsed.status().message()));
    }
    case Kind::kEbnf:
      OCTOGATE_RETURN_IF_ERROR(CheckBytes("the grammar", grammar.ebnf().size(), kMaxGrammarBytes));
      return ParseRules(grammar.ebnf());
    case Kind::kSql:
      return ParseSql(grammar.sql());
    case Kind::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "a grammar is one of json, json_schema, ebnf and sql; this one is none");
}

std::string WorkerGrammarKey(const v1::WorkerGrammar& grammar) {
  std::string key = absl::StrCat(static_cast<int>(grammar.kind_case()), ":");
  switch (grammar.kind_case()) {
    case Kind::kJsonSchema:
      key += grammar.json_schema();
      break;
    case Kind::kEbnf:
      key += grammar.ebnf();
      break;
    case Kind::kSql:
      absl::StrAppend(&key, std::max(1, static_cast<int>(grammar.sql().dialect())));
      AddNames(grammar.sql().tables(), key);
      AddNames(grammar.sql().columns(), key);
      break;
    default:
      break;
  }
  return key;
}

}  // namespace octogate::workers

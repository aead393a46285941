#include "workers/grammar/sql_grammar.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/status_macros.h"
#include "workers/grammar/shipped_grammars.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxNameBytes = 256;
constexpr std::string_view kNameStart = "abcdefghijklmnopqrstuvwxyz_";
constexpr std::string_view kNamePart = "abcdefghijklmnopqrstuvwxyz_0123456789";

// Words that either dialect reserves in some place: never bare names.
const std::vector<std::string>& Keywords() {
  static const auto* const keywords = new std::vector<std::string>{"abort",
                                                                   "action",
                                                                   "add",
                                                                   "after",
                                                                   "all",
                                                                   "alter",
                                                                   "always",
                                                                   "analyse",
                                                                   "analyze",
                                                                   "and",
                                                                   "any",
                                                                   "array",
                                                                   "as",
                                                                   "asc",
                                                                   "asymmetric",
                                                                   "attach",
                                                                   "authorization",
                                                                   "autoincrement",
                                                                   "before",
                                                                   "begin",
                                                                   "between",
                                                                   "binary",
                                                                   "both",
                                                                   "by",
                                                                   "cascade",
                                                                   "case",
                                                                   "cast",
                                                                   "check",
                                                                   "collate",
                                                                   "collation",
                                                                   "column",
                                                                   "commit",
                                                                   "concurrently",
                                                                   "conflict",
                                                                   "constraint",
                                                                   "create",
                                                                   "cross",
                                                                   "current",
                                                                   "current_catalog",
                                                                   "current_date",
                                                                   "current_role",
                                                                   "current_schema",
                                                                   "current_time",
                                                                   "current_timestamp",
                                                                   "current_user",
                                                                   "database",
                                                                   "default",
                                                                   "deferrable",
                                                                   "deferred",
                                                                   "delete",
                                                                   "desc",
                                                                   "detach",
                                                                   "distinct",
                                                                   "do",
                                                                   "drop",
                                                                   "each",
                                                                   "else",
                                                                   "end",
                                                                   "escape",
                                                                   "except",
                                                                   "exclude",
                                                                   "exclusive",
                                                                   "exists",
                                                                   "explain",
                                                                   "fail",
                                                                   "false",
                                                                   "fetch",
                                                                   "filter",
                                                                   "first",
                                                                   "following",
                                                                   "for",
                                                                   "foreign",
                                                                   "freeze",
                                                                   "from",
                                                                   "full",
                                                                   "generated",
                                                                   "glob",
                                                                   "grant",
                                                                   "group",
                                                                   "groups",
                                                                   "having",
                                                                   "if",
                                                                   "ignore",
                                                                   "ilike",
                                                                   "immediate",
                                                                   "in",
                                                                   "index",
                                                                   "indexed",
                                                                   "initially",
                                                                   "inner",
                                                                   "insert",
                                                                   "instead",
                                                                   "intersect",
                                                                   "into",
                                                                   "is",
                                                                   "isnull",
                                                                   "join",
                                                                   "key",
                                                                   "last",
                                                                   "lateral",
                                                                   "leading",
                                                                   "left",
                                                                   "like",
                                                                   "limit",
                                                                   "localtime",
                                                                   "localtimestamp",
                                                                   "match",
                                                                   "materialized",
                                                                   "natural",
                                                                   "no",
                                                                   "not",
                                                                   "nothing",
                                                                   "notnull",
                                                                   "null",
                                                                   "nulls",
                                                                   "of",
                                                                   "offset",
                                                                   "on",
                                                                   "only",
                                                                   "or",
                                                                   "order",
                                                                   "others",
                                                                   "outer",
                                                                   "over",
                                                                   "overlaps",
                                                                   "partition",
                                                                   "placing",
                                                                   "plan",
                                                                   "pragma",
                                                                   "preceding",
                                                                   "primary",
                                                                   "query",
                                                                   "raise",
                                                                   "range",
                                                                   "recursive",
                                                                   "references",
                                                                   "regexp",
                                                                   "reindex",
                                                                   "release",
                                                                   "rename",
                                                                   "replace",
                                                                   "restrict",
                                                                   "returning",
                                                                   "right",
                                                                   "rollback",
                                                                   "row",
                                                                   "rows",
                                                                   "savepoint",
                                                                   "select",
                                                                   "session_user",
                                                                   "set",
                                                                   "similar",
                                                                   "some",
                                                                   "symmetric",
                                                                   "system_user",
                                                                   "table",
                                                                   "tablesample",
                                                                   "temp",
                                                                   "temporary",
                                                                   "then",
                                                                   "ties",
                                                                   "to",
                                                                   "trailing",
                                                                   "transaction",
                                                                   "trigger",
                                                                   "true",
                                                                   "unbounded",
                                                                   "union",
                                                                   "unique",
                                                                   "update",
                                                                   "user",
                                                                   "using",
                                                                   "vacuum",
                                                                   "values",
                                                                   "variadic",
                                                                   "verbose",
                                                                   "view",
                                                                   "virtual",
                                                                   "when",
                                                                   "where",
                                                                   "window",
                                                                   "with",
                                                                   "within",
                                                                   "without"};
  return *keywords;
}

// Of these, what SQLite takes for a name wherever a table or a column can stand.
bool IsNameInSqlite(const std::string& lower) {
  static const auto* const names = new std::set<std::string>{
      "action", "any",     "array", "database", "key",  "match",   "plan",
      "query",  "similar", "user",  "verbose",  "view", "virtual", "within"};
  return names->count(lower) > 0;
}

bool IsKeyword(const std::string& lower, SqlDialect dialect) {
  return std::binary_search(Keywords().begin(), Keywords().end(), lower) &&
         !(dialect == SqlDialect::kSqlite && IsNameInSqlite(lower));
}

// Whether a name needs no quotation marks. PostgreSQL reads bare names as if in lower case.
bool IsBare(std::string_view name, SqlDialect dialect) {
  const bool any_case = dialect == SqlDialect::kSqlite;
  const std::string lower = absl::AsciiStrToLower({name.data(), name.size()});
  return (any_case || lower == name) && kNameStart.find(lower[0]) != kNameStart.npos &&
         lower.find_first_not_of(kNamePart.data(), 0, kNamePart.size()) == lower.npos &&
         !IsKeyword(lower, dialect);
}

struct Spellings {
  WordList bare{.ignore_case = true};
  WordList quoted;
};

Spellings Spell(const std::vector<std::string>& names, SqlDialect dialect) {
  const bool sqlite = dialect == SqlDialect::kSqlite;
  Spellings spellings;
  spellings.quoted.ignore_case = sqlite;
  for (const std::string& name : names) {
    if (IsBare(name, dialect)) spellings.bare.words.push_back(name);
    spellings.quoted.words.push_back(
        absl::StrCat("\"", absl::StrReplaceAll(name, {{"\"", "\"\""}}), "\""));
    if (!sqlite) continue;
    spellings.quoted.words.push_back(
        absl::StrCat("`", absl::StrReplaceAll(name, {{"`", "``"}}), "`"));
    if (name.find(']') == name.npos) spellings.quoted.words.push_back(absl::StrCat("[", name, "]"));
  }
  return spellings;
}

absl::Status CheckNames(const std::vector<std::string>& names, std::string_view what) {
  for (const std::string& name : names) {
    if (name.empty() || name.size() > kMaxNameBytes || name.find('\0') != name.npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          "among the ", std::string(what), " is one that is ",
          name.empty()
              ? "empty"
              : absl::StrCat("longer than ", kMaxNameBytes, " bytes or holds a zero byte")));
    }
  }
  return absl::OkStatus();
}

// The first letters of a name's words, in lower case: "pt" of PlaylistTrack, "oi" of order_items.
// Empty for what is no short alias: of one word (the letter may be used anyway), of more than four.
std::string Initials(std::string_view name) {
  constexpr size_t kMaxInitials = 4;
  std::string initials;
  char before = '_';
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    const bool starts =
        !absl::ascii_isalnum(static_cast<unsigned char>(before)) ||
        (absl::ascii_isupper(byte) && absl::ascii_islower(static_cast<unsigned char>(before)));
    if (starts && absl::ascii_isalpha(byte)) initials.push_back(absl::ascii_tolower(byte));
    before = c;
  }
  const bool is_alias = initials.size() > 1 && initials.size() <= kMaxInitials;
  return is_alias ? initials : "";
}

struct LetterTree {
  bool word = false;
  std::map<char, std::unique_ptr<LetterTree>> next;
};

std::string Class(std::string_view letters) {
  std::string text = "[";
  for (const char c : letters) {
    text.push_back(c);
    if (absl::ascii_isalpha(static_cast<unsigned char>(c))) {
      text.push_back(absl::ascii_toupper(static_cast<unsigned char>(c)));
    }
  }
  return text + "]";
}

// What may follow the letters on the way to `tree`, so that the whole is none of its words.
std::string Others(const LetterTree& tree, bool root) {
  std::vector<std::string> ways;
  std::string rest;
  for (const char c : root ? kNameStart : kNamePart) {
    const auto child = tree.next.find(c);
    if (child == tree.next.end()) {
      rest.push_back(c);
    } else {
      ways.push_back(absl::StrCat(Class({&c, 1}), " ", Others(*child->second, false)));
    }
  }
  if (!rest.empty()) ways.push_back(absl::StrCat(Class(rest), " ", Class(kNamePart), "*"));
  if (!tree.word && !root) ways.push_back("\"\"");
  std::string text = "(";
  for (const std::string& way : ways) {
    if (text.size() > 1) text += " | ";
    text += way;
  }
  return text + ")";
}

}  // namespace

std::string RuleForOtherNames(std::string_view rule, const std::vector<std::string>& words) {
  LetterTree tree;
  for (const std::string& word : words) {
    LetterTree* at = &tree;
    for (const char c : absl::AsciiStrToLower(word)) {
      auto& next = at->next[c];
      if (next == nullptr) next = std::make_unique<LetterTree>();
      at = next.get();
    }
    at->word = true;
  }
  return absl::StrCat(std::string(rule), " ::= ", Others(tree, /*root=*/true), "\n");
}

absl::StatusOr<Grammar> JsonGrammar() { return ParseGrammar(kJsonGrammar); }

absl::StatusOr<Grammar> SqlGrammar(const SqlGrammarOptions& options) {
  OCTOGATE_RETURN_IF_ERROR(CheckNames(options.tables, "tables"));
  OCTOGATE_RETURN_IF_ERROR(CheckNames(options.columns, "columns"));
  OCTOGATE_RETURN_IF_ERROR(CheckNames(options.names, "names"));
  const bool sqlite = options.dialect == SqlDialect::kSqlite;
  std::string text(sqlite ? kSqliteSelectGrammar : kPostgresqlSelectGrammar);
  absl::StrAppend(&text, "\n", RuleForOtherNames("new-name", Keywords()));
  text += "text ::= \"'\" ([^'\\x00] | \"''\")* \"'\"";
  if (sqlite && options.double_quoted_strings) {
    text += " | \"\\\"\" ([^\"\\x00] | \"\\\"\\\"\")* \"\\\"\"";
  }
  text += "\n";
  const Spellings tables = Spell(options.tables, options.dialect);
  const Spellings columns = Spell(options.columns, options.dialect);
  std::set<std::string> further(options.names.begin(), options.names.end());
  for (const std::string& table : options.tables) {
    std::string initials = Initials(table);
    if (!initials.empty() && !IsKeyword(initials, options.dialect)) {
      further.insert(std::move(initials));
    }
  }
  Spellings names = Spell({further.begin(), further.end()}, options.dialect);
  GrammarOptions grammar;
  grammar.words = {{"table", tables.bare},          {"quoted_table", tables.quoted},
                   {"column", columns.bare},        {"quoted_column", columns.quoted},
                   {"name", std::move(names.bare)}, {"quoted_name", std::move(names.quoted)}};
  return ParseGrammar(text, grammar);
}

}  // namespace octogate::workers

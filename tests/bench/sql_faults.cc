#include "tests/bench/sql_faults.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/bench/sql_text.h"

namespace octogate::bench {
namespace {

// Where a clause of a SELECT ends at the latest.
const std::set<std::string>& ClauseWords() {
  static const auto& words = *new std::set<std::string>{"where", "group", "order",  "having",
                                                        "limit", "union", "except", "intersect"};
  return words;
}
const std::set<std::string>& JoinWords() {
  static const auto& words = *new std::set<std::string>{"join", "inner", "left", "cross", "outer"};
  return words;
}

std::string Lower(std::string_view text) { return absl::AsciiStrToLower(std::string(text)); }

class Statement {
 public:
  Statement(std::string_view text, const SqlSchema& schema, std::mt19937_64& random)
      : text_(text), schema_(schema), random_(random), tokens_(LexSql(text)) {
    for (const auto& [table, columns] : schema) {
      tables_.insert(Lower(table));
      for (const std::string& column : columns) columns_.insert(Lower(column));
    }
  }

  std::optional<std::string> MisspeltColumn() {
    return Misspelt([this](size_t i) { return IsColumn(i); });
  }
  std::optional<std::string> MisspeltTable() {
    return Misspelt([this](size_t i) { return IsReadTable(i); });
  }

  std::optional<std::string> WrongTable() {
    const auto at = Pick([this](size_t i) { return IsReadTable(i); });
    if (!at) return std::nullopt;
    std::vector<std::string> others;
    for (const auto& [table, columns] : schema_) {
      const bool used = std::any_of(
          tokens_.begin(), tokens_.end(),
          [&, name = Lower(table)](const SqlToken& t) { return Lower(t.name) == name; });
      if (!used) others.push_back(table);
    }
    if (others.empty()) return std::nullopt;
    return Replace(*at, *at, Quoted(others[random_() % others.size()]));
  }

  std::optional<std::string> MissingJoin() {
    const auto at = Pick([this](size_t i) { return Is(i, "join"); });
    if (!at) return std::nullopt;
    size_t begin = *at;
    while (begin > 0 && tokens_[begin - 1].kind == SqlToken::kWord &&
           JoinWords().contains(tokens_[begin - 1].name)) {
      --begin;
    }
    return Erase(begin, EndOf(*at, /*of_join=*/true));
  }

  std::optional<std::string> UnknownFunction() {
    static const auto& foreign = *new std::map<std::string, std::string>{{"count", "COUNT_BIG"},
                                                                         {"avg", "MEAN"},
                                                                         {"sum", "SUM_OF"},
                                                                         {"max", "MAXIMUM"},
                                                                         {"min", "MINIMUM"}};
    const auto call = Pick([&](size_t i) {
      return tokens_[i].kind == SqlToken::kWord && foreign.contains(tokens_[i].name) &&
             i + 1 < tokens_.size() && tokens_[i + 1].text == "(";
    });
    if (call) return Replace(*call, *call, foreign.at(tokens_[*call].name));
    for (size_t i = 0; i + 1 < tokens_.size(); ++i) {
      // SELECT name …, with no alias and no table before it
      if (!Is(i, "select") || !IsColumn(i + 1)) continue;
      return Replace(i + 1, i + 1, absl::StrCat("UCASE(", tokens_[i + 1].text, ")"));
    }
    return std::nullopt;
  }

  std::optional<std::string> MissingQuote() {
    const auto at = Pick([this](size_t i) { return tokens_[i].kind == SqlToken::kString; });
    if (!at) return std::nullopt;
    return Replace(*at, *at, tokens_[*at].text.substr(0, tokens_[*at].text.size() - 1));
  }

  std::optional<std::string> MissingParenthesis() {
    const auto at = Pick([this](size_t i) { return tokens_[i].text == ")"; });
    return at ? std::optional(Erase(*at, *at + 1)) : std::nullopt;
  }

  std::optional<std::string> MisspeltKeyword() {
    static const auto& wrong = *new std::map<std::string, std::string>{
        {"from", "FORM"}, {"where", "WHER"}, {"group", "GRUOP"}, {"order", "ODER"}};
    const auto at = Pick([this](size_t i) {
      return tokens_[i].kind == SqlToken::kWord && wrong.contains(tokens_[i].name);
    });
    if (!at) return std::nullopt;
    return Replace(*at, *at, wrong.at(tokens_[*at].name));
  }

  std::optional<std::string> DoubleQuotes() {
    const auto at = Pick([this](size_t i) {
      return tokens_[i].kind == SqlToken::kString && tokens_[i].name.find('"') == std::string::npos;
    });
    if (!at) return std::nullopt;
    return Replace(*at, *at, absl::StrCat("\"", tokens_[*at].name, "\""));
  }

  std::optional<std::string> OtherColumn() {
    const auto at = Pick([this](size_t i) { return IsColumn(i); });
    if (!at) return std::nullopt;
    const std::string own = Lower(tokens_[*at].name);
    std::vector<std::string> others;
    for (const auto& [table, columns] : schema_) {
      if (std::none_of(columns.begin(), columns.end(),
                       [&](const std::string& column) { return Lower(column) == own; })) {
        continue;
      }
      for (const std::string& column : columns) {
        if (Lower(column) != own) others.push_back(column);
      }
    }
    if (others.empty()) return std::nullopt;
    return Replace(*at, *at, Quoted(others[random_() % others.size()]));
  }

  std::optional<std::string> OtherValue() {
    const auto at = Pick([this](size_t i) {
      const SqlToken& token = tokens_[i];
      const bool compared = i > 0 && tokens_[i - 1].kind == SqlToken::kSymbol;
      return token.kind == SqlToken::kString ? !token.name.empty()
                                             : token.kind == SqlToken::kNumber && compared;
    });
    if (!at) return std::nullopt;
    const SqlToken& token = tokens_[*at];
    if (token.kind == SqlToken::kNumber) return Replace(*at, *at, absl::StrCat(token.text, "1"));
    std::string name = token.name;
    for (char& c : name) {
      c = absl::ascii_isupper(static_cast<unsigned char>(c)) ? absl::ascii_tolower(c)
                                                             : absl::ascii_toupper(c);
    }
    if (name == token.name) name += "0";
    return Replace(*at, *at, SqlString(name));
  }

  std::optional<std::string> LostCondition() {
    const auto at = Pick([this](size_t i) { return Is(i, "where"); });
    if (!at) return std::nullopt;
    return Erase(*at, EndOf(*at, /*of_join=*/false));
  }

  std::optional<std::string> OtherComparison() {
    static const auto& other = *new std::map<std::string, std::string>{
        {"=", "<>"}, {"<", ">"}, {">", "<"}, {"!=", "="}, {"<>", "="}, {"<=", ">"}, {">=", "<"}};
    // Not in the condition of a join.
    const auto at = Pick([this](size_t i) {
      return (other.contains(tokens_[i].text) && i + 1 < tokens_.size() &&
              (tokens_[i + 1].kind == SqlToken::kString ||
               tokens_[i + 1].kind == SqlToken::kNumber)) ||
             Is(i, "desc");
    });
    if (!at) return std::nullopt;
    return Replace(*at, *at, Is(*at, "desc") ? "ASC" : other.at(tokens_[*at].text));
  }

  std::optional<std::string> OtherAggregate() {
    static const auto& other = *new std::map<std::string, std::string>{
        {"avg", "SUM"}, {"sum", "AVG"}, {"max", "MIN"}, {"min", "MAX"}};
    const auto at = Pick([this](size_t i) {
      return tokens_[i].kind == SqlToken::kWord && other.contains(tokens_[i].name) &&
             i + 1 < tokens_.size() && tokens_[i + 1].text == "(";
    });
    if (!at) return std::nullopt;
    return Replace(*at, *at, other.at(tokens_[*at].name));
  }

 private:
  bool Is(size_t i, std::string_view word) const {
    return tokens_[i].kind == SqlToken::kWord && tokens_[i].name == word;
  }
  bool IsName(size_t i) const {
    return tokens_[i].kind == SqlToken::kWord || tokens_[i].kind == SqlToken::kQuotedName;
  }
  bool IsReadTable(size_t i) const {
    return IsName(i) && i > 0 && (Is(i - 1, "from") || Is(i - 1, "join")) &&
           tables_.contains(Lower(tokens_[i].name));
  }
  // Not the name of a table before a dot, nor a function.
  bool IsColumn(size_t i) const {
    if (!IsName(i) || !columns_.contains(Lower(tokens_[i].name)) || IsReadTable(i)) return false;
    if (i > 0 && (Is(i - 1, "as") || Is(i - 1, "from") || Is(i - 1, "join"))) return false;
    return i + 1 == tokens_.size() || (tokens_[i + 1].text != "." && tokens_[i + 1].text != "(");
  }

  // One of the tokens for which `fits` holds.
  template <typename Fits>
  std::optional<size_t> Pick(const Fits& fits) {
    std::vector<size_t> places;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      if (fits(i)) places.push_back(i);
    }
    if (places.empty()) return std::nullopt;
    return places[random_() % places.size()];
  }

  // The token behind the clause that begins at `begin`.
  size_t EndOf(size_t begin, bool of_join) const {
    size_t end = begin + 1;
    for (; end < tokens_.size(); ++end) {
      const SqlToken& token = tokens_[end];
      if (token.depth < tokens_[begin].depth) break;
      if (token.depth > tokens_[begin].depth || token.kind != SqlToken::kWord) continue;
      if (ClauseWords().contains(token.name)) break;
      if (of_join && JoinWords().contains(token.name)) break;
    }
    return end;
  }

  std::string Replace(size_t first, size_t last, std::string_view by) const {
    return absl::StrCat(text_.substr(0, tokens_[first].begin), std::string(by),
                        text_.substr(tokens_[last].end));
  }
  // From token `begin` to before `end`.
  std::string Erase(size_t begin, size_t end) const {
    std::string rest = end < tokens_.size() ? text_.substr(tokens_[end].begin) : "";
    return std::string(
        absl::StripAsciiWhitespace(absl::StrCat(text_.substr(0, tokens_[begin].begin), rest)));
  }

  static std::string Quoted(const std::string& name) {
    const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
      return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_';
    });
    const bool starts = !absl::ascii_isdigit(static_cast<unsigned char>(name[0]));
    return plain && starts ? name : absl::StrCat("\"", name, "\"");
  }

  template <typename Fits>
  std::optional<std::string> Misspelt(const Fits& fits) {
    const auto at = Pick(fits);
    if (!at) return std::nullopt;
    const std::string& name = tokens_[*at].name;
    // The word as it is written, which `name` has in lower case.
    const std::string spelt =
        tokens_[*at].kind == SqlToken::kWord ? tokens_[*at].text : tokens_[*at].name;
    std::vector<std::string> wrong = {spelt + "s", spelt + "_name"};
    std::string snake;
    for (size_t i = 0; i < spelt.size(); ++i) {
      const bool upper = absl::ascii_isupper(static_cast<unsigned char>(spelt[i]));
      const bool after = i > 0 && absl::ascii_islower(static_cast<unsigned char>(spelt[i - 1]));
      if (upper && after) snake += '_';
      snake += absl::ascii_tolower(spelt[i]);
    }
    wrong.push_back(snake);
    for (size_t i = 1; i + 1 < spelt.size(); ++i) {
      std::string swapped = spelt;
      std::swap(swapped[i], swapped[i + 1]);
      if (i == 1 + random_() % spelt.size()) wrong.push_back(swapped);
    }
    std::shuffle(wrong.begin(), wrong.end(), random_);
    for (const std::string& candidate : wrong) {
      const std::string lower = Lower(candidate);
      if (lower == Lower(name) || tables_.contains(lower) || columns_.contains(lower)) continue;
      return Replace(*at, *at, Quoted(candidate));
    }
    return std::nullopt;
  }

  const std::string text_;
  const SqlSchema& schema_;
  std::mt19937_64& random_;
  const std::vector<SqlToken> tokens_;
  std::set<std::string> tables_;   // in lower case
  std::set<std::string> columns_;  // in lower case
};

}  // namespace

const std::vector<SqlFault>& AllSqlFaults() {
  static const auto& all =
      *new std::vector<SqlFault>{SqlFault::kMisspeltColumn,     SqlFault::kMisspeltTable,
                                 SqlFault::kWrongTable,         SqlFault::kMissingJoin,
                                 SqlFault::kUnknownFunction,    SqlFault::kMissingQuote,
                                 SqlFault::kMissingParenthesis, SqlFault::kMisspeltKeyword,
                                 SqlFault::kDoubleQuotes,       SqlFault::kProse,
                                 SqlFault::kOtherColumn,        SqlFault::kOtherValue,
                                 SqlFault::kLostCondition,      SqlFault::kOtherComparison,
                                 SqlFault::kOtherAggregate};
  return all;
}

bool IsMechanical(SqlFault fault) { return fault < SqlFault::kOtherColumn; }

std::string_view Name(SqlFault fault) {
  constexpr std::array<std::string_view, 15> kNames = {
      "misspelt column",  "misspelt table",   "wrong table",         "missing join",
      "unknown function", "missing quote",    "missing parenthesis", "misspelt keyword",
      "double quotes",    "prose before it",  "other column",        "other value",
      "lost condition",   "other comparison", "other aggregate"};
  return kNames[static_cast<size_t>(fault)];
}

std::optional<std::string> WithFault(std::string_view statement, SqlFault fault,
                                     const SqlSchema& schema, std::mt19937_64& random) {
  Statement parsed(statement, schema, random);
  const auto broken = [&]() -> std::optional<std::string> {
    switch (fault) {
      case SqlFault::kMisspeltColumn:
        return parsed.MisspeltColumn();
      case SqlFault::kMisspeltTable:
        return parsed.MisspeltTable();
      case SqlFault::kWrongTable:
        return parsed.WrongTable();
      case SqlFault::kMissingJoin:
        return parsed.MissingJoin();
      case SqlFault::kUnknownFunction:
        return parsed.UnknownFunction();
      case SqlFault::kMissingQuote:
        return parsed.MissingQuote();
      case SqlFault::kMissingParenthesis:
        return parsed.MissingParenthesis();
      case SqlFault::kMisspeltKeyword:
        return parsed.MisspeltKeyword();
      case SqlFault::kDoubleQuotes:
        return parsed.DoubleQuotes();
      case SqlFault::kProse:
        return absl::StrCat("The query is: ", std::string(statement));
      case SqlFault::kOtherColumn:
        return parsed.OtherColumn();
      case SqlFault::kOtherValue:
        return parsed.OtherValue();
      case SqlFault::kLostCondition:
        return parsed.LostCondition();
      case SqlFault::kOtherComparison:
        return parsed.OtherComparison();
      case SqlFault::kOtherAggregate:
        return parsed.OtherAggregate();
    }
    return std::nullopt;
  }();
  if (broken == std::string(statement)) return std::nullopt;
  return broken;
}

}  // namespace octogate::bench

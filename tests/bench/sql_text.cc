#include "tests/bench/sql_text.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"

namespace octogate::bench {
namespace {

bool IsWordByte(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || (c & 0x80) != 0;
}

constexpr std::array<std::string_view, 7> kPairs = {"<=", ">=", "<>", "!=", "==", "||", "->"};

}  // namespace

std::vector<SqlToken> LexSql(std::string_view statement) {
  std::vector<SqlToken> tokens;
  int depth = 0;
  size_t at = 0;
  while (at < statement.size()) {
    const char c = statement[at];
    if (absl::ascii_isspace(static_cast<unsigned char>(c))) {
      ++at;
      continue;
    }
    if (statement.substr(at, 2) == "--") {
      at = std::min(statement.find('\n', at), statement.size());
      continue;
    }
    SqlToken token{.begin = at, .depth = depth};
    if (c == '\'' || c == '"' || c == '`' || c == '[') {
      token.kind = c == '\'' ? SqlToken::kString : SqlToken::kQuotedName;
      const char close = c == '[' ? ']' : c;
      for (++at; at < statement.size(); ++at) {
        if (statement[at] != close) {
          token.name += statement[at];
        } else if (close != ']' && at + 1 < statement.size() && statement[at + 1] == close) {
          token.name += statement[at++];
        } else {
          break;
        }
      }
      at = std::min(at + 1, statement.size());
    } else if (absl::ascii_isdigit(static_cast<unsigned char>(c))) {
      token.kind = SqlToken::kNumber;
      while (at < statement.size() && (IsWordByte(statement[at]) || statement[at] == '.')) ++at;
    } else if (IsWordByte(c)) {
      token.kind = SqlToken::kWord;
      while (at < statement.size() && IsWordByte(statement[at])) ++at;
      token.name =
          absl::AsciiStrToLower(std::string(statement.substr(token.begin, at - token.begin)));
    } else {
      const bool pair =
          std::find(kPairs.begin(), kPairs.end(), statement.substr(at, 2)) != kPairs.end();
      at += pair ? 2 : 1;
      if (c == '(') ++depth;
      if (c == ')') token.depth = --depth;
    }
    token.end = at;
    token.text = statement.substr(token.begin, token.end - token.begin);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

bool OrdersItsRows(std::string_view statement) {
  const std::vector<SqlToken> tokens = LexSql(statement);
  return std::any_of(tokens.begin(), tokens.end(), [](const SqlToken& token) {
    return token.kind == SqlToken::kWord && token.name == "order" && token.depth == 0;
  });
}

std::string WithSingleQuotes(std::string_view statement, const std::vector<std::string>& columns) {
  std::string text;
  size_t copied = 0;
  for (const SqlToken& token : LexSql(statement)) {
    if (token.kind != SqlToken::kQuotedName || token.text[0] != '"' ||
        std::find(columns.begin(), columns.end(), absl::AsciiStrToLower(token.name)) !=
            columns.end()) {
      continue;
    }
    text += std::string(statement.substr(copied, token.begin - copied)) + SqlString(token.name);
    copied = token.end;
  }
  return text + std::string(statement.substr(copied));
}

std::string SqlString(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') quoted += c;
    quoted += c;
  }
  return quoted + "'";
}

}  // namespace octogate::bench

#include "workers/grammar/grammar.h"

#include <algorithm>
#include <optional>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/utf8.h"
#include "workers/grammar/utf8_ranges.h"

namespace octogate::workers {
namespace {

using Node = Grammar::Node;
using Kind = Grammar::Kind;

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNamePart(char c) { return IsNameStart(c) || IsDigit(c) || c == '-'; }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

class Parser {
 public:
  Parser(std::string_view text, const GrammarOptions& options) : text_(text), options_(options) {}

  absl::StatusOr<Grammar> Parse() {
    SkipBlanks();
    while (at_ < text_.size()) {
      OCTOGATE_RETURN_IF_ERROR(ParseRule());
    }
    for (size_t i = 0; i < grammar_.rules.size(); ++i) {
      if (grammar_.rules[i].line != 0) continue;
      at_ = first_use_[i];
      return Error(absl::StrCat("the rule \"", grammar_.rules[i].name,
                                "\" is used but not defined; add a line \"", grammar_.rules[i].name,
                                " ::= …\""));
    }
    if (options_.root.empty() && !grammar_.rules.empty()) return std::move(grammar_);
    const auto root = rule_index_.find(options_.root.empty() ? "root" : options_.root);
    if (root == rule_index_.end()) {
      const std::string name = options_.root.empty() ? "root" : options_.root;
      return absl::InvalidArgumentError(absl::StrCat("the grammar has no rule \"", name,
                                                     "\", where it would start; add a line \"",
                                                     name, " ::= …\""));
    }
    grammar_.root = root->second;
    return std::move(grammar_);
  }

 private:
  absl::Status ErrorAt(size_t at, const std::string& what) const {
    const std::string_view before = text_.substr(0, at);
    const size_t line_begin = before.rfind('\n') == before.npos ? 0 : before.rfind('\n') + 1;
    return absl::InvalidArgumentError(
        absl::StrCat("grammar:", 1 + std::count(before.begin(), before.end(), '\n'), ":",
                     at - line_begin + 1, ": ", what));
  }
  absl::Status Error(const std::string& what) const { return ErrorAt(at_, what); }

  bool AtEnd() const { return at_ == text_.size(); }
  char Peek(size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }
  bool Take(char c) {
    if (AtEnd() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void SkipBlanks() {
    while (!AtEnd()) {
      const char c = text_[at_];
      if (c == '#') {
        while (!AtEnd() && text_[at_] != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string TakeName() {
    const size_t begin = at_;
    while (!AtEnd() && IsNamePart(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }

  // Whether a rule begins here: "name ::=".
  bool AtDefinition() const {
    size_t at = at_;
    if (at >= text_.size() || !IsNameStart(text_[at])) return false;
    while (at < text_.size() && IsNamePart(text_[at])) ++at;
    while (at < text_.size() && (text_[at] == ' ' || text_[at] == '\t')) ++at;
    return text_.substr(at, 3) == "::=";
  }

  uint32_t AddNode(Node node) {
    grammar_.nodes.push_back(std::move(node));
    return static_cast<uint32_t>(grammar_.nodes.size() - 1);
  }

  absl::StatusOr<uint32_t> RuleIndex(const std::string& name, size_t at) {
    const auto [entry, added] =
        rule_index_.try_emplace(name, static_cast<uint32_t>(grammar_.rules.size()));
    if (added) {
      if (grammar_.rules.size() == Grammar::kMaxRules) {
        return absl::ResourceExhaustedError(
            absl::StrCat("the grammar has more than ", Grammar::kMaxRules, " rules"));
      }
      grammar_.rules.push_back({.name = name});
      first_use_.push_back(at);
    }
    return entry->second;
  }

  absl::Status ParseRule() {
    const size_t begin = at_;
    if (!AtDefinition()) return Error("expected a rule: \"name ::= …\"");
    OCTOGATE_ASSIGN_OR_RETURN(const uint32_t index, RuleIndex(TakeName(), begin));
    if (grammar_.rules[index].line != 0) {
      return ErrorAt(begin,
                     absl::StrCat("the rule \"", grammar_.rules[index].name,
                                  "\" is defined already in line ", grammar_.rules[index].line));
    }
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<ptrdiff_t>(line_at_),
                                         text_.begin() + static_cast<ptrdiff_t>(begin), '\n'));
    line_at_ = begin;
    grammar_.rules[index].line = line_;
    SkipBlanks();
    at_ += 3;  // ::=
    OCTOGATE_ASSIGN_OR_RETURN(grammar_.rules[index].node, ParseAlternation(0));
    if (!AtEnd() && !AtDefinition()) {
      return Error(Peek() == ')' ? std::string("this \")\" closes no group")
                                 : std::string("expected a literal, a class, a name, a group or "
                                               "the next rule"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<uint32_t> ParseAlternation(size_t nesting) {
    Node node{.kind = Kind::kAlternation};
    do {
      OCTOGATE_ASSIGN_OR_RETURN(const uint32_t child, ParseSequence(nesting));
      node.children.push_back(child);
    } while (Take('|'));
    if (node.children.size() == 1) return node.children[0];
    return AddNode(std::move(node));
  }

  absl::StatusOr<uint32_t> ParseSequence(size_t nesting) {
    Node node{.kind = Kind::kSequence};
    for (SkipBlanks(); !AtEnd() && Peek() != '|' && Peek() != ')' && !AtDefinition();
         SkipBlanks()) {
      OCTOGATE_ASSIGN_OR_RETURN(uint32_t item, ParseItem(nesting));
      OCTOGATE_ASSIGN_OR_RETURN(item, ParseRepetitions(item));
      node.children.push_back(item);
    }
    if (node.children.size() == 1) return node.children[0];
    return AddNode(std::move(node));
  }

  absl::StatusOr<uint32_t> ParseItem(size_t nesting) {
    const size_t begin = at_;
    if (Take('"')) return ParseLiteral(begin);
    if (Take('[')) return ParseClass(begin);
    if (Take('.')) return AddNode({.kind = Kind::kClass, .ranges = {{0, 0x10FFFF}}});
    if (Take('(')) {
      if (nesting == Grammar::kMaxNesting) {
        return absl::ResourceExhaustedError(
            absl::StrCat("groups are nested deeper than ", Grammar::kMaxNesting));
      }
      OCTOGATE_ASSIGN_OR_RETURN(const uint32_t group, ParseAlternation(nesting + 1));
      if (!Take(')')) {
        return AtEnd() || AtDefinition() ? ErrorAt(begin, "this group is not closed; add \")\"")
                                         : Error("expected \")\", \"|\" or another item");
      }
      return group;
    }
    if (Take('$')) {
      const std::string name = TakeName();
      return ParseWords(name, begin);
    }
    if (IsNameStart(Peek())) {
      OCTOGATE_ASSIGN_OR_RETURN(const uint32_t index, RuleIndex(TakeName(), begin));
      return AddNode({.kind = Kind::kRule, .index = index});
    }
    if (Peek() == '*' || Peek() == '+' || Peek() == '?' || Peek() == '{') {
      return Error("there is nothing to repeat before this");
    }
    return Error("expected a literal (\"…\"), a class ([…]), a name, $name or a group");
  }

  absl::StatusOr<uint32_t> ParseWords(const std::string& name, size_t begin) {
    const auto known = word_index_.find(name);
    if (known != word_index_.end()) {
      return AddNode({.kind = Kind::kWords, .index = known->second});
    }
    const auto list = options_.words.find(name);
    if (list == options_.words.end()) {
      return ErrorAt(begin, absl::StrCat("no words are given for \"$", name, "\""));
    }
    for (const std::string& word : list->second.words) {
      word_bytes_ += word.size();
      if (++word_count_ > Grammar::kMaxWords || word_bytes_ > Grammar::kMaxWordBytes) {
        return absl::ResourceExhaustedError(absl::StrCat(
            "the words of the grammar are more than ", Grammar::kMaxWords, " or have more than ",
            Grammar::kMaxWordBytes, " bytes; \"$", name, "\" is where that begins"));
      }
      if (word.empty() || !IsValidUtf8(word)) {
        return absl::InvalidArgumentError(absl::StrCat("a word of \"$", name, "\" is ",
                                                       word.empty() ? "empty" : "not valid UTF-8"));
      }
    }
    const auto index = static_cast<uint32_t>(grammar_.words.size());
    grammar_.words.push_back(list->second);
    word_index_.emplace(name, index);
    return AddNode({.kind = Kind::kWords, .index = index});
  }

  // One character of a literal or a class, escapes resolved.
  absl::StatusOr<char32_t> TakeCharacter() {
    if (!Take('\\')) return TakeCodePoint(text_, &at_);
    const size_t begin = at_ - 1;
    const char c = Peek();
    ++at_;
    size_t digits = 0;
    switch (c) {
      case 'n':
        return U'\n';
      case 'r':
        return U'\r';
      case 't':
        return U'\t';
      case '\\':
      case '"':
      case '\'':
      case '[':
      case ']':
      case '^':
      case '-':
        return static_cast<char32_t>(c);
      case 'x':
        digits = 2;
        break;
      case 'u':
        digits = 4;
        break;
      case 'U':
        digits = 8;
        break;
      default:
        return ErrorAt(begin,
                       "unknown escape; known are \\n \\r \\t \\\\ \\\" \\' \\[ \\] \\^ \\- \\xHH "
                       "\\uHHHH \\UHHHHHHHH");
    }
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const int digit = HexDigit(Peek());
      if (digit < 0) return ErrorAt(begin, absl::StrCat("expected ", digits, " hex digits here"));
      value = value << 4 | static_cast<uint32_t>(digit);
      ++at_;
    }
    if (value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) {
      return ErrorAt(begin, "this is not a Unicode character");
    }
    return static_cast<char32_t>(value);
  }

  absl::StatusOr<uint32_t> ParseLiteral(size_t begin) {
    Node node{.kind = Kind::kLiteral};
    while (!Take('"')) {
      if (AtEnd() || Peek() == '\n') {
        return ErrorAt(begin, "this literal is not closed; add '\"' (a line end is written \\n)");
      }
      OCTOGATE_ASSIGN_OR_RETURN(const char32_t c, TakeCharacter());
      AppendCharacter(c, &node.text);
    }
    if (Peek() == 'i' && !IsNamePart(Peek(1))) {
      ++at_;
      node.ignore_case = true;
    }
    return AddNode(std::move(node));
  }

  absl::StatusOr<uint32_t> ParseClass(size_t begin) {
    Node node{.kind = Kind::kClass};
    const bool complement = Take('^');
    while (!Take(']')) {
      if (AtEnd() || Peek() == '\n') {
        return ErrorAt(begin, "this class is not closed; add \"]\" (a line end is written \\n)");
      }
      const size_t range_begin = at_;
      OCTOGATE_ASSIGN_OR_RETURN(const char32_t first, TakeCharacter());
      char32_t last = first;
      if (Peek() == '-' && Peek(1) != ']') {
        ++at_;
        if (AtEnd()) continue;
        OCTOGATE_ASSIGN_OR_RETURN(last, TakeCharacter());
        if (last < first) return ErrorAt(range_begin, "the range ends before it begins");
      }
      node.ranges.emplace_back(first, last);
    }
    NormalizeRanges(node.ranges, complement);
    if (node.ranges.empty()) return ErrorAt(begin, "this class holds no character");
    return AddNode(std::move(node));
  }

  absl::StatusOr<uint32_t> TakeNumber() {
    if (!IsDigit(Peek())) return Error("expected a number");
    const size_t begin = at_;
    size_t value = 0;
    while (IsDigit(Peek())) {
      value = value * 10 + static_cast<size_t>(Peek() - '0');
      ++at_;
      if (value > Grammar::kMaxRepetition) {
        return ErrorAt(begin, absl::StrCat("more than ", Grammar::kMaxRepetition, " repetitions"));
      }
    }
    return static_cast<uint32_t>(value);
  }

  absl::StatusOr<uint32_t> ParseRepetitions(uint32_t item) {
    // "a**" is allowed, but a chain of operators must not become a deep tree.
    for (int operators = 0;; ++operators) {
      Node node{.kind = Kind::kRepetition, .max = Grammar::kUnlimited, .children = {item}};
      const size_t begin = at_;
      if (Take('*')) {
      } else if (Take('+')) {
        node.min = 1;
      } else if (Take('?')) {
        node.max = 1;
      } else if (Take('{')) {
        SkipBlanks();
        OCTOGATE_ASSIGN_OR_RETURN(node.min, TakeNumber());
        node.max = node.min;
        SkipBlanks();
        if (Take(',')) {
          SkipBlanks();
          node.max = Grammar::kUnlimited;
          if (Peek() != '}') {
            OCTOGATE_ASSIGN_OR_RETURN(node.max, TakeNumber());
          }
          SkipBlanks();
        }
        if (!Take('}')) return Error("expected \"}\", as in {2}, {2,} and {2,5}");
        if (node.max < node.min) return ErrorAt(begin, "the upper bound is below the lower one");
      } else {
        return item;
      }
      if (operators == 4) return ErrorAt(begin, "too many repetitions of one item; use a group");
      item = AddNode(std::move(node));
    }
  }

  const std::string_view text_;
  const GrammarOptions& options_;
  size_t at_ = 0;
  size_t line_at_ = 0;
  int line_ = 1;  // at line_at_
  Grammar grammar_;
  std::vector<size_t> first_use_;  // of rules, in the text
  absl::flat_hash_map<std::string, uint32_t> rule_index_;
  absl::flat_hash_map<std::string, uint32_t> word_index_;
  size_t word_count_ = 0;
  size_t word_bytes_ = 0;
};

}  // namespace

absl::StatusOr<Grammar> ParseGrammar(std::string_view text, const GrammarOptions& options) {
  if (text.size() > Grammar::kMaxTextBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the grammar has ", text.size(), " bytes; the limit is ", Grammar::kMaxTextBytes));
  }
  if (!IsValidUtf8(text)) return absl::InvalidArgumentError("the grammar is not valid UTF-8");
  return Parser(text, options).Parse();
}

}  // namespace octogate::workers

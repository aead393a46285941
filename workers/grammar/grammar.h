// Grammars as users write them: the text of a context-free grammar and its syntax tree.
//
// The notation is GBNF's, with two additions ($names and "…"i):
//
//   # a comment, to the end of the line
//   root   ::= object | array            rules; the first to be expanded is "root"
//   object ::= "{" ws pair ("," pair)* "}"
//   digit  ::= [0-9]                     a class of characters; [^…] is its complement
//   any    ::= .                         any character
//   number ::= "-"? digit{1,3} digit*    * + ? {n} {n,} {n,m} bind to the item before them
//   query  ::= "select"i ws $column      "…"i ignores the case of ASCII letters; $name stands for
//                                        one of the words that GrammarOptions::words has for it
//
// Literals and classes know the escapes \n \r \t \\ \" \' \[ \] \^ \- \xHH \uHHHH \UHHHHHHHH, each
// a character (\xHH is U+00HH). A rule goes on over the ends of lines, until the next "name ::=".
// The text is UTF-8, and so is what a grammar generates. Rules may be recursive in every way, the
// left one too, and ambiguous.
#ifndef OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_H_
#define OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace octogate::workers {

// The words that a $name stands for.
struct WordList {
  std::vector<std::string> words;  // UTF-8; none of them empty
  bool ignore_case = false;        // of ASCII letters
};

struct GrammarOptions {
  // By name, without the dollar sign. A list without words matches nothing.
  std::map<std::string, WordList, std::less<>> words;
  std::string root = "root";  // the rule that is the whole; empty: the first
};

struct Grammar {
  static constexpr size_t kMaxTextBytes = size_t{1} << 20;
  static constexpr size_t kMaxRules = 16384;
  static constexpr size_t kMaxNesting = 128;  // of groups
  static constexpr size_t kMaxRepetition = 100'000;
  static constexpr size_t kMaxWords = 200'000;  // of all lists
  static constexpr size_t kMaxWordBytes = size_t{8} << 20;

  enum class Kind : uint8_t {
    kLiteral,      // text, ignore_case
    kClass,        // ranges
    kRule,         // index: of a rule
    kWords,        // index: of a word list
    kSequence,     // children; none: the empty text
    kAlternation,  // children, at least one
    kRepetition,   // children[0]; min, max
  };
  static constexpr uint32_t kUnlimited = UINT32_MAX;
  struct Node {
    Kind kind = Kind::kSequence;
    bool ignore_case = false;
    uint32_t index = 0;
    uint32_t min = 0;
    uint32_t max = 0;
    std::string text;
    std::vector<std::pair<char32_t, char32_t>> ranges;  // inclusive, ascending, disjoint
    std::vector<uint32_t> children;                     // indices of nodes, smaller than its own
  };
  struct Rule {
    std::string name;
    uint32_t node = 0;
    int line = 0;  // of its definition, from 1
  };

  std::vector<Node> nodes;
  std::vector<Rule> rules;
  std::vector<WordList> words;
  uint32_t root = 0;  // index of a rule
};

// INVALID_ARGUMENT with line, column and what would be right, for text that is not a grammar: bad
// syntax, a rule that is missing or defined twice, a $name without a list; RESOURCE_EXHAUSTED for
// one that is larger than the constants above allow.
absl::StatusOr<Grammar> ParseGrammar(std::string_view text, const GrammarOptions& options = {});

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_GRAMMAR_H_

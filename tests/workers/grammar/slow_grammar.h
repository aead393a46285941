// Random small grammars, and a slow recogniser of their texts that shares nothing with the one
// under test: it tries every cut of a text, for every rule and span, until nothing changes.
#ifndef OCTOGATE_TESTS_WORKERS_GRAMMAR_SLOW_GRAMMAR_H_
#define OCTOGATE_TESTS_WORKERS_GRAMMAR_SLOW_GRAMMAR_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace octogate::workers {

// What the texts are made of: two letters, and two characters whose UTF-8 shares its first byte.
inline const std::vector<std::string>& Letters() {
  static const auto* const letters = new std::vector<std::string>{"a", "b", "\xC3\xA9", "\xC3\xAA"};
  return *letters;
}

struct SlowExpression {
  enum Kind { kText, kOneOf, kNoneOf, kRule, kSequence, kChoice, kRepeat };
  Kind kind = kText;
  std::string text;                   // of kText
  std::vector<std::string> letters;   // of kOneOf and kNoneOf
  int rule = 0;                       // of kRule
  int min = 0;                        // of kRepeat
  int max = 0;                        // of kRepeat; negative: none
  std::vector<SlowExpression> parts;  // of the others
};

class SlowGrammar {
 public:
  // Rule 0 is the root.
  explicit SlowGrammar(std::vector<SlowExpression> rules) : rules_(std::move(rules)) {}

  static SlowGrammar Random(std::mt19937& random) {
    const int count = 1 + static_cast<int>(random() % 4);
    std::vector<SlowExpression> rules;
    for (int i = 0; i < count; ++i) rules.push_back(RandomExpression(random, count, 3));
    return SlowGrammar(std::move(rules));
  }

  std::string Notation() const {
    std::string text;
    for (size_t i = 0; i < rules_.size(); ++i) {
      text += RuleName(static_cast<int>(i)) + " ::= " + Notation(rules_[i]) + "\n";
    }
    return text;
  }

  // Whether the root matches any text.
  bool Satisfiable() const {
    std::vector<bool> productive(rules_.size());
    for (size_t round = 0; round <= rules_.size(); ++round) {
      for (size_t i = 0; i < rules_.size(); ++i) productive[i] = Productive(rules_[i], productive);
    }
    return productive[0];
  }

  bool Accepts(std::string_view text) const {
    Spans spans(rules_.size() * (text.size() + 1) * (text.size() + 1));
    for (bool changed = true; changed;) {
      changed = false;
      for (size_t rule = 0; rule < rules_.size(); ++rule) {
        for (size_t begin = 0; begin <= text.size(); ++begin) {
          for (size_t end = begin; end <= text.size(); ++end) {
            const size_t place = Place(rule, begin, end, text);
            if (spans[place] || !Matches(rules_[rule], text, begin, end, spans)) continue;
            spans[place] = true;
            changed = true;
          }
        }
      }
    }
    return spans[Place(0, 0, text.size(), text)];
  }

 private:
  using Spans = std::vector<bool>;

  static size_t Place(size_t rule, size_t begin, size_t end, std::string_view text) {
    return (rule * (text.size() + 1) + begin) * (text.size() + 1) + end;
  }

  static SlowExpression RandomExpression(std::mt19937& random, int rules, int depth) {
    SlowExpression e;
    const auto below = [&](uint32_t n) { return static_cast<int>(random() % n); };
    switch (depth == 0 ? below(5) : below(9)) {
      case 0:
      case 1:
        e.kind = SlowExpression::kText;
        for (int i = below(3); i > 0; --i) e.text += Letters()[random() % Letters().size()];
        return e;
      case 2:
        e.kind = below(3) == 0 ? SlowExpression::kNoneOf : SlowExpression::kOneOf;
        e.letters.push_back(Letters()[random() % Letters().size()]);
        if (below(2) == 0) e.letters.push_back(Letters()[random() % Letters().size()]);
        return e;
      case 3:
      case 4:
        e.kind = SlowExpression::kRule;
        e.rule = below(static_cast<uint32_t>(rules));
        return e;
      case 5:
      case 6:
        e.kind = SlowExpression::kSequence;
        break;
      case 7:
        e.kind = SlowExpression::kChoice;
        break;
      default:
        e.kind = SlowExpression::kRepeat;
        e.min = below(3);
        e.max = below(2) == 0 ? -1 : e.min + below(3);
        e.parts.push_back(RandomExpression(random, rules, depth - 1));
        return e;
    }
    for (int i = 1 + below(3); i > 0; --i) {
      e.parts.push_back(RandomExpression(random, rules, depth - 1));
    }
    return e;
  }

  static std::string RuleName(int rule) {
    return rule == 0 ? "root" : "rule-" + std::to_string(rule);
  }

  static std::string Notation(const SlowExpression& e) {
    std::string text;
    switch (e.kind) {
      case SlowExpression::kText:
        return "\"" + e.text + "\"";
      case SlowExpression::kOneOf:
      case SlowExpression::kNoneOf:
        text = e.kind == SlowExpression::kNoneOf ? "[^" : "[";
        for (const std::string& letter : e.letters) text += letter;
        return text + "]";
      case SlowExpression::kRule:
        return RuleName(e.rule);
      case SlowExpression::kSequence:
      case SlowExpression::kChoice:
        for (const SlowExpression& part : e.parts) {
          if (!text.empty()) text += e.kind == SlowExpression::kChoice ? " | " : " ";
          text += Notation(part);
        }
        return "(" + text + ")";
      case SlowExpression::kRepeat:
        text = "(" + Notation(e.parts[0]) + "){" + std::to_string(e.min);
        if (e.max != e.min) text += "," + (e.max < 0 ? "" : std::to_string(e.max));
        return text + "}";
    }
    return text;
  }

  static bool Productive(const SlowExpression& e, const std::vector<bool>& rules) {
    const auto productive = [&](const SlowExpression& part) { return Productive(part, rules); };
    switch (e.kind) {
      case SlowExpression::kRule:
        return rules[static_cast<size_t>(e.rule)];
      case SlowExpression::kSequence:
        return std::all_of(e.parts.begin(), e.parts.end(), productive);
      case SlowExpression::kChoice:
        return std::any_of(e.parts.begin(), e.parts.end(), productive);
      case SlowExpression::kRepeat:
        return e.min == 0 || productive(e.parts[0]);
      default:
        return true;
    }
  }

  // Whether text[begin, end) is one character of UTF-8.
  static bool IsCharacter(std::string_view text) {
    if (text.size() == 1) return static_cast<uint8_t>(text[0]) < 0x80;
    return text.size() == 2 && (static_cast<uint8_t>(text[0]) & 0xE0) == 0xC0 &&
           (static_cast<uint8_t>(text[1]) & 0xC0) == 0x80;
  }

  bool Matches(const SlowExpression& e, std::string_view text, size_t begin, size_t end,
               const Spans& spans) const {
    const std::string_view span = text.substr(begin, end - begin);
    switch (e.kind) {
      case SlowExpression::kText:
        return span == e.text;
      case SlowExpression::kOneOf:
        return std::find(e.letters.begin(), e.letters.end(), span) != e.letters.end();
      case SlowExpression::kNoneOf:
        return IsCharacter(span) &&
               std::find(e.letters.begin(), e.letters.end(), span) == e.letters.end();
      case SlowExpression::kRule:
        return spans[Place(static_cast<size_t>(e.rule), begin, end, text)];
      case SlowExpression::kSequence:
        return MatchesAll(e, 0, text, begin, end, spans);
      case SlowExpression::kChoice:
        return std::any_of(e.parts.begin(), e.parts.end(), [&](const SlowExpression& part) {
          return Matches(part, text, begin, end, spans);
        });
      case SlowExpression::kRepeat:
        return Repeats(e, 0, text, begin, end, spans);
    }
    return false;
  }

  bool MatchesAll(const SlowExpression& e, size_t part, std::string_view text, size_t begin,
                  size_t end, const Spans& spans) const {
    if (part == e.parts.size()) return begin == end;
    for (size_t cut = begin; cut <= end; ++cut) {
      if (Matches(e.parts[part], text, begin, cut, spans) &&
          MatchesAll(e, part + 1, text, cut, end, spans)) {
        return true;
      }
    }
    return false;
  }

  bool Repeats(const SlowExpression& e, int done, std::string_view text, size_t begin, size_t end,
               const Spans& spans) const {
    if (begin == end && done >= e.min) return true;
    if (e.max >= 0 && done >= e.max) return false;
    // An empty repetition brings nothing but the next one.
    for (size_t cut = done < e.min ? begin : begin + 1; cut <= end; ++cut) {
      if (Matches(e.parts[0], text, begin, cut, spans) &&
          Repeats(e, done + 1, text, cut, end, spans)) {
        return true;
      }
    }
    return false;
  }

  const std::vector<SlowExpression> rules_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_GRAMMAR_SLOW_GRAMMAR_H_

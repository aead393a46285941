#include "gateway/tools/calculator/parser.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gateway/tools/calculator/lexer.h"
#include "gateway/tools/request_text.h"

namespace octogate::gateway::calculator {
namespace {

constexpr std::string_view kPrefixes[] = {
    "what is",       "what's",       "whats",     "what does", "how much is",
    "how much are",  "calculate",    "compute",   "evaluate",  "work out",
    "tell me",       "please",       "can you",   "could you", "find",
    "the result of", "the value of", "result of", "value of",
};
constexpr std::string_view kSuffixes[] = {"?", "=", "equals", "equal", "please", ",", ";", "."};

// A parsed operand and what decides whether something next to it would be ambiguous.
struct Operand {
  int node = 0;
  bool is_percent = false;  // Written with % last.
  bool is_power = false;    // Ends with an exponent without brackets.
  bool is_prefix = false;   // A function applied without brackets, as in "sqrt 2".
};

class Parser {
 public:
  Parser(std::vector<Token> tokens, const Limits& limits)
      : tokens_(std::move(tokens)), max_nesting_(limits.max_nesting) {}

  absl::StatusOr<Expression> Run() {
    const absl::StatusOr<Operand> result = Sum();
    if (!result.ok()) return result.status();
    if (Next().kind != TokenKind::kEnd) return Unexpected("an operator");
    return std::move(nodes_);
  }

 private:
  // Counts one level of recursion while it lives.
  class Nesting {
   public:
    explicit Nesting(Parser& parser) : depth_(parser.depth_) { ++depth_; }
    ~Nesting() { --depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    int& depth_;
  };

  const Token& Next(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  bool Accept(TokenKind kind) {
    if (Next().kind != kind) return false;
    ++at_;
    return true;
  }

  absl::Status Unexpected(std::string_view wanted) const {
    const absl::string_view expected(wanted.data(), wanted.size());
    if (Next().kind == TokenKind::kEnd) {
      return InvalidAt(Next().column,
                       absl::StrCat("the expression ends where ", expected, " was expected"));
    }
    const std::string_view hint =
        Next().kind == TokenKind::kComma
            ? "; outside functions a comma only separates thousands (1,000) and the decimal point "
              "is \".\""
            : "";
    return InvalidAt(Next().column,
                     absl::StrCat("expected ", expected, ", found ", Quoted(Next().text),
                                  absl::string_view(hint.data(), hint.size())));
  }

  absl::Status CheckNesting() const {
    if (depth_ <= max_nesting_) return absl::OkStatus();
    return AtColumn(Next().column,
                    absl::ResourceExhaustedError(absl::StrCat(
                        "nested more deeply than the limit of ", max_nesting_, " levels")));
  }

  int AddNode(Operation operation, int column, std::vector<int> arguments) {
    nodes_.push_back({.operation = operation, .column = column, .arguments = std::move(arguments)});
    return static_cast<int>(nodes_.size()) - 1;
  }

  int AddInteger(int column, std::string_view digits) {
    const int node = AddNode(Operation::kNumber, column, {});
    nodes_.back().digits = digits;
    return node;
  }

  absl::StatusOr<Operand> Sum() {
    absl::StatusOr<Operand> left = Product();
    while (left.ok() && (Next().kind == TokenKind::kPlus || Next().kind == TokenKind::kMinus)) {
      const bool plus = Next().kind == TokenKind::kPlus;
      const int column = Next().column;
      ++at_;
      const absl::StatusOr<Operand> right = Product();
      if (!right.ok()) return right.status();
      if (right->is_percent && !left->is_percent) {
        return InvalidAt(
            column, absl::StrCat("adding or taking off a percentage is ambiguous; "
                                 "write x * (1 ",
                                 plus ? "+" : "-", " p%) or x ", plus ? "+" : "-", " (p/100)"));
      }
      left = Operand{
          .node = AddNode(plus ? Operation::kAdd : Operation::kSubtract, column,
                          {left->node, right->node}),
          .is_percent = left->is_percent && right->is_percent,
      };
    }
    return left;
  }

  static bool StartsImplicitFactor(TokenKind kind) {
    return kind == TokenKind::kOpen || kind == TokenKind::kFunction || kind == TokenKind::kPi ||
           kind == TokenKind::kE;
  }

  absl::StatusOr<Operand> Product() {
    absl::StatusOr<Operand> left = Signed();
    bool divides = false;  // A quotient or remainder was the last operator.
    while (left.ok()) {
      const Token& token = Next();
      Operation operation = Operation::kMultiply;
      if (token.kind == TokenKind::kDivide) {
        operation = Operation::kDivide;
      } else if (token.kind == TokenKind::kModulo || token.kind == TokenKind::kPercent) {
        operation = Operation::kModulo;  // Postfix() left this % because an operand follows it.
      } else if (token.kind == TokenKind::kOff && left->is_percent) {
        operation = Operation::kPercentOff;
      } else if (StartsImplicitFactor(token.kind)) {
        if (divides || left->is_power || left->is_prefix) {
          return InvalidAt(token.column,
                           "a product without a sign is ambiguous after a division, a power or a "
                           "function without brackets; write * or brackets");
        }
      } else if (token.kind != TokenKind::kTimes &&
                 !(token.kind == TokenKind::kOf && left->is_percent)) {
        return left;
      }
      const int column = token.column;
      const bool implicit = StartsImplicitFactor(token.kind);
      if (!implicit) ++at_;
      const absl::StatusOr<Operand> right = implicit ? Power() : Signed();
      if (!right.ok()) return right;
      divides = operation == Operation::kDivide || operation == Operation::kModulo;
      const bool percentage = right->is_percent && token.kind == TokenKind::kOf;
      left = Operand{.node = AddNode(operation, column, {left->node, right->node}),
                     .is_percent = percentage,
                     .is_power = right->is_power,
                     .is_prefix = right->is_prefix};
    }
    return left;
  }

  absl::StatusOr<Operand> Signed() {
    const Nesting nesting(*this);
    if (absl::Status status = CheckNesting(); !status.ok()) return status;
    const int column = Next().column;
    if (Accept(TokenKind::kPlus)) return Signed();
    if (!Accept(TokenKind::kMinus)) return Power();
    absl::StatusOr<Operand> operand = Signed();
    if (operand.ok()) operand->node = AddNode(Operation::kNegate, column, {operand->node});
    return operand;
  }

  absl::StatusOr<Operand> Power() {
    absl::StatusOr<Operand> base = Postfix();
    if (!base.ok() || Next().kind != TokenKind::kPower) return base;
    if (base->is_prefix) return AmbiguousPrefix();
    const int column = Next().column;
    ++at_;
    const absl::StatusOr<Operand> exponent = Signed();
    if (!exponent.ok()) return exponent;
    return Operand{.node = AddNode(Operation::kPower, column, {base->node, exponent->node}),
                   .is_power = true};
  }

  absl::Status AmbiguousPrefix() const {
    return InvalidAt(Next().column, absl::StrCat(Quoted(Next().text),
                                                 " after a function without brackets is "
                                                 "ambiguous; put brackets around its argument"));
  }

  // Whether the token after a % makes it a remainder.
  static bool StartsOperand(TokenKind kind) {
    return kind == TokenKind::kNumber || StartsImplicitFactor(kind);
  }

  absl::StatusOr<Operand> Postfix() {
    absl::StatusOr<Operand> operand = Primary();
    while (operand.ok()) {
      const Token& token = Next();
      const int column = token.column;
      Operation operation = Operation::kPower;
      if (token.kind == TokenKind::kFactorial) {
        operation = Operation::kFactorial;
        if (Next(1).kind == TokenKind::kFactorial) {
          return InvalidAt(column,
                           "\"!!\" is ambiguous; write (n!)! for a factorial of a factorial");
        }
      } else if (token.kind == TokenKind::kPercent) {
        if (StartsOperand(Next(1).kind)) return operand;
        operation = Operation::kPercent;
      } else if (token.kind == TokenKind::kDegrees) {
        operation = Operation::kRadians;
      } else if (token.kind != TokenKind::kSquared && token.kind != TokenKind::kCubed) {
        return operand;
      }
      if (operand->is_prefix) return AmbiguousPrefix();
      ++at_;
      std::vector<int> arguments = {operand->node};
      if (operation == Operation::kPower) {
        arguments.push_back(AddInteger(column, token.kind == TokenKind::kSquared ? "2" : "3"));
      }
      operand = Operand{.node = AddNode(operation, column, std::move(arguments)),
                        .is_percent = operation == Operation::kPercent};
    }
    return operand;
  }

  absl::StatusOr<Operand> Primary() {
    const Token& token = Next();
    switch (token.kind) {
      case TokenKind::kNumber: {
        ++at_;
        const int node = AddInteger(token.column, token.digits);
        nodes_.back().exponent = token.exponent;
        return Operand{.node = node};
      }
      case TokenKind::kPi:
      case TokenKind::kE:
        ++at_;
        return Operand{.node =
                           AddNode(token.kind == TokenKind::kPi ? Operation::kPi : Operation::kE,
                                   token.column, {})};
      case TokenKind::kOpen: {
        ++at_;
        absl::StatusOr<Operand> inner = Sum();
        if (!inner.ok()) return inner;
        if (!Accept(TokenKind::kClose)) return Unexpected("\")\"");
        return Operand{.node = inner->node};
      }
      case TokenKind::kFunction:
        ++at_;
        return Function(token);
      default:
        return Unexpected("a number, a function or \"(\"");
    }
  }

  absl::StatusOr<Operand> Function(const Token& token) {
    std::vector<int> arguments;
    bool prefix = false;
    if (Accept(TokenKind::kOpen)) {
      do {
        const absl::StatusOr<Operand> argument = Sum();
        if (!argument.ok()) return argument;
        arguments.push_back(argument->node);
      } while (Accept(TokenKind::kComma));
      if (!Accept(TokenKind::kClose)) {
        return Unexpected(token.function->max_arguments > 1 ? "\",\" or \")\"" : "\")\"");
      }
    } else {
      prefix = true;
      const bool several = Accept(TokenKind::kOf) && token.function->max_arguments > 1;
      do {
        const absl::StatusOr<Operand> argument = PrefixArgument();
        if (!argument.ok()) return argument;
        arguments.push_back(argument->node);
      } while (several && AcceptSeparator());
    }
    const FunctionInfo& function = *token.function;
    const int count = static_cast<int>(arguments.size());
    if (count < function.min_arguments || count > function.max_arguments) {
      const std::string wanted =
          function.max_arguments == kAnyNumber ? absl::StrCat("at least ", function.min_arguments)
          : function.min_arguments == function.max_arguments
              ? absl::StrCat(function.min_arguments)
              : absl::StrCat(function.min_arguments, " or ", function.max_arguments);
      return InvalidAt(token.column,
                       absl::StrCat(Quoted(token.text), " takes ", wanted,
                                    wanted == "1" ? " argument" : " arguments", ", found ", count));
    }
    return Operand{.node = AddNode(function.operation, token.column, std::move(arguments)),
                   .is_prefix = prefix};
  }

  // Between the arguments of "gcd of 12, 18 and 30".
  bool AcceptSeparator() {
    const bool comma = Accept(TokenKind::kComma);
    return Accept(TokenKind::kAnd) || comma;
  }

  // One operand, so that "sqrt 16 + 9" is 13.
  absl::StatusOr<Operand> PrefixArgument() {
    const Nesting nesting(*this);
    if (absl::Status status = CheckNesting(); !status.ok()) return status;
    const int column = Next().column;
    if (Accept(TokenKind::kMinus)) {
      absl::StatusOr<Operand> operand = PrefixArgument();
      if (operand.ok()) operand->node = AddNode(Operation::kNegate, column, {operand->node});
      return operand;
    }
    absl::StatusOr<Operand> operand = Primary();
    if (operand.ok() && Next().kind == TokenKind::kDegrees) {
      operand->node = AddNode(Operation::kRadians, Next().column, {operand->node});
      ++at_;
    }
    return operand;
  }

  const std::vector<Token> tokens_;
  const int max_nesting_;
  size_t at_ = 0;
  int depth_ = 0;
  Expression nodes_;
};

}  // namespace

absl::StatusOr<Expression> Parse(std::string_view request, const Limits& limits) {
  if (absl::Status status = CheckRequestText(request, limits.max_input_bytes); !status.ok()) {
    return status;
  }
  const std::string_view expression = StripPhrases(request, kPrefixes, kSuffixes);
  if (expression.empty()) {
    return absl::InvalidArgumentError(
        "nothing to calculate; write an expression such as \"12.5% of 80\" or \"2^64 - 1\"");
  }
  absl::StatusOr<std::vector<Token>> tokens = Tokenize(request, expression);
  if (!tokens.ok()) return tokens.status();
  return Parser(*std::move(tokens), limits).Run();
}

}  // namespace octogate::gateway::calculator

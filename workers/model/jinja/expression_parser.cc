#include "workers/model/jinja/expression_parser.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/parser.h"
#include "workers/model/json_file.h"

namespace octogate::workers::jinja {
namespace {

std::string Describe(const Token& token) {
  switch (token.kind) {
    case Token::Kind::kData:
      return "text";
    case Token::Kind::kVariableBegin:
      return "'{{'";
    case Token::Kind::kVariableEnd:
      return "'}}'";
    case Token::Kind::kBlockBegin:
      return "'{%'";
    case Token::Kind::kBlockEnd:
      return "'%}'";
    case Token::Kind::kString:
      return "a string";
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      return "a number";
    case Token::Kind::kName:
    case Token::Kind::kOperator:
      return QuotedForError(token.text);
    case Token::Kind::kEnd:
      return "the end of the template";
  }
  return "?";
}

std::optional<Comparison> ComparisonOf(const Token& token) {
  if (token.IsOperator("==")) return Comparison::kEqual;
  if (token.IsOperator("!=")) return Comparison::kNotEqual;
  if (token.IsOperator("<")) return Comparison::kLess;
  if (token.IsOperator("<=")) return Comparison::kLessEqual;
  if (token.IsOperator(">")) return Comparison::kGreater;
  if (token.IsOperator(">=")) return Comparison::kGreaterEqual;
  if (token.IsName("in")) return Comparison::kIn;
  return std::nullopt;
}

// Counts the parser's own recursion.
class DepthGuard {
 public:
  explicit DepthGuard(int& depth) : depth_(++depth) {}
  ~DepthGuard() { --depth_; }

 private:
  int& depth_;
};

}  // namespace

Token ExpressionParser::Take() {
  const Token token = current();
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool ExpressionParser::SkipOperator(std::string_view op) {
  if (!current().IsOperator(op)) return false;
  Take();
  return true;
}

bool ExpressionParser::SkipName(std::string_view name) {
  if (!current().IsName(name)) return false;
  Take();
  return true;
}

void ExpressionParser::ExpectOperator(std::string_view op) {
  if (!SkipOperator(op)) FailUnexpected(absl::StrCat("'", std::string(op), "'"));
}

std::string ExpressionParser::ExpectName() {
  if (current().kind != Token::Kind::kName) {
    FailUnexpected("a name");
    return "";
  }
  return Take().text;
}

void ExpressionParser::Expect(Token::Kind kind, std::string_view what) {
  if (current().kind == kind) {
    Take();
  } else {
    FailUnexpected(what);
  }
}

void ExpressionParser::Fail(const Token& at, std::string_view message) {
  if (status_.ok()) {
    status_ = absl::InvalidArgumentError(absl::StrCat("chat template, line ", at.line, ", column ",
                                                      at.column, ": ", std::string(message)));
  }
  position_ = tokens_.size() - 1;
}

void ExpressionParser::FailUnexpected(std::string_view expected) {
  Fail(current(), absl::StrCat("expected ", std::string(expected), ", got ", Describe(current())));
}

void ExpressionParser::FailDepth(const Token& at) {
  if (status_.ok()) {
    status_ = absl::ResourceExhaustedError(
        absl::StrCat("chat template, line ", at.line, ": nested too deeply"));
  }
  position_ = tokens_.size() - 1;
}

// Sets the depth from the children, which may be missing after an error.
ExpressionPtr ExpressionParser::Finish(ExpressionPtr expression, const Token& at) {
  if (failed()) return nullptr;
  int deepest = 0;
  for (const ExpressionPtr& child : expression->children) {
    if (child != nullptr) deepest = std::max(deepest, child->depth);
  }
  for (const Argument& argument : expression->arguments) {
    deepest = std::max(deepest, argument.value->depth);
  }
  expression->depth = deepest + 1;
  expression->line = at.line;
  if (expression->depth > kMaxExpressionDepth) {
    FailDepth(at);
    return nullptr;
  }
  return expression;
}

ExpressionPtr ExpressionParser::Make(Expression::Kind kind, const Token& at,
                                     std::vector<ExpressionPtr> children) {
  auto expression = std::make_unique<Expression>();
  expression->kind = kind;
  expression->children = std::move(children);
  return Finish(std::move(expression), at);
}

ExpressionPtr ExpressionParser::Join(std::vector<ExpressionPtr> children, Expression::Kind kind,
                                     const Token& at) {
  if (children.size() == 1) return std::move(children[0]);
  return Make(kind, at, std::move(children));
}

ExpressionPtr ExpressionParser::ParseExpression(bool with_conditional) {
  const DepthGuard guard(depth_);
  if (depth_ > kMaxExpressionDepth) {
    FailDepth(current());
    return nullptr;
  }
  const Token at = current();
  ExpressionPtr expression = ParseOr();
  while (with_conditional && !failed() && SkipName("if")) {
    std::vector<ExpressionPtr> children;
    children.push_back(ParseOr());
    children.push_back(std::move(expression));
    children.push_back(SkipName("else") ? ParseExpression() : nullptr);
    expression = Make(Expression::Kind::kConditional, at, std::move(children));
  }
  return failed() ? nullptr : std::move(expression);
}

ExpressionPtr ExpressionParser::ParseOr() {
  const Token at = current();
  std::vector<ExpressionPtr> children;
  do {
    children.push_back(ParseAnd());
  } while (SkipName("or"));
  return Join(std::move(children), Expression::Kind::kOr, at);
}

ExpressionPtr ExpressionParser::ParseAnd() {
  const Token at = current();
  std::vector<ExpressionPtr> children;
  do {
    children.push_back(ParseNot());
  } while (SkipName("and"));
  return Join(std::move(children), Expression::Kind::kAnd, at);
}

ExpressionPtr ExpressionParser::ParseNot() {
  const Token at = current();
  int negations = 0;
  while (SkipName("not")) ++negations;
  ExpressionPtr expression = ParseCompare();
  for (int i = 0; i < negations && !failed(); ++i) {
    std::vector<ExpressionPtr> children;
    children.push_back(std::move(expression));
    expression = Make(Expression::Kind::kNot, at, std::move(children));
  }
  return expression;
}

ExpressionPtr ExpressionParser::ParseCompare() {
  const Token at = current();
  std::vector<ExpressionPtr> children;
  std::vector<Comparison> comparisons;
  children.push_back(ParseSum());
  while (!failed()) {
    if (const std::optional<Comparison> comparison = ComparisonOf(current())) {
      Take();
      comparisons.push_back(*comparison);
    } else if (current().IsName("not") && next().IsName("in")) {
      Take();
      Take();
      comparisons.push_back(Comparison::kNotIn);
    } else {
      break;
    }
    children.push_back(ParseSum());
  }
  if (comparisons.empty()) return std::move(children[0]);
  ExpressionPtr expression = Make(Expression::Kind::kCompare, at, std::move(children));
  if (expression != nullptr) expression->comparisons = std::move(comparisons);
  return expression;
}

ExpressionPtr ExpressionParser::ParseSum() {
  const Token at = current();
  ExpressionPtr left = ParseConcatenation();
  while (!failed() && (current().IsOperator("+") || current().IsOperator("-"))) {
    const Operator op = Take().text == "+" ? Operator::kAdd : Operator::kSubtract;
    std::vector<ExpressionPtr> children;
    children.push_back(std::move(left));
    children.push_back(ParseConcatenation());
    left = Make(Expression::Kind::kArithmetic, at, std::move(children));
    if (left != nullptr) left->op = op;
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseConcatenation() {
  const Token at = current();
  std::vector<ExpressionPtr> children;
  do {
    children.push_back(ParseProduct());
  } while (SkipOperator("~"));
  return Join(std::move(children), Expression::Kind::kConcatenate, at);
}

ExpressionPtr ExpressionParser::ParseProduct() {
  const Token at = current();
  ExpressionPtr left = ParsePower();
  while (!failed()) {
    Operator op;
    if (SkipOperator("*")) {
      op = Operator::kMultiply;
    } else if (SkipOperator("/")) {
      op = Operator::kDivide;
    } else if (SkipOperator("//")) {
      op = Operator::kFloorDivide;
    } else if (SkipOperator("%")) {
      op = Operator::kModulo;
    } else {
      break;
    }
    std::vector<ExpressionPtr> children;
    children.push_back(std::move(left));
    children.push_back(ParsePower());
    left = Make(Expression::Kind::kArithmetic, at, std::move(children));
    if (left != nullptr) left->op = op;
  }
  return left;
}

ExpressionPtr ExpressionParser::ParsePower() {
  const Token at = current();
  ExpressionPtr left = ParseUnary(true);
  while (!failed() && SkipOperator("**")) {
    std::vector<ExpressionPtr> children;
    children.push_back(std::move(left));
    children.push_back(ParseUnary(true));
    left = Make(Expression::Kind::kArithmetic, at, std::move(children));
    if (left != nullptr) left->op = Operator::kPower;
  }
  return left;
}

ExpressionPtr ExpressionParser::ParseUnary(bool with_filters) {
  const DepthGuard guard(depth_);
  if (depth_ > kMaxExpressionDepth) {
    FailDepth(current());
    return nullptr;
  }
  const Token at = current();
  ExpressionPtr expression;
  if (at.IsOperator("-") || at.IsOperator("+")) {
    Take();
    std::vector<ExpressionPtr> children;
    children.push_back(ParseUnary(false));
    expression = Make(at.text == "-" ? Expression::Kind::kNegative : Expression::Kind::kPositive,
                      at, std::move(children));
  } else {
    expression = ParsePrimary();
  }
  expression = ParsePostfix(std::move(expression));
  return with_filters ? ParseFilterExpression(std::move(expression)) : std::move(expression);
}

ExpressionPtr ExpressionParser::ParsePrimary(bool with_namespace) {
  const Token at = current();
  ExpressionPtr expression;
  switch (at.kind) {
    case Token::Kind::kName: {
      Take();
      if (with_namespace && SkipOperator(".")) {
        expression = Make(Expression::Kind::kNamespaceAttribute, at);
        const std::string attribute = ExpectName();
        if (failed()) return nullptr;
        expression->name = at.text;
        expression->attribute = attribute;
        return expression;
      }
      const std::string& name = at.text;
      const bool is_true = name == "true" || name == "True";
      if (is_true || name == "false" || name == "False") {
        expression = Make(Expression::Kind::kConstant, at);
        if (expression != nullptr) expression->constant = Value::Bool(is_true);
      } else if (name == "none" || name == "None") {
        expression = Make(Expression::Kind::kConstant, at);
        if (expression != nullptr) expression->constant = Value::None();
      } else {
        names_read_.varargs = names_read_.varargs || name == "varargs";
        names_read_.kwargs = names_read_.kwargs || name == "kwargs";
        names_read_.caller = names_read_.caller || name == "caller";
        expression = Make(Expression::Kind::kName, at);
        if (expression != nullptr) expression->name = name;
      }
      return expression;
    }
    case Token::Kind::kString: {
      std::string text;
      while (current().kind == Token::Kind::kString) text += Take().text;
      expression = Make(Expression::Kind::kConstant, at);
      if (expression != nullptr) expression->constant = Value::OfText(std::move(text));
      return expression;
    }
    case Token::Kind::kInteger:
    case Token::Kind::kFloat:
      Take();
      expression = Make(Expression::Kind::kConstant, at);
      if (expression != nullptr) {
        expression->constant =
            at.kind == Token::Kind::kInteger ? Value::Int(at.integer) : Value::Float(at.number);
      }
      return expression;
    default:
      break;
  }
  if (SkipOperator("(")) {
    expression = ParseTuple(true, "", true);
    ExpectOperator(")");
    return failed() ? nullptr : std::move(expression);
  }
  if (at.IsOperator("[")) return ParseList();
  if (at.IsOperator("{")) return ParseDict();
  FailUnexpected("an expression");
  return nullptr;
}

bool ExpressionParser::AtTupleEnd(std::string_view end_name) const {
  const Token& token = current();
  return token.kind == Token::Kind::kVariableEnd || token.kind == Token::Kind::kBlockEnd ||
         token.kind == Token::Kind::kEnd || token.IsOperator(")") ||
         (!end_name.empty() && token.IsName(end_name));
}

ExpressionPtr ExpressionParser::ParseTuple(bool with_conditional, std::string_view end_name,
                                           bool in_parentheses) {
  const Token at = current();
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (!failed() && !AtTupleEnd(end_name)) {
    items.push_back(ParseExpression(with_conditional));
    if (!SkipOperator(",")) break;
    is_tuple = true;
  }
  if (failed()) return nullptr;
  if (!is_tuple && items.size() == 1) return std::move(items[0]);
  if (!is_tuple && !in_parentheses) {
    FailUnexpected("an expression");
    return nullptr;
  }
  return Make(Expression::Kind::kTuple, at, std::move(items));
}

ExpressionPtr ExpressionParser::ParseAssignmentTarget(std::string_view end_name,
                                                      bool with_namespace) {
  const Token at = current();
  std::vector<ExpressionPtr> items;
  bool is_tuple = false;
  while (!failed() && !AtTupleEnd(end_name) && !current().IsOperator("=")) {
    items.push_back(ParsePrimary(with_namespace));
    if (failed()) return nullptr;
    // A pair of parentheses may hold a tuple of targets.
    const Expression& item = *items.back();
    const auto is_target = [](const Expression& e) {
      return e.kind == Expression::Kind::kName || e.kind == Expression::Kind::kNamespaceAttribute;
    };
    const bool is_nested =
        item.kind == Expression::Kind::kTuple && !item.children.empty() &&
        std::all_of(item.children.begin(), item.children.end(),
                    [&](const ExpressionPtr& child) { return is_target(*child); });
    if (!is_target(item) && !is_nested) {
      Fail(at, "cannot assign to this expression");
      return nullptr;
    }
    if (!SkipOperator(",")) break;
    is_tuple = true;
  }
  if (items.empty()) {
    FailUnexpected("a name to assign to");
    return nullptr;
  }
  if (!is_tuple) return std::move(items[0]);
  return Make(Expression::Kind::kTuple, at, std::move(items));
}

ExpressionPtr ExpressionParser::ParseList() {
  const Token at = Take();
  std::vector<ExpressionPtr> items;
  while (!failed() && !current().IsOperator("]")) {
    items.push_back(ParseExpression());
    if (!SkipOperator(",")) break;
  }
  ExpectOperator("]");
  return failed() ? nullptr : Make(Expression::Kind::kList, at, std::move(items));
}

ExpressionPtr ExpressionParser::ParseDict() {
  const Token at = Take();
  std::vector<ExpressionPtr> items;
  while (!failed() && !current().IsOperator("}")) {
    items.push_back(ParseExpression());
    ExpectOperator(":");
    items.push_back(ParseExpression());
    if (!SkipOperator(",")) break;
  }
  ExpectOperator("}");
  return failed() ? nullptr : Make(Expression::Kind::kDict, at, std::move(items));
}

}  // namespace octogate::workers::jinja

// What follows an operand: attributes, items, calls, filters and tests.
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/expression_parser.h"
#include "workers/model/jinja/filters.h"
#include "workers/model/jinja/tests.h"
#include "workers/model/json_file.h"

namespace octogate::workers::jinja {

ExpressionPtr ExpressionParser::ParsePostfix(ExpressionPtr operand) {
  while (!failed()) {
    if (current().IsOperator(".") || current().IsOperator("[")) {
      operand = ParseSubscript(std::move(operand));
    } else if (current().IsOperator("(")) {
      operand = ParseCall(std::move(operand));
    } else {
      return operand;
    }
  }
  return nullptr;
}

ExpressionPtr ExpressionParser::ParseFilterExpression(ExpressionPtr operand) {
  while (!failed()) {
    if (current().IsOperator("|")) {
      operand = ParseFilters(std::move(operand), false);
    } else if (current().IsName("is")) {
      operand = ParseTest(std::move(operand));
    } else if (current().IsOperator("(")) {
      operand = ParseCall(std::move(operand));
    } else {
      return operand;
    }
  }
  return nullptr;
}

ExpressionPtr ExpressionParser::ParseSubscript(ExpressionPtr operand) {
  const Token at = Take();
  std::vector<ExpressionPtr> children;
  children.push_back(std::move(operand));
  if (at.text == ".") {
    const Token name = Take();
    if (name.kind == Token::Kind::kName) {
      ExpressionPtr expression = Make(Expression::Kind::kAttribute, at, std::move(children));
      if (expression != nullptr) expression->name = name.text;
      return expression;
    }
    if (name.kind != Token::Kind::kInteger) {
      Fail(name, "expected a name or a number after '.'");
      return nullptr;
    }
    children.push_back(Make(Expression::Kind::kConstant, name));
    if (failed()) return nullptr;
    children.back()->constant = Value::Int(name.integer);
    return Make(Expression::Kind::kItem, at, std::move(children));
  }
  bool is_slice = false;
  const auto at_bound_end = [this] {
    return current().IsOperator(":") || current().IsOperator("]");
  };
  for (int i = 0; i < 3 && !failed(); ++i) {
    children.push_back(at_bound_end() ? nullptr : ParseExpression());
    if (!SkipOperator(":")) break;
    is_slice = true;
  }
  if (failed()) return nullptr;
  ExpectOperator("]");
  if (failed()) return nullptr;
  if (!is_slice && children[1] == nullptr) {
    Fail(at, "expected an expression in '[]'");
    return nullptr;
  }
  if (is_slice) children.resize(4);
  return Make(is_slice ? Expression::Kind::kSlice : Expression::Kind::kItem, at,
              std::move(children));
}

std::vector<Argument> ExpressionParser::ParseArguments() {
  std::vector<Argument> arguments;
  const Token open = current();
  ExpectOperator("(");
  bool named = false;
  while (!failed() && !current().IsOperator(")")) {
    Argument argument;
    if (SkipOperator("*")) {
      argument.kind = Argument::Kind::kStar;
      named = true;
    } else if (SkipOperator("**")) {
      argument.kind = Argument::Kind::kDoubleStar;
      named = true;
    } else if (current().kind == Token::Kind::kName && next().IsOperator("=")) {
      argument.kind = Argument::Kind::kKeyword;
      argument.name = Take().text;
      Take();
      named = true;
    } else if (named) {
      Fail(open, "a positional argument follows a keyword argument");
      break;
    }
    argument.value = ParseExpression();
    if (failed()) break;
    arguments.push_back(std::move(argument));
    if (!SkipOperator(",")) break;
  }
  ExpectOperator(")");
  if (failed()) arguments.clear();
  return arguments;
}

ExpressionPtr ExpressionParser::ParseCall(ExpressionPtr operand) {
  const Token at = current();
  auto expression = std::make_unique<Expression>();
  expression->kind = Expression::Kind::kCall;
  expression->arguments = ParseArguments();
  expression->children.push_back(std::move(operand));
  return Finish(std::move(expression), at);
}

ExpressionPtr ExpressionParser::ParseBlockFilter() { return ParseFilters(nullptr, true); }

ExpressionPtr ExpressionParser::ParseFilters(ExpressionPtr operand, bool first_without_pipe) {
  while (!failed() && (first_without_pipe || current().IsOperator("|"))) {
    if (!first_without_pipe) Take();
    first_without_pipe = false;
    const Token at = current();
    auto expression = std::make_unique<Expression>();
    expression->kind = Expression::Kind::kFilter;
    expression->name = ExpectName();
    if (!failed() && !IsFilter(expression->name)) {
      Fail(at, absl::StrCat("there is no filter ", QuotedForError(expression->name)));
    }
    if (current().IsOperator("(")) expression->arguments = ParseArguments();
    expression->children.push_back(std::move(operand));
    operand = Finish(std::move(expression), at);
  }
  return failed() ? nullptr : std::move(operand);
}

ExpressionPtr ExpressionParser::ParseTest(ExpressionPtr operand) {
  const Token at = Take();
  const bool negated = SkipName("not");
  auto expression = std::make_unique<Expression>();
  expression->kind = Expression::Kind::kTest;
  const Token name = current();
  expression->name = ExpectName();
  if (!failed() && !IsTest(expression->name)) {
    Fail(name, absl::StrCat("there is no test ", QuotedForError(expression->name)));
  }
  const Token& token = current();
  const bool starts_argument =
      token.kind == Token::Kind::kString || token.kind == Token::Kind::kInteger ||
      token.kind == Token::Kind::kFloat || token.IsOperator("[") || token.IsOperator("{") ||
      (token.kind == Token::Kind::kName && token.text != "else" && token.text != "or" &&
       token.text != "and");
  if (token.IsOperator("(")) {
    expression->arguments = ParseArguments();
  } else if (starts_argument) {
    if (token.IsName("is")) Fail(token, "tests cannot be chained with 'is'");
    Argument argument;
    argument.value = ParsePostfix(ParsePrimary());
    if (failed()) return nullptr;
    expression->arguments.push_back(std::move(argument));
  }
  expression->children.push_back(std::move(operand));
  ExpressionPtr test = Finish(std::move(expression), at);
  if (!negated || failed()) return test;
  std::vector<ExpressionPtr> children;
  children.push_back(std::move(test));
  return Make(Expression::Kind::kNot, at, std::move(children));
}

}  // namespace octogate::workers::jinja

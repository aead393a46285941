// The part of the parser that reads expressions. Internal to parser.cc,
// expression_parser.cc and postfix_parser.cc.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_EXPRESSION_PARSER_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_EXPRESSION_PARSER_H_

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "workers/model/jinja/ast.h"
#include "workers/model/jinja/lexer.h"

namespace octogate::workers::jinja {

// The first error sticks and moves the position to the last token, kEnd, where
// every loop of the grammar stops. Parse methods return null after an error.
class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  bool failed() const { return !status_.ok(); }
  const absl::Status& status() const { return status_; }

  const Token& current() const { return tokens_[position_]; }
  const Token& next() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  Token Take();
  bool SkipOperator(std::string_view op);
  bool SkipName(std::string_view name);
  void ExpectOperator(std::string_view op);
  std::string ExpectName();
  void Expect(Token::Kind kind, std::string_view what);

  void Fail(const Token& at, std::string_view message);
  void FailUnexpected(std::string_view expected);
  void FailDepth(const Token& at);

  ExpressionPtr ParseExpression(bool with_conditional = true);
  // Expressions separated by commas are a tuple. `end_name` is a name that ends
  // it, such as "in" for the targets of a loop.
  ExpressionPtr ParseTuple(bool with_conditional, std::string_view end_name = "",
                           bool in_parentheses = false);
  ExpressionPtr ParseAssignmentTarget(std::string_view end_name, bool with_namespace);
  // "name(arguments)|...", whose operand is what a block prints.
  ExpressionPtr ParseBlockFilter();
  ExpressionPtr ParseFilters(ExpressionPtr operand, bool first_without_pipe);

  // Names read anywhere since the last clear, for a macro's implicit arguments.
  struct NamesRead {
    bool varargs = false;
    bool kwargs = false;
    bool caller = false;
  };
  NamesRead names_read_;

 private:
  ExpressionPtr Make(Expression::Kind kind, const Token& at,
                     std::vector<ExpressionPtr> children = {});
  ExpressionPtr Finish(ExpressionPtr expression, const Token& at);

  ExpressionPtr ParseOr();
  ExpressionPtr ParseAnd();
  ExpressionPtr ParseNot();
  ExpressionPtr ParseCompare();
  ExpressionPtr ParseSum();
  ExpressionPtr ParseConcatenation();
  ExpressionPtr ParseProduct();
  ExpressionPtr ParsePower();
  ExpressionPtr ParseUnary(bool with_filters);
  ExpressionPtr ParsePrimary(bool with_namespace = false);
  ExpressionPtr ParsePostfix(ExpressionPtr operand);
  ExpressionPtr ParseFilterExpression(ExpressionPtr operand);
  ExpressionPtr ParseSubscript(ExpressionPtr operand);
  ExpressionPtr ParseCall(ExpressionPtr operand);
  ExpressionPtr ParseTest(ExpressionPtr operand);
  ExpressionPtr ParseList();
  ExpressionPtr ParseDict();
  std::vector<Argument> ParseArguments();
  bool AtTupleEnd(std::string_view end_name) const;
  ExpressionPtr Join(std::vector<ExpressionPtr> children, Expression::Kind kind, const Token& at);

  const std::vector<Token> tokens_;
  size_t position_ = 0;
  int depth_ = 0;
  absl::Status status_;
};

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_EXPRESSION_PARSER_H_

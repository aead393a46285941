#include "workers/model/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/expression_parser.h"
#include "workers/model/json_file.h"

namespace octogate::workers::jinja {
namespace {

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  absl::StatusOr<Block> Run() {
    Block block = ParseBlock({});
    if (failed()) return status();
    return block;
  }

 private:
  // Statements up to a tag that opens with one of `ends`, whose name is left to
  // be taken; up to the end of the template when there are none.
  Block ParseBlock(std::initializer_list<std::string_view> ends) {
    Block block;
    if (++block_depth_ > kMaxBlockDepth) FailDepth(current());
    while (!failed()) {
      const Token at = current();
      if (at.kind == Token::Kind::kEnd) {
        if (ends.size() > 0) {
          Fail(at,
               absl::StrCat("the template ends before '{% ", std::string(*ends.begin()), " %}'"));
        }
        break;
      }
      Take();
      if (at.kind == Token::Kind::kData) {
        Statement& text = Add(block, Statement::Kind::kText, at);
        text.text = at.text;
      } else if (at.kind == Token::Kind::kVariableBegin) {
        Statement& output = Add(block, Statement::Kind::kOutput, at);
        output.expressions.push_back(ParseTuple(true));
        Expect(Token::Kind::kVariableEnd, "'}}'");
      } else {
        if (std::any_of(ends.begin(), ends.end(),
                        [this](std::string_view end) { return current().IsName(end); })) {
          break;
        }
        ParseStatement(block);
        Expect(Token::Kind::kBlockEnd, "'%}'");
      }
    }
    --block_depth_;
    return block;
  }

  // The body of a block statement: from the end of its opening tag to the name
  // of its closing one.
  Block ParseBody(std::initializer_list<std::string_view> ends) {
    SkipOperator(":");
    Expect(Token::Kind::kBlockEnd, "'%}'");
    return ParseBlock(ends);
  }

  static Statement& Add(Block& block, Statement::Kind kind, const Token& at) {
    Statement& statement = block.emplace_back();
    statement.kind = kind;
    statement.line = at.line;
    return statement;
  }

  void ParseStatement(Block& block) {
    const Token at = Take();
    const std::string& tag = at.text;
    if (at.kind != Token::Kind::kName) {
      Fail(at, "expected the name of a tag");
    } else if (tag == "if") {
      ParseIf(Add(block, Statement::Kind::kIf, at));
    } else if (tag == "for") {
      ParseFor(Add(block, Statement::Kind::kFor, at));
    } else if (tag == "set") {
      ParseSet(Add(block, Statement::Kind::kSet, at));
    } else if (tag == "macro") {
      ParseMacro(Add(block, Statement::Kind::kMacro, at));
    } else if (tag == "call") {
      ParseCallBlock(Add(block, Statement::Kind::kCallBlock, at));
    } else if (tag == "filter") {
      Statement& statement = Add(block, Statement::Kind::kFilterBlock, at);
      statement.expressions.push_back(ParseBlockFilter());
      ParseCapturedBody(statement, "endfilter");
    } else if (tag == "with") {
      ParseWith(Add(block, Statement::Kind::kWith, at));
    } else if (tag == "print") {
      Statement& statement = Add(block, Statement::Kind::kOutput, at);
      do {
        statement.expressions.push_back(ParseExpression());
      } while (SkipOperator(","));
    } else if (tag == "generation") {
      // transformers' mark around what the assistant says; prints its body.
      Statement& statement = Add(block, Statement::Kind::kScope, at);
      statement.blocks.push_back(ParseBody({"endgeneration"}));
      Take();
    } else if (tag == "break" || tag == "continue") {
      if (loops_ == 0) Fail(at, absl::StrCat("'", tag, "' outside a loop"));
      Add(block, tag == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue, at);
    } else {
      Fail(at, absl::StrCat("the tag ", QuotedForError(tag), " is not known here"));
    }
  }

  void ParseIf(Statement& statement) {
    while (!failed()) {
      statement.expressions.push_back(ParseTuple(false));
      statement.blocks.push_back(ParseBody({"endif", "elif", "else"}));
      const Token end = Take();
      if (end.IsName("elif")) continue;
      if (end.IsName("else")) {
        statement.blocks.push_back(ParseBody({"endif"}));
        Take();
      }
      return;
    }
  }

  void ParseFor(Statement& statement) {
    statement.targets.push_back(ParseAssignmentTarget("in", false));
    if (!SkipName("in")) FailUnexpected("'in'");
    statement.expressions.push_back(ParseTuple(false, "recursive"));
    statement.expressions.push_back(SkipName("if") ? ParseExpression() : nullptr);
    if (current().IsName("recursive")) Fail(current(), "recursive loops are not supported");
    ++loops_;
    statement.blocks.push_back(ParseBody({"endfor", "else"}));
    --loops_;
    if (Take().IsName("else")) {
      statement.blocks.push_back(ParseBody({"endfor"}));
      Take();
    }
  }

  void ParseSet(Statement& statement) {
    statement.targets.push_back(ParseAssignmentTarget("", true));
    if (SkipOperator("=")) {
      statement.expressions.push_back(ParseTuple(true));
      return;
    }
    statement.kind = Statement::Kind::kSetBlock;
    statement.expressions.push_back(current().IsOperator("|") ? ParseFilters(nullptr, false)
                                                              : nullptr);
    ParseCapturedBody(statement, "endset");
  }

  // A body whose output is a value, which no loop around it can break off.
  void ParseCapturedBody(Statement& statement, std::string_view end) {
    const int outer_loops = std::exchange(loops_, 0);
    statement.blocks.push_back(ParseBody({end}));
    Take();
    loops_ = outer_loops;
  }

  void ParseParameters(Statement& statement) {
    ExpectOperator("(");
    bool has_default = false;
    while (!failed() && !current().IsOperator(")")) {
      Statement::Parameter parameter;
      const Token at = current();
      parameter.name = ExpectName();
      if (SkipOperator("=")) {
        has_default = true;
        parameter.default_value = ParseExpression();
      } else if (has_default) {
        Fail(at, "a parameter without a default follows one with a default");
      }
      const auto same_name = [&](const Statement::Parameter& other) {
        return other.name == parameter.name;
      };
      if (std::any_of(statement.parameters.begin(), statement.parameters.end(), same_name)) {
        Fail(at, absl::StrCat("the parameter ", QuotedForError(parameter.name), " repeats"));
      }
      statement.parameters.push_back(std::move(parameter));
      if (!SkipOperator(",")) break;
    }
    ExpectOperator(")");
  }

  // The body of a macro or call block, noting the implicit names it reads.
  void ParseMacroBody(Statement& statement, std::string_view end) {
    const NamesRead outer = std::exchange(names_read_, {});
    ParseCapturedBody(statement, end);
    statement.uses_varargs = names_read_.varargs;
    statement.uses_kwargs = names_read_.kwargs;
    statement.uses_caller = names_read_.caller;
    names_read_.varargs = names_read_.varargs || outer.varargs;
    names_read_.kwargs = names_read_.kwargs || outer.kwargs;
    names_read_.caller = names_read_.caller || outer.caller;
  }

  void ParseMacro(Statement& statement) {
    statement.name = ExpectName();
    ParseParameters(statement);
    ParseMacroBody(statement, "endmacro");
  }

  void ParseCallBlock(Statement& statement) {
    statement.name = "caller";
    if (current().IsOperator("(")) ParseParameters(statement);
    const Token at = current();
    statement.expressions.push_back(ParseExpression());
    if (!failed() && statement.expressions[0]->kind != Expression::Kind::kCall) {
      Fail(at, "expected a call");
    }
    ParseMacroBody(statement, "endcall");
  }

  void ParseWith(Statement& statement) {
    while (!failed() && current().kind != Token::Kind::kBlockEnd) {
      statement.targets.push_back(ParseAssignmentTarget("", false));
      ExpectOperator("=");
      statement.expressions.push_back(ParseExpression());
      if (!SkipOperator(",")) break;
    }
    statement.blocks.push_back(ParseBody({"endwith"}));
    Take();
  }

  int block_depth_ = 0;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<Block> ParseTemplate(std::string_view source) {
  absl::StatusOr<std::vector<Token>> tokens = Tokenize(source);
  if (!tokens.ok()) return tokens.status();
  return Parser(*std::move(tokens)).Run();
}

}  // namespace octogate::workers::jinja

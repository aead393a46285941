// The syntax tree of a template. Depth is bounded when it is built.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_AST_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_AST_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "workers/model/jinja/operations.h"
#include "workers/model/jinja/value.h"

namespace octogate::workers::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

// An argument of a call, filter or test.
struct Argument {
  enum class Kind { kPositional, kKeyword, kStar, kDoubleStar };
  Kind kind = Kind::kPositional;
  std::string name;  // kKeyword
  ExpressionPtr value;
};

enum class Comparison {
  kEqual,
  kNotEqual,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};

struct Expression {
  enum class Kind {
    kConstant,            // constant
    kName,                // name
    kAttribute,           // children[0].name
    kItem,                // children[0][children[1]]
    kSlice,               // children[0][children[1]:children[2]:children[3]], absent ones null
    kCall,                // children[0](arguments)
    kFilter,              // children[0] | name(arguments); children[0] null in a filter block
    kTest,                // children[0] is name(arguments)
    kList,                // children
    kTuple,               // children
    kDict,                // key, value, key, value, ...
    kNot,                 // children[0]
    kNegative,            // children[0]
    kPositive,            // children[0]
    kArithmetic,          // children[0] op children[1]
    kAnd,                 // children[0], children[1]
    kOr,                  // children[0], children[1]
    kCompare,             // children[0] comparisons[0] children[1] comparisons[1] ...
    kConcatenate,         // children joined with ~
    kConditional,         // children[1] if children[0] else children[2], the last may be null
    kNamespaceAttribute,  // as a target of set: name.attribute
  };
  Kind kind = Kind::kConstant;
  int line = 0;
  int depth = 1;
  std::string name;
  std::string attribute;
  Value constant;
  Operator op = Operator::kAdd;
  std::vector<Comparison> comparisons;
  std::vector<ExpressionPtr> children;
  std::vector<Argument> arguments;
};

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  enum class Kind {
    kText,       // text
    kOutput,     // expressions
    kIf,         // branches: expressions[i] guards blocks[i]; a last block more is the else
    kFor,        // for target in expressions[0] if expressions[1] (may be null): blocks[0],
                 // else blocks[1] (may be absent)
    kSet,        // target = expressions[0]
    kSetBlock,   // target = the output of blocks[0], through the filter expressions[0] if not null
    kMacro,      // name(parameters): blocks[0]
    kCallBlock,  // expressions[0] is the call; caller(parameters): blocks[0]
    kFilterBlock,  // expressions[0] filters the output of blocks[0]
    kWith,         // targets[i] = expressions[i] inside blocks[0]
    kScope,        // blocks[0] with names of its own
    kBreak,
    kContinue,
  };
  struct Parameter {
    std::string name;
    ExpressionPtr default_value;  // may be null
  };

  Kind kind = Kind::kText;
  int line = 0;
  std::string text;
  std::string name;
  std::vector<ExpressionPtr> targets;
  std::vector<ExpressionPtr> expressions;
  std::vector<Block> blocks;
  std::vector<Parameter> parameters;
  // Macros: whether the body reads these names, which lets a call pass more
  // arguments than there are parameters.
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
};

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_AST_H_

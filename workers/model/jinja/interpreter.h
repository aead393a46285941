// Evaluation of a template's syntax tree.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_INTERPRETER_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_INTERPRETER_H_

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "workers/model/jinja/ast.h"
#include "workers/model/jinja/runtime.h"

namespace octogate::workers::jinja {

// Names of one block. Assignment goes to the innermost scope, as in Jinja:
// what a loop's body sets is gone in its next round.
struct Scope {
  Scope* parent = nullptr;
  bool captured = false;  // by a macro, and so kept until the end
  absl::flat_hash_map<std::string_view, Value> names;
};

// One rendering. The syntax tree must outlive it.
class Interpreter {
 public:
  explicit Interpreter(Runtime& runtime) : runtime_(runtime) {}

  // A variable that the template sees from the start; the name is copied.
  void Define(std::string name, Value value);
  // The output, complete unless the runtime failed.
  std::string Run(const Block& block);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  class DepthGuard;  // counts the nesting of evaluation
  class ScopeGuard;  // opens a scope and leaves it

  Flow Execute(const Block& block);
  Flow ExecuteStatement(const Statement& statement);
  Flow ExecuteIf(const Statement& statement);
  Flow ExecuteFor(const Statement& statement);
  Flow ExecuteWith(const Statement& statement);
  void ExecuteCallBlock(const Statement& statement);
  std::vector<Value> LoopItems(const Statement& statement);
  // Runs the block with its output going into the returned text.
  std::string Capture(const Block& block);
  void Print(const Value& value);
  void Assign(const Expression& target, const Value& value);

  Value Evaluate(const Expression& expression);
  Value EvaluateCompare(const Expression& expression);
  Value EvaluateConcatenation(const Expression& expression);
  Value EvaluateDict(const Expression& expression);
  Value EvaluateCall(const Expression& expression, const Value* caller);
  std::vector<Value> EvaluateAll(const std::vector<ExpressionPtr>& expressions);
  Arguments EvaluateArguments(const std::vector<Argument>& arguments);
  // The filter chain that a filter or set block ends in, applied to its output.
  Value ApplyBlockFilter(const Expression& filter, Value text);
  Value Lookup(const std::string& name);
  bool Test(const Expression& expression) { return Evaluate(expression).Truth(); }

  Value Call(const Value& callee, const Arguments& arguments);
  Value CallMacro(const Macro& macro, const Arguments& arguments);
  bool BindParameters(const Macro& macro, const Arguments& arguments);
  Value CallFunction(std::string_view name, const Arguments& arguments);
  Value MakeNamespace(const Arguments& arguments);
  bool FillDict(Dict& dict, const Arguments& arguments);

  Scope& PushScope(Scope* parent);
  void PopScope(Scope* previous);

  Runtime& runtime_;
  std::deque<std::string> global_names_;
  absl::flat_hash_map<std::string_view, Value> globals_;
  // Everything that values point to lives until the end of the rendering.
  std::deque<Scope> scopes_;
  std::deque<Namespace> namespaces_;
  std::deque<Macro> macros_;
  std::deque<Loop> loops_;
  Scope* scope_ = nullptr;
  int depth_ = 0;
  std::string* output_ = nullptr;
};

class Interpreter::DepthGuard {
 public:
  explicit DepthGuard(Interpreter& interpreter) : interpreter_(interpreter) {
    if (++interpreter_.depth_ > interpreter_.runtime_.limits().max_depth) {
      interpreter_.runtime_.Exhaust("macros or expressions are nested too deeply");
    }
  }
  ~DepthGuard() { --interpreter_.depth_; }

 private:
  Interpreter& interpreter_;
};

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_INTERPRETER_H_

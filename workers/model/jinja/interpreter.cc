#include "workers/model/jinja/interpreter.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/filters.h"
#include "workers/model/jinja/operations.h"
#include "workers/model/jinja/tests.h"

namespace octogate::workers::jinja {

class Interpreter::ScopeGuard {
 public:
  ScopeGuard(Interpreter& interpreter, Scope* parent)
      : interpreter_(interpreter), previous_(interpreter.scope_) {
    interpreter.PushScope(parent);
  }
  explicit ScopeGuard(Interpreter& interpreter) : ScopeGuard(interpreter, interpreter.scope_) {}
  ~ScopeGuard() { interpreter_.PopScope(previous_); }

 private:
  Interpreter& interpreter_;
  Scope* const previous_;
};

Scope& Interpreter::PushScope(Scope* parent) {
  runtime_.Allocate(sizeof(Scope));
  scope_ = &scopes_.emplace_back();
  scope_->parent = parent;
  return *scope_;
}

void Interpreter::PopScope(Scope* previous) {
  // A captured scope stays, and with it those below it in the stack.
  if (&scopes_.back() == scope_ && !scope_->captured) scopes_.pop_back();
  scope_ = previous;
}

void Interpreter::Define(std::string name, Value value) {
  global_names_.push_back(std::move(name));
  globals_[global_names_.back()] = std::move(value);
}

std::string Interpreter::Run(const Block& block) {
  std::string output;
  output_ = &output;
  const ScopeGuard scope(*this, nullptr);
  Execute(block);
  return output;
}

Interpreter::Flow Interpreter::Execute(const Block& block) {
  for (const Statement& statement : block) {
    const Flow flow = ExecuteStatement(statement);
    if (runtime_.failed() || flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteStatement(const Statement& statement) {
  const DepthGuard depth(*this);
  runtime_.set_line(statement.line);
  if (!runtime_.Step()) return Flow::kNext;
  switch (statement.kind) {
    case Statement::Kind::kText:
      if (output_->size() + statement.text.size() > runtime_.limits().max_output_bytes) {
        runtime_.Exhaust("the rendered text is too long");
        return Flow::kNext;
      }
      if (runtime_.Scan(statement.text.size())) *output_ += statement.text;
      return Flow::kNext;
    case Statement::Kind::kOutput:
      for (const ExpressionPtr& expression : statement.expressions) Print(Evaluate(*expression));
      return Flow::kNext;
    case Statement::Kind::kIf:
      return ExecuteIf(statement);
    case Statement::Kind::kFor:
      return ExecuteFor(statement);
    case Statement::Kind::kSet:
      Assign(*statement.targets[0], Evaluate(*statement.expressions[0]));
      return Flow::kNext;
    case Statement::Kind::kSetBlock: {
      Value text = runtime_.MakeText(Capture(statement.blocks[0]));
      if (statement.expressions[0] != nullptr) {
        text = ApplyBlockFilter(*statement.expressions[0], std::move(text));
      }
      Assign(*statement.targets[0], text);
      return Flow::kNext;
    }
    case Statement::Kind::kMacro: {
      if (!runtime_.Allocate(sizeof(Macro))) return Flow::kNext;
      macros_.push_back({&statement, scope_});
      for (Scope* scope = scope_; scope != nullptr; scope = scope->parent) scope->captured = true;
      scope_->names[statement.name] = Value::Of(&macros_.back());
      return Flow::kNext;
    }
    case Statement::Kind::kCallBlock:
      ExecuteCallBlock(statement);
      return Flow::kNext;
    case Statement::Kind::kFilterBlock:
      Print(ApplyBlockFilter(*statement.expressions[0],
                             runtime_.MakeText(Capture(statement.blocks[0]))));
      return Flow::kNext;
    case Statement::Kind::kWith:
      return ExecuteWith(statement);
    case Statement::Kind::kScope: {
      const ScopeGuard scope(*this);
      return Execute(statement.blocks[0]);
    }
    case Statement::Kind::kBreak:
      return Flow::kBreak;
    case Statement::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteIf(const Statement& statement) {
  for (size_t i = 0; i < statement.expressions.size(); ++i) {
    const bool taken = Test(*statement.expressions[i]);
    if (runtime_.failed()) return Flow::kNext;
    if (taken) return Execute(statement.blocks[i]);
  }
  if (statement.blocks.size() > statement.expressions.size()) {
    return Execute(statement.blocks.back());
  }
  return Flow::kNext;
}

std::vector<Value> Interpreter::LoopItems(const Statement& statement) {
  auto items = Iterate(runtime_, Evaluate(*statement.expressions[0]));
  if (!items) return {};
  const ExpressionPtr& condition = statement.expressions[1];
  if (condition == nullptr) return *std::move(items);
  std::vector<Value> chosen;
  for (Value& item : *items) {
    if (!runtime_.Step()) return {};
    const ScopeGuard scope(*this);
    Assign(*statement.targets[0], item);
    if (Test(*condition)) chosen.push_back(std::move(item));
  }
  return chosen;
}

Interpreter::Flow Interpreter::ExecuteFor(const Statement& statement) {
  std::vector<Value> items = LoopItems(statement);
  if (runtime_.failed()) return Flow::kNext;
  if (items.empty()) {
    if (statement.blocks.size() < 2) return Flow::kNext;
    const ScopeGuard scope(*this);
    return Execute(statement.blocks[1]);
  }
  if (!runtime_.Allocate(sizeof(Loop))) return Flow::kNext;
  Loop& loop = loops_.emplace_back();
  loop.items = std::move(items);
  for (; loop.index < loop.items.size(); ++loop.index) {
    if (!runtime_.Step()) break;
    const ScopeGuard scope(*this);
    scope_->names["loop"] = Value::Of(&loop);
    Assign(*statement.targets[0], loop.items[loop.index]);
    if (Execute(statement.blocks[0]) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::ExecuteWith(const Statement& statement) {
  // All values are computed before any name is bound.
  const std::vector<Value> values = EvaluateAll(statement.expressions);
  if (runtime_.failed()) return Flow::kNext;
  const ScopeGuard scope(*this);
  for (size_t i = 0; i < values.size(); ++i) Assign(*statement.targets[i], values[i]);
  return Execute(statement.blocks[0]);
}

void Interpreter::ExecuteCallBlock(const Statement& statement) {
  if (!runtime_.Allocate(sizeof(Macro))) return;
  macros_.push_back({&statement, scope_});
  for (Scope* scope = scope_; scope != nullptr; scope = scope->parent) scope->captured = true;
  const Value caller = Value::Of(&macros_.back());
  Print(EvaluateCall(*statement.expressions[0], &caller));
}

std::string Interpreter::Capture(const Block& block) {
  std::string text;
  std::string* const outer = std::exchange(output_, &text);
  {
    const ScopeGuard scope(*this);
    Execute(block);
  }
  output_ = outer;
  return text;
}

void Interpreter::Print(const Value& value) {
  if (runtime_.failed()) return;
  const std::string text = ToText(runtime_, value);
  if (runtime_.failed()) return;
  if (output_->size() + text.size() > runtime_.limits().max_output_bytes) {
    runtime_.Exhaust("the rendered text is too long");
    return;
  }
  *output_ += text;
}

void Interpreter::Assign(const Expression& target, const Value& value) {
  if (runtime_.failed()) return;
  if (target.kind == Expression::Kind::kName) {
    scope_->names[target.name] = value;
    return;
  }
  if (target.kind == Expression::Kind::kNamespaceAttribute) {
    const Value object = Lookup(target.name);
    if (!object.is(Kind::kNamespace)) {
      runtime_.Fail(absl::StrCat("cannot assign attribute '", target.attribute,
                                 "' on an object that is no namespace"));
      return;
    }
    if (!runtime_.Allocate(sizeof(Value))) return;
    object.name_space().attributes.Set(Value::OfText(target.attribute), value);
    return;
  }
  const auto items = Iterate(runtime_, value);
  if (!items) return;
  if (items->size() != target.children.size()) {
    runtime_.Fail(absl::StrCat("cannot unpack ", items->size(), " values into ",
                               target.children.size(), " names"));
    return;
  }
  for (size_t i = 0; i < items->size(); ++i) Assign(*target.children[i], (*items)[i]);
}

Value Interpreter::ApplyBlockFilter(const Expression& filter, Value text) {
  if (filter.children[0] != nullptr) {
    text = ApplyBlockFilter(*filter.children[0], std::move(text));
  }
  runtime_.set_line(filter.line);
  const Arguments arguments = EvaluateArguments(filter.arguments);
  return runtime_.failed() ? Value() : ApplyFilter(runtime_, filter.name, text, arguments);
}

Value Interpreter::Lookup(const std::string& name) {
  for (const Scope* scope = scope_; scope != nullptr; scope = scope->parent) {
    const auto it = scope->names.find(name);
    if (it != scope->names.end()) return it->second;
  }
  const auto it = globals_.find(name);
  if (it != globals_.end()) return it->second;
  for (const char* function : {"range", "dict", "namespace", "raise_exception", "strftime_now"}) {
    if (name == function) return Value::OfFunction(function);
  }
  return Value::Missing(absl::StrCat("'", name, "'"));
}

}  // namespace octogate::workers::jinja

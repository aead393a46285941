// The interpreter's expressions and calls.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/filters.h"
#include "workers/model/jinja/interpreter.h"
#include "workers/model/jinja/methods.h"
#include "workers/model/jinja/operations.h"
#include "workers/model/jinja/tests.h"

namespace octogate::workers::jinja {
namespace {

constexpr Integer kMaxRange = 100'000;  // the sandbox's own limit
constexpr size_t kMaxTimeFormat = 256;

Value Range(Runtime& runtime, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "range", arguments, {"start", "stop", "step"}, 1);
  if (!bound) return Value();
  Integer numbers[3] = {0, 0, 1};
  for (size_t i = 0; i < 3; ++i) {
    if ((*bound)[i] == nullptr) continue;
    const auto index = ToIndex(*(*bound)[i]);
    if (!index) return runtime.Fail("range() needs integers");
    numbers[i] = *index;
  }
  if ((*bound)[1] == nullptr) std::swap(numbers[0], numbers[1]);
  const auto [start, stop, step] = numbers;
  if (step == 0) return runtime.Fail("range() needs a step other than zero");
  const Integer size =
      step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
  if (size > kMaxRange) {
    return runtime.Exhaust(absl::StrCat("range() is longer than ", static_cast<int>(kMaxRange)));
  }
  std::vector<Value> items;
  for (Integer i = 0; i < size; ++i) items.push_back(Value::Int(start + i * step));
  return runtime.MakeSequence(Kind::kList, std::move(items));
}

Value StrftimeNow(Runtime& runtime, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "strftime_now", arguments, {"format"}, 1);
  if (!bound) return Value();
  const std::string format = ToText(runtime, *(*bound)[0]);
  // absl's own extensions begin with %E.
  if (format.size() > kMaxTimeFormat || format.find("%E") != std::string::npos) {
    return runtime.Fail("strftime_now() got a format that is not supported");
  }
  return runtime.MakeText(absl::FormatTime(format, runtime.now(), runtime.time_zone()));
}

Value RaiseException(Runtime& runtime, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "raise_exception", arguments, {"message"}, 1);
  return bound ? runtime.RaiseException(ToText(runtime, *(*bound)[0])) : Value();
}

}  // namespace

Value Interpreter::Evaluate(const Expression& expression) {
  const DepthGuard depth(*this);
  if (!runtime_.Step()) return Value();
  runtime_.set_line(expression.line);
  const auto& children = expression.children;
  switch (expression.kind) {
    case Expression::Kind::kConstant:
      return expression.constant;
    case Expression::Kind::kName:
      return Lookup(expression.name);
    case Expression::Kind::kAttribute:
      return GetAttribute(runtime_, Evaluate(*children[0]), expression.name);
    case Expression::Kind::kItem: {
      const Value object = Evaluate(*children[0]);
      return GetItem(runtime_, object, Evaluate(*children[1]));
    }
    case Expression::Kind::kSlice: {
      std::vector<Value> parts = EvaluateAll(children);
      return runtime_.failed() ? Value()
                               : GetSlice(runtime_, parts[0], parts[1], parts[2], parts[3]);
    }
    case Expression::Kind::kCall:
      return EvaluateCall(expression, nullptr);
    case Expression::Kind::kFilter: {
      const Value value = Evaluate(*children[0]);
      const Arguments arguments = EvaluateArguments(expression.arguments);
      return runtime_.failed() ? Value() : ApplyFilter(runtime_, expression.name, value, arguments);
    }
    case Expression::Kind::kTest: {
      const Value value = Evaluate(*children[0]);
      const Arguments arguments = EvaluateArguments(expression.arguments);
      return Value::Bool(!runtime_.failed() &&
                         ApplyTest(runtime_, expression.name, value, arguments));
    }
    case Expression::Kind::kList:
      return runtime_.MakeSequence(Kind::kList, EvaluateAll(children));
    case Expression::Kind::kTuple:
      return runtime_.MakeSequence(Kind::kTuple, EvaluateAll(children));
    case Expression::Kind::kDict:
      return EvaluateDict(expression);
    case Expression::Kind::kNot:
      return Value::Bool(!Test(*children[0]));
    case Expression::Kind::kNegative: {
      const Value value = Evaluate(*children[0]);
      return runtime_.failed() ? Value() : Negate(runtime_, value);
    }
    case Expression::Kind::kPositive: {
      const Value value = Evaluate(*children[0]);
      if (!runtime_.failed() && !value.is_number()) runtime_.Fail("'+' needs a number");
      return value;
    }
    case Expression::Kind::kArithmetic: {
      const Value left = Evaluate(*children[0]);
      const Value right = Evaluate(*children[1]);
      return runtime_.failed() ? Value() : Arithmetic(runtime_, expression.op, left, right);
    }
    case Expression::Kind::kAnd:
    case Expression::Kind::kOr: {
      Value value;
      for (const ExpressionPtr& child : children) {
        value = Evaluate(*child);
        if (value.Truth() == (expression.kind == Expression::Kind::kOr)) break;
      }
      return value;
    }
    case Expression::Kind::kCompare:
      return EvaluateCompare(expression);
    case Expression::Kind::kConcatenate:
      return EvaluateConcatenation(expression);
    case Expression::Kind::kConditional:
      if (Test(*children[0])) return Evaluate(*children[1]);
      if (children[2] == nullptr) return Value::Missing("an inline 'if' without 'else'");
      return Evaluate(*children[2]);
    case Expression::Kind::kNamespaceAttribute:
      break;  // a target only
  }
  return Value();
}

Value Interpreter::EvaluateCompare(const Expression& expression) {
  Value left = Evaluate(*expression.children[0]);
  for (size_t i = 0; i < expression.comparisons.size(); ++i) {
    Value right = Evaluate(*expression.children[i + 1]);
    if (runtime_.failed()) return Value();
    bool holds = false;
    switch (expression.comparisons[i]) {
      case Comparison::kEqual:
        holds = Equal(runtime_, left, right);
        break;
      case Comparison::kNotEqual:
        holds = !Equal(runtime_, left, right);
        break;
      case Comparison::kLess:
        holds = Compare(runtime_, Order::kLess, left, right);
        break;
      case Comparison::kLessEqual:
        holds = Compare(runtime_, Order::kLessEqual, left, right);
        break;
      case Comparison::kGreater:
        holds = Compare(runtime_, Order::kGreater, left, right);
        break;
      case Comparison::kGreaterEqual:
        holds = Compare(runtime_, Order::kGreaterEqual, left, right);
        break;
      case Comparison::kIn:
        holds = Contains(runtime_, right, left);
        break;
      case Comparison::kNotIn:
        holds = !Contains(runtime_, right, left);
        break;
    }
    if (!holds || runtime_.failed()) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Interpreter::EvaluateConcatenation(const Expression& expression) {
  std::string text;
  for (const ExpressionPtr& child : expression.children) {
    text += ToText(runtime_, Evaluate(*child));
    if (runtime_.failed()) return Value();
  }
  return runtime_.MakeText(std::move(text));
}

Value Interpreter::EvaluateDict(const Expression& expression) {
  Dict dict;
  for (size_t i = 0; i + 1 < expression.children.size(); i += 2) {
    Value key = Evaluate(*expression.children[i]);
    Value value = Evaluate(*expression.children[i + 1]);
    if (runtime_.failed() || !CheckKey(runtime_, key)) return Value();
    dict.Set(std::move(key), std::move(value));
  }
  return runtime_.MakeDict(std::move(dict));
}

std::vector<Value> Interpreter::EvaluateAll(const std::vector<ExpressionPtr>& expressions) {
  std::vector<Value> values;
  values.reserve(expressions.size());
  for (const ExpressionPtr& expression : expressions) {
    values.push_back(expression == nullptr ? Value() : Evaluate(*expression));
    if (runtime_.failed()) return {};
  }
  return values;
}

Arguments Interpreter::EvaluateArguments(const std::vector<Argument>& arguments) {
  Arguments evaluated;
  for (const Argument& argument : arguments) {
    Value value = Evaluate(*argument.value);
    if (runtime_.failed()) return {};
    switch (argument.kind) {
      case Argument::Kind::kPositional:
        evaluated.positional.push_back(std::move(value));
        break;
      case Argument::Kind::kKeyword:
        evaluated.keyword.emplace_back(argument.name, std::move(value));
        break;
      case Argument::Kind::kStar: {
        const auto items = Iterate(runtime_, value);
        if (!items) return {};
        evaluated.positional.insert(evaluated.positional.end(), items->begin(), items->end());
        break;
      }
      case Argument::Kind::kDoubleStar:
        if (!value.is(Kind::kDict) ||
            value.dict().text_keys.size() != value.dict().entries.size()) {
          runtime_.Fail("'**' needs a dictionary with strings as keys");
          return {};
        }
        for (const auto& [key, item] : value.dict().entries) {
          evaluated.keyword.emplace_back(key.text(), item);
        }
        break;
    }
  }
  return evaluated;
}

Value Interpreter::EvaluateCall(const Expression& expression, const Value* caller) {
  const Value callee = Evaluate(*expression.children[0]);
  Arguments arguments = EvaluateArguments(expression.arguments);
  if (caller != nullptr) arguments.keyword.emplace_back("caller", *caller);
  if (runtime_.failed()) return Value();
  runtime_.set_line(expression.line);
  return Call(callee, arguments);
}

Value Interpreter::Call(const Value& callee, const Arguments& arguments) {
  switch (callee.kind()) {
    case Kind::kMacro:
      return CallMacro(callee.macro(), arguments);
    case Kind::kFunction:
      return CallFunction(callee.function(), arguments);
    case Kind::kMethod:
      return CallMethod(runtime_, callee.method(), arguments);
    case Kind::kUndefined:
      return runtime_.Fail(
          absl::StrCat(callee.MissingThing(), " is undefined and cannot be called"));
    default:
      return runtime_.Fail(absl::StrCat("'", callee.TypeName(), "' object is not callable"));
  }
}

Value Interpreter::CallMacro(const Macro& macro, const Arguments& arguments) {
  Scope* const previous = scope_;
  PushScope(macro.scope);
  std::string text;
  if (BindParameters(macro, arguments)) {
    std::string* const outer = std::exchange(output_, &text);
    Execute(macro.definition->blocks[0]);
    output_ = outer;
  }
  PopScope(previous);
  return runtime_.MakeText(std::move(text));
}

bool Interpreter::BindParameters(const Macro& macro, const Arguments& arguments) {
  const Statement& definition = *macro.definition;
  const auto& parameters = definition.parameters;
  const std::string& name = definition.name;
  auto& names = scope_->names;

  std::vector<Value> more;
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    if (i < parameters.size()) {
      names[parameters[i].name] = arguments.positional[i];
    } else {
      more.push_back(arguments.positional[i]);
    }
  }
  Dict unknown;
  bool has_caller = false;
  for (const auto& [key, value] : arguments.keyword) {
    const auto parameter =
        std::find_if(parameters.begin(), parameters.end(),
                     [&key = key](const Statement::Parameter& p) { return p.name == key; });
    if (parameter != parameters.end()) {
      if (names.contains(parameter->name)) {
        runtime_.Fail(absl::StrCat("macro '", name, "' got argument '", key, "' twice"));
        return false;
      }
      names[parameter->name] = value;
    } else if (key == "caller") {
      has_caller = true;
      names["caller"] = value;
    } else {
      unknown.Set(Value::OfText(key), value);
    }
  }
  if (!more.empty() && !definition.uses_varargs) {
    runtime_.Fail(
        absl::StrCat("macro '", name, "' takes not more than ", parameters.size(), " arguments"));
  }
  if (!unknown.entries.empty() && !definition.uses_kwargs) {
    runtime_.Fail(absl::StrCat("macro '", name, "' takes no keyword argument '",
                               unknown.entries[0].first.text(), "'"));
  }
  if (has_caller && !definition.uses_caller) {
    runtime_.Fail(absl::StrCat("macro '", name, "' was called with a block and takes none"));
  }
  if (runtime_.failed()) return false;
  for (const Statement::Parameter& parameter : parameters) {
    if (names.contains(parameter.name)) continue;
    Value value = parameter.default_value == nullptr
                      ? Value::Missing(absl::StrCat("parameter '", parameter.name, "'"))
                      : Evaluate(*parameter.default_value);
    names[parameter.name] = std::move(value);
  }
  if (definition.uses_varargs) {
    names["varargs"] = runtime_.MakeSequence(Kind::kTuple, std::move(more));
  }
  if (definition.uses_kwargs) names["kwargs"] = runtime_.MakeDict(std::move(unknown));
  if (definition.uses_caller && !has_caller) names["caller"] = Value::Missing("'caller'");
  return !runtime_.failed();
}

Value Interpreter::CallFunction(std::string_view name, const Arguments& arguments) {
  if (name == "range") return Range(runtime_, arguments);
  if (name == "strftime_now") return StrftimeNow(runtime_, arguments);
  if (name == "raise_exception") return RaiseException(runtime_, arguments);
  if (name == "namespace") return MakeNamespace(arguments);
  Dict dict;
  return FillDict(dict, arguments) ? runtime_.MakeDict(std::move(dict)) : Value();
}

Value Interpreter::MakeNamespace(const Arguments& arguments) {
  Namespace created;
  if (!FillDict(created.attributes, arguments)) return Value();
  if (!runtime_.Allocate(sizeof(Namespace) + created.attributes.entries.size() * sizeof(Value))) {
    return Value();
  }
  namespaces_.push_back(std::move(created));
  return Value::Of(&namespaces_.back());
}

// The arguments of dict() and namespace(): a dictionary or pairs, then names.
bool Interpreter::FillDict(Dict& dict, const Arguments& arguments) {
  if (arguments.positional.size() > 1) {
    runtime_.Fail("dict() takes at most one positional argument");
    return false;
  }
  if (!arguments.positional.empty() && arguments.positional[0].is(Kind::kDict)) {
    dict = arguments.positional[0].dict();
    if (!runtime_.Allocate(dict.entries.size() * sizeof(Value) * 4)) return false;
  } else if (!arguments.positional.empty()) {
    const auto pairs = Iterate(runtime_, arguments.positional[0]);
    if (!pairs) return false;
    for (const Value& pair : *pairs) {
      const auto items = Iterate(runtime_, pair);
      if (!items) return false;
      if (items->size() != 2) {
        runtime_.Fail("dict() needs pairs");
        return false;
      }
      if (!CheckKey(runtime_, (*items)[0])) return false;
      dict.Set((*items)[0], (*items)[1]);
    }
  }
  for (const auto& [key, value] : arguments.keyword) dict.Set(Value::OfText(key), value);
  return !runtime_.failed();
}

}  // namespace octogate::workers::jinja

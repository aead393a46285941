#include "workers/model/jinja/tests.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/filters.h"
#include "workers/model/jinja/operations.h"
#include "workers/model/jinja/text.h"

namespace octogate::workers::jinja {
namespace {

using Predicate = bool (*)(Runtime&, const Value& value, const Value* argument);

bool IsSized(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kText:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
      return true;
    default:
      return false;
  }
}

template <Kind kKind>
bool HasKind(Runtime&, const Value& value, const Value*) {
  return value.is(kKind);
}

template <Order kOrder>
bool Ordered(Runtime& runtime, const Value& value, const Value* argument) {
  return Compare(runtime, kOrder, value, *argument);
}

bool IsEqual(Runtime& runtime, const Value& value, const Value* argument) {
  return Equal(runtime, value, *argument);
}

bool IsUnequal(Runtime& runtime, const Value& value, const Value* argument) {
  return !Equal(runtime, value, *argument);
}

// value % divisor == remainder
bool HasRemainder(Runtime& runtime, const Value& value, const Value& divisor, Integer remainder) {
  const Value rest = Arithmetic(runtime, Operator::kModulo, value, divisor);
  return !runtime.failed() && Equal(runtime, rest, Value::Int(remainder));
}

struct TestEntry {
  std::string_view name;
  bool takes_argument;
  Predicate predicate;
};

constexpr std::array kTests = std::to_array<TestEntry>({
    {"boolean", false, HasKind<Kind::kBool>},
    {"callable", false,
     [](Runtime&, const Value& v, const Value*) {
       return v.is(Kind::kMacro) || v.is(Kind::kFunction) || v.is(Kind::kMethod) ||
              v.is(Kind::kUndefined);
     }},
    {"defined", false,
     [](Runtime&, const Value& v, const Value*) { return !v.is(Kind::kUndefined); }},
    {"divisibleby", true,
     [](Runtime& r, const Value& v, const Value* a) { return HasRemainder(r, v, *a, 0); }},
    {"eq", true, IsEqual},
    {"equalto", true, IsEqual},
    {"escaped", false, [](Runtime&, const Value& v, const Value*) { return v.is_markup(); }},
    {"even", false,
     [](Runtime& r, const Value& v, const Value*) { return HasRemainder(r, v, Value::Int(2), 0); }},
    {"false", false,
     [](Runtime&, const Value& v, const Value*) { return v.is(Kind::kBool) && !v.boolean(); }},
    {"filter", false,
     [](Runtime&, const Value& v, const Value*) { return v.is(Kind::kText) && IsFilter(v.text()); }},
    {"float", false, HasKind<Kind::kFloat>},
    {"ge", true, Ordered<Order::kGreaterEqual>},
    {"greaterthan", true, Ordered<Order::kGreater>},
    {"gt", true, Ordered<Order::kGreater>},
    {"in", true,
     [](Runtime& r, const Value& v, const Value* a) { return Contains(r, *a, v); }},
    {"integer", false, HasKind<Kind::kInt>},
    {"iterable", false,
     [](Runtime&, const Value& v, const Value*) {
       return IsSized(v) || v.is(Kind::kView) || v.is(Kind::kIterator) || v.is(Kind::kLoop);
     }},
    {"le", true, Ordered<Order::kLessEqual>},
    {"lessthan", true, Ordered<Order::kLess>},
    {"lower", false,
     [](Runtime& r, const Value& v, const Value*) { return IsLowerText(ToText(r, v)); }},
    {"lt", true, Ordered<Order::kLess>},
    {"mapping", false, HasKind<Kind::kDict>},
    {"ne", true, IsUnequal},
    {"none", false, HasKind<Kind::kNone>},
    {"number", false, [](Runtime&, const Value& v, const Value*) { return v.is_number(); }},
    {"odd", false,
     [](Runtime& r, const Value& v, const Value*) { return HasRemainder(r, v, Value::Int(2), 1); }},
    {"sameas", true,
     [](Runtime& r, const Value& v, const Value* a) {
       return v.kind() == a->kind() && Equal(r, v, *a);
     }},
    {"sequence", false, [](Runtime&, const Value& v, const Value*) { return IsSized(v); }},
    {"string", false, HasKind<Kind::kText>},
    {"test", false,
     [](Runtime&, const Value& v, const Value*) { return v.is(Kind::kText) && IsTest(v.text()); }},
    {"true", false,
     [](Runtime&, const Value& v, const Value*) { return v.is(Kind::kBool) && v.boolean(); }},
    {"undefined", false, HasKind<Kind::kUndefined>},
    {"upper", false,
     [](Runtime& r, const Value& v, const Value*) { return IsUpperText(ToText(r, v)); }},
});

const TestEntry* FindTest(std::string_view name) {
  // As the names of select() and its kin; "is" cannot be followed by these.
  if (name == "==") name = "eq";
  if (name == "!=") name = "ne";
  if (name == "<") name = "lt";
  if (name == "<=") name = "le";
  if (name == ">") name = "gt";
  if (name == ">=") name = "ge";
  const auto* it = std::lower_bound(
      kTests.begin(), kTests.end(), name,
      [](const TestEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return it != kTests.end() && it->name == name ? it : nullptr;
}

}  // namespace

bool IsTest(std::string_view name) { return FindTest(name) != nullptr; }

bool ApplyTest(Runtime& runtime, std::string_view name, const Value& value,
               const Arguments& arguments) {
  if (!runtime.Step()) return false;
  const TestEntry* test = FindTest(name);
  if (test == nullptr) {
    runtime.Fail(absl::StrCat("there is no test '", std::string(name.substr(0, 40)), "'"));
    return false;
  }
  const size_t wanted = test->takes_argument ? 1 : 0;
  if (arguments.positional.size() != wanted || !arguments.keyword.empty()) {
    runtime.Fail(absl::StrCat("the test '", std::string(name), "' takes ", wanted, " arguments"));
    return false;
  }
  const bool result =
      test->predicate(runtime, value, wanted == 1 ? &arguments.positional[0] : nullptr);
  return result && !runtime.failed();
}

}  // namespace octogate::workers::jinja

#include "workers/model/jinja/operations.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/methods.h"
#include "workers/model/jinja/text.h"

namespace octogate::workers::jinja {
namespace {

// Far enough from the type's own limits that sums and differences cannot wrap.
constexpr Integer kMaxInteger = Integer{1} << 120;

const char* OperatorName(Operator op) {
  switch (op) {
    case Operator::kAdd:
      return "+";
    case Operator::kSubtract:
      return "-";
    case Operator::kMultiply:
      return "*";
    case Operator::kDivide:
      return "/";
    case Operator::kFloorDivide:
      return "//";
    case Operator::kModulo:
      return "%";
    case Operator::kPower:
      return "**";
  }
  return "?";
}

Value MakeInteger(Runtime& runtime, Integer value) {
  if (value > kMaxInteger || value < -kMaxInteger)
    return runtime.Exhaust("an integer is too large");
  return Value::Int(value);
}

Integer FloorDivide(Integer a, Integer b) {
  const Integer quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value IntegerPower(Runtime& runtime, Integer base, Integer exponent) {
  if (exponent < 0) {
    if (base == 0) return runtime.Fail("0 cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  Integer result = 1;
  if (base == 0 || base == 1) return Value::Int(exponent == 0 ? 1 : base);
  if (base == -1) return Value::Int(exponent % 2 == 0 ? 1 : -1);
  for (Integer i = 0; i < exponent; ++i) {
    if (__builtin_mul_overflow(result, base, &result) || result > kMaxInteger ||
        result < -kMaxInteger) {
      return runtime.Exhaust("an integer is too large");
    }
  }
  return Value::Int(result);
}

Value IntegerArithmetic(Runtime& runtime, Operator op, Integer a, Integer b) {
  Integer result = 0;
  switch (op) {
    case Operator::kAdd:
      return MakeInteger(runtime, a + b);
    case Operator::kSubtract:
      return MakeInteger(runtime, a - b);
    case Operator::kMultiply:
      if (__builtin_mul_overflow(a, b, &result)) return runtime.Exhaust("an integer is too large");
      return MakeInteger(runtime, result);
    case Operator::kDivide:
      if (b == 0) return runtime.Fail("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case Operator::kFloorDivide:
      if (b == 0) return runtime.Fail("division by zero");
      return Value::Int(FloorDivide(a, b));
    case Operator::kModulo:
      if (b == 0) return runtime.Fail("division by zero");
      return Value::Int(a - FloorDivide(a, b) * b);
    case Operator::kPower:
      return IntegerPower(runtime, a, b);
  }
  return Value();
}

Value FloatArithmetic(Runtime& runtime, Operator op, double a, double b) {
  switch (op) {
    case Operator::kAdd:
      return Value::Float(a + b);
    case Operator::kSubtract:
      return Value::Float(a - b);
    case Operator::kMultiply:
      return Value::Float(a * b);
    case Operator::kDivide:
      if (b == 0) return runtime.Fail("division by zero");
      return Value::Float(a / b);
    case Operator::kFloorDivide:
      if (b == 0) return runtime.Fail("division by zero");
      return Value::Float(std::floor(a / b));
    case Operator::kModulo: {
      if (b == 0) return runtime.Fail("division by zero");
      const double rest = std::fmod(a, b);
      return Value::Float(rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest);
    }
    case Operator::kPower:
      return Value::Float(std::pow(a, b));
  }
  return Value();
}

// Joining a text that is marked safe escapes the other one.
Value Concatenate(Runtime& runtime, const Value& a, const Value& b) {
  const bool markup = a.is_markup() || b.is_markup();
  if (!runtime.Allocate(a.text().size() + b.text().size())) return Value();
  const auto part = [markup](const Value& value) {
    return markup && !value.is_markup() ? EscapeHtml(value.text()) : value.text();
  };
  return runtime.MakeText(part(a) + part(b), markup);
}

Value Repeat(Runtime& runtime, const Value& value, Integer count) {
  const size_t times = count <= 0 ? 0 : static_cast<size_t>(std::min<Integer>(count, 1 << 30));
  if (value.is(Kind::kText)) {
    // The product cannot overflow: a text is smaller than the allocation limit.
    if (!runtime.Allocate(value.text().size() * times)) return Value();
    std::string text;
    text.reserve(value.text().size() * times);
    for (size_t i = 0; i < times && !value.text().empty(); ++i) text += value.text();
    return runtime.MakeText(std::move(text), value.is_markup());
  }
  const std::vector<Value>& items = value.sequence().items;
  if (!runtime.Allocate(items.size() * times * sizeof(Value))) return Value();
  std::vector<Value> repeated;
  for (size_t i = 0; i < times && !items.empty(); ++i) {
    repeated.insert(repeated.end(), items.begin(), items.end());
  }
  return runtime.MakeSequence(value.kind(), std::move(repeated));
}

bool IsSequence(const Value& value) { return value.is(Kind::kList) || value.is(Kind::kTuple); }

// -1, 0 or 1 for values that Python orders.
std::optional<int> ThreeWay(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  }
  if (a.is_number() && b.is_number()) {
    // NaN compares false with everything; no template can tell it from equal
    // here but by asking both ways.
    return a.number() < b.number() ? -1 : a.number() > b.number();
  }
  if (a.is(Kind::kText) && b.is(Kind::kText)) {
    if (!runtime.Scan(std::min(a.text().size(), b.text().size()))) return std::nullopt;
    // UTF-8 sorts as code points do.
    const int order = a.text().compare(b.text());
    return order < 0 ? -1 : order > 0;
  }
  if (IsSequence(a) && a.kind() == b.kind()) {
    const std::vector<Value>& x = a.sequence().items;
    const std::vector<Value>& y = b.sequence().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!Equal(runtime, x[i], y[i])) return ThreeWay(runtime, x[i], y[i]);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size();
  }
  if (a.is(Kind::kUndefined) || b.is(Kind::kUndefined)) {
    runtime.Fail((a.is(Kind::kUndefined) ? a : b).MissingThing() + " is undefined");
  } else {
    runtime.Fail(absl::StrCat("values of type '", a.TypeName(), "' and '", b.TypeName(),
                              "' cannot be ordered"));
  }
  return std::nullopt;
}

Value LoopAttribute(const Value& value, std::string_view name) {
  const Loop& loop = value.loop();
  const Integer size = static_cast<Integer>(loop.items.size());
  const Integer index = static_cast<Integer>(loop.index);
  if (name == "index") return Value::Int(index + 1);
  if (name == "index0") return Value::Int(index);
  if (name == "revindex") return Value::Int(size - index);
  if (name == "revindex0") return Value::Int(size - index - 1);
  if (name == "first") return Value::Bool(index == 0);
  if (name == "last") return Value::Bool(index == size - 1);
  if (name == "length") return Value::Int(size);
  // The depth of recursion, which loops here have none of.
  if (name == "depth") return Value::Int(1);
  if (name == "depth0") return Value::Int(0);
  if (name == "previtem") {
    return index > 0 ? loop.items[loop.index - 1] : Value::Missing("there is no previous item");
  }
  if (name == "nextitem") {
    return index + 1 < size ? loop.items[loop.index + 1] : Value::Missing("there is no next item");
  }
  if (name == "cycle" || name == "changed") return Value::OfMethod(value, name);
  return Value::Missing(absl::StrCat("loop has no attribute '", std::string(name), "'"));
}

// An attribute that the object's type defines, or nothing.
std::optional<Value> OwnAttribute(const Value& value, std::string_view name) {
  if (value.is(Kind::kLoop)) return LoopAttribute(value, name);
  if (value.is(Kind::kNamespace)) {
    const Value* found = value.name_space().attributes.Find(name);
    if (found != nullptr) return *found;
    return std::nullopt;
  }
  if (HasMethod(value, name)) return Value::OfMethod(value, name);
  return std::nullopt;
}

Value MissingKey(const Value& value, std::string_view key) {
  return Value::Missing(absl::StrCat("'", value.TypeName(), " object' has no attribute '",
                                     std::string(key.substr(0, 100)), "'"));
}

// The normalised bounds of a slice over `size` elements: Python's slice.indices.
struct Bounds {
  int64_t start = 0;
  int64_t stop = 0;
  int64_t step = 1;
};

std::optional<Bounds> SliceBounds(Runtime& runtime, const Value& start, const Value& stop,
                                  const Value& step, int64_t size) {
  const auto given = [](const Value& v) { return !v.is(Kind::kUndefined) && !v.is(Kind::kNone); };
  Bounds bounds;
  for (const Value* value : {&start, &stop, &step}) {
    if (given(*value) && !value->is_integral()) {
      runtime.Fail("slice indices must be integers");
      return std::nullopt;
    }
  }
  const auto clamp = [](Integer v, int64_t low, int64_t high) {
    return static_cast<int64_t>(std::clamp<Integer>(v, low, high));
  };
  constexpr int64_t kFar = std::numeric_limits<int32_t>::max();
  if (given(step)) bounds.step = clamp(step.integer(), -kFar, kFar);
  if (bounds.step == 0) {
    runtime.Fail("slice step cannot be zero");
    return std::nullopt;
  }
  const int64_t low = bounds.step > 0 ? 0 : -1;
  const int64_t high = bounds.step > 0 ? size : size - 1;
  const auto bound = [&](const Value& value, int64_t absent) {
    if (!given(value)) return absent;
    const Integer position = value.integer() < 0 ? value.integer() + size : value.integer();
    return clamp(position, low, high);
  };
  bounds.start = bound(start, bounds.step > 0 ? low : high);
  bounds.stop = bound(stop, bounds.step > 0 ? high : low);
  return bounds;
}

}  // namespace

bool Equal(Runtime& runtime, const Value& a, const Value& b) {
  if (!runtime.Step()) return false;
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kText:
      return runtime.Scan(a.text().size()) && a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView: {
      const std::vector<Value>& x = a.sequence().items;
      const std::vector<Value>& y = b.sequence().items;
      return x.size() == y.size() &&
             std::equal(x.begin(), x.end(), y.begin(), [&runtime](const Value& v, const Value& w) {
               return Equal(runtime, v, w);
             });
    }
    case Kind::kDict: {
      if (a.dict().entries.size() != b.dict().entries.size()) return false;
      for (const auto& [key, value] : a.dict().entries) {
        const Value* other = b.dict().Find(key);
        if (other == nullptr || !Equal(runtime, value, *other)) return false;
      }
      return true;
    }
    case Kind::kNamespace:
      return &a.name_space() == &b.name_space();
    case Kind::kMacro:
      return a.macro().definition == b.macro().definition;
    case Kind::kIterator:
      return &a.sequence() == &b.sequence();
    default:
      return false;
  }
}

bool Compare(Runtime& runtime, Order order, const Value& a, const Value& b) {
  const std::optional<int> sign = ThreeWay(runtime, a, b);
  if (!sign) return false;
  switch (order) {
    case Order::kLess:
      return *sign < 0;
    case Order::kLessEqual:
      return *sign <= 0;
    case Order::kGreater:
      return *sign > 0;
    case Order::kGreaterEqual:
      return *sign >= 0;
  }
  return false;
}

bool Contains(Runtime& runtime, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kText:
      if (!item.is(Kind::kText)) {
        runtime.Fail(absl::StrCat("'in <string>' requires a string, got ", item.TypeName()));
        return false;
      }
      return runtime.Scan(container.text().size()) &&
             container.text().find(item.text()) != std::string::npos;
    case Kind::kDict:
      return CheckKey(runtime, item) && container.dict().Find(item) != nullptr;
    default: {
      const auto items = Iterate(runtime, container);
      return items && std::any_of(items->begin(), items->end(),
                                  [&](const Value& other) { return Equal(runtime, item, other); });
    }
  }
}

Value Arithmetic(Runtime& runtime, Operator op, const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return IntegerArithmetic(runtime, op, a.integer(), b.integer());
  }
  if (a.is_number() && b.is_number()) {
    return FloatArithmetic(runtime, op, a.number(), b.number());
  }
  if (op == Operator::kAdd && a.is(Kind::kText) && b.is(Kind::kText)) {
    return Concatenate(runtime, a, b);
  }
  if (op == Operator::kAdd && IsSequence(a) && a.kind() == b.kind()) {
    std::vector<Value> joined = a.sequence().items;
    joined.insert(joined.end(), b.sequence().items.begin(), b.sequence().items.end());
    return runtime.MakeSequence(a.kind(), std::move(joined));
  }
  if (op == Operator::kMultiply) {
    if ((a.is(Kind::kText) || IsSequence(a)) && b.is_integral()) {
      return Repeat(runtime, a, b.integer());
    }
    if (a.is_integral() && (b.is(Kind::kText) || IsSequence(b))) {
      return Repeat(runtime, b, a.integer());
    }
  }
  if (op == Operator::kModulo && a.is(Kind::kText)) return FormatPercent(runtime, a.text(), b);
  if (a.is(Kind::kUndefined) || b.is(Kind::kUndefined)) {
    return runtime.Fail(
        absl::StrCat((a.is(Kind::kUndefined) ? a : b).MissingThing(), " is undefined"));
  }
  return runtime.Fail(absl::StrCat("unsupported operand types for ", OperatorName(op), ": '",
                                   a.TypeName(), "' and '", b.TypeName(), "'"));
}

Value Negate(Runtime& runtime, const Value& value) {
  if (value.is_integral()) return Value::Int(-value.integer());
  if (value.is_number()) return Value::Float(-value.number());
  return runtime.Fail(absl::StrCat("bad operand type for unary -: '", value.TypeName(), "'"));
}

Value GetAttribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (!runtime.Step()) return Value();
  if (value.is(Kind::kUndefined)) {
    return runtime.Fail(absl::StrCat(value.MissingThing(), " is undefined; its attribute '",
                                     std::string(name), "' was asked for"));
  }
  if (std::optional<Value> own = OwnAttribute(value, name)) return *std::move(own);
  if (value.is(Kind::kDict)) {
    if (const Value* found = value.dict().Find(name)) return *found;
  }
  return MissingKey(value, name);
}

Value GetItem(Runtime& runtime, const Value& value, const Value& key) {
  if (!runtime.Step()) return Value();
  if (value.is(Kind::kUndefined)) {
    return runtime.Fail(absl::StrCat(value.MissingThing(), " is undefined; its item ",
                                     ToText(runtime, key), " was asked for"));
  }
  if (value.is(Kind::kDict)) {
    if (const Value* found = value.dict().Find(key)) return *found;
  } else if ((IsSequence(value) || value.is(Kind::kText)) && key.is_integral()) {
    const auto length = Length(runtime, value);
    if (!length) return Value();
    const Integer position = key.integer() < 0 ? key.integer() + *length : key.integer();
    if (position < 0 || position >= *length) {
      return Value::Missing(absl::StrCat("item ", IntegerText(key.integer()), " of a '",
                                         value.TypeName(), "' of length ", *length));
    }
    if (IsSequence(value)) return value.sequence().items[static_cast<size_t>(position)];
    size_t at = 0;
    for (Integer i = 0; i < position; ++i) NextCodePoint(value.text(), at);
    const size_t start = at;
    NextCodePoint(value.text(), at);
    return runtime.MakeText(value.text().substr(start, at - start), value.is_markup());
  }
  if (!key.is(Kind::kText)) {
    return Value::Missing(absl::StrCat("item ", ToText(runtime, key).substr(0, 100), " of a '",
                                       value.TypeName(), "'"));
  }
  if (std::optional<Value> own = OwnAttribute(value, key.text())) return *std::move(own);
  return MissingKey(value, key.text());
}

Value GetSlice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
               const Value& step) {
  if (value.is(Kind::kUndefined)) {
    return runtime.Fail(absl::StrCat(value.MissingThing(), " is undefined; a slice was asked for"));
  }
  if (!IsSequence(value) && !value.is(Kind::kText)) {
    return Value::Missing(absl::StrCat("a slice of a '", value.TypeName(), "'"));
  }
  std::vector<std::string_view> points;
  if (value.is(Kind::kText)) {
    if (!runtime.Allocate(value.text().size() * sizeof(std::string_view))) return Value();
    points = SplitCodePoints(value.text());
  }
  const size_t size = value.is(Kind::kText) ? points.size() : value.sequence().items.size();
  const auto bounds = SliceBounds(runtime, start, stop, step, static_cast<int64_t>(size));
  if (!bounds) return Value();
  std::string text;
  std::vector<Value> items;
  for (int64_t i = bounds->start; bounds->step > 0 ? i < bounds->stop : i > bounds->stop;
       i += bounds->step) {
    if (value.is(Kind::kText)) {
      text += points[static_cast<size_t>(i)];
    } else {
      items.push_back(value.sequence().items[static_cast<size_t>(i)]);
    }
  }
  return value.is(Kind::kText) ? runtime.MakeText(std::move(text), value.is_markup())
                               : runtime.MakeSequence(value.kind(), std::move(items));
}

std::optional<int64_t> ToIndex(const Value& value) {
  if (!value.is_integral()) return std::nullopt;
  const Integer integer = value.integer();
  if (integer > std::numeric_limits<int64_t>::max() ||
      integer < std::numeric_limits<int64_t>::min()) {
    return std::nullopt;
  }
  return static_cast<int64_t>(integer);
}

bool CheckKey(Runtime& runtime, const Value& key) {
  switch (key.kind()) {
    case Kind::kNone:
    case Kind::kBool:
    case Kind::kInt:
    case Kind::kFloat:
    case Kind::kText:
    case Kind::kUndefined:
      return true;
    case Kind::kTuple:
      for (const Value& item : key.sequence().items) {
        if (!CheckKey(runtime, item)) return false;
      }
      return true;
    default:
      runtime.Fail(absl::StrCat("a '", key.TypeName(), "' cannot be a key of a dictionary"));
      return false;
  }
}

}  // namespace octogate::workers::jinja

// What Python's operators and conversions do with values.
//
// Every function accounts to `runtime` and, when it fails, leaves the error
// there and returns an undefined value, false or nothing.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_OPERATIONS_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_OPERATIONS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "workers/model/jinja/runtime.h"
#include "workers/model/jinja/value.h"

namespace octogate::workers::jinja {

// str(value): what {{ value }} prints.
std::string ToText(Runtime& runtime, const Value& value);
// As ToText, but text that is marked safe stays so.
Value ToTextValue(Runtime& runtime, const Value& value);

// json.dumps(value) with Python's separators.
struct JsonStyle {
  std::optional<std::string> indent;  // of each level; one line when absent
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
  bool ensure_ascii = false;
};
std::string ToJson(Runtime& runtime, const Value& value, const JsonStyle& style);

// The values that iterating yields; an iterator is used up. Undefined is empty.
std::optional<std::vector<Value>> Iterate(Runtime& runtime, const Value& value);
// len(value).
std::optional<int64_t> Length(Runtime& runtime, const Value& value);

bool Equal(Runtime& runtime, const Value& a, const Value& b);
enum class Order { kLess, kLessEqual, kGreater, kGreaterEqual };
bool Compare(Runtime& runtime, Order order, const Value& a, const Value& b);
bool Contains(Runtime& runtime, const Value& container, const Value& item);

enum class Operator { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
Value Arithmetic(Runtime& runtime, Operator op, const Value& a, const Value& b);
Value Negate(Runtime& runtime, const Value& value);

// value.name: a method or attribute first, then a key.
Value GetAttribute(Runtime& runtime, const Value& value, std::string_view name);
// value[key]: a key or position first, then a method or attribute.
Value GetItem(Runtime& runtime, const Value& value, const Value& key);
// value[start:stop:step]; undefined stands for an absent bound.
Value GetSlice(Runtime& runtime, const Value& value, const Value& start, const Value& stop,
               const Value& step);

// An int of at most 64 bits, or nothing.
std::optional<int64_t> ToIndex(const Value& value);

// False, failing, for what cannot be a dictionary's key.
bool CheckKey(Runtime& runtime, const Value& key);

// Python's "%" formatting; `arguments` is a tuple, a dictionary or one value.
Value FormatPercent(Runtime& runtime, std::string_view format, const Value& arguments);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_OPERATIONS_H_

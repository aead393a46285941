#include "workers/model/jinja/value.h"

#include <algorithm>

namespace octogate::workers::jinja {
namespace {

int DeepestOf(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  return depth;
}

// Equality of dictionary keys that are not texts: scalars, numbers by value.
bool SameScalarKey(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integral() && b.is_integral() ? a.integer() == b.integer()
                                              : a.number() == b.number();
  }
  if (a.kind() != b.kind()) return false;
  if (a.is(Kind::kTuple)) {
    const std::vector<Value>& x = a.sequence().items;
    const std::vector<Value>& y = b.sequence().items;
    return std::equal(x.begin(), x.end(), y.begin(), y.end(), [](const Value& v, const Value& w) {
      return v.is(Kind::kText) && w.is(Kind::kText) ? v.text() == w.text() : SameScalarKey(v, w);
    });
  }
  return a.is(Kind::kNone);
}

}  // namespace

const Value* Dict::Find(std::string_view key) const {
  const auto it = text_keys.find(key);
  return it == text_keys.end() ? nullptr : &entries[it->second].second;
}

const Value* Dict::Find(const Value& key) const {
  if (key.is(Kind::kText)) return Find(std::string_view(key.text()));
  if (text_keys.size() == entries.size()) return nullptr;
  for (const auto& [existing, value] : entries) {
    if (SameScalarKey(existing, key)) return &value;
  }
  return nullptr;
}

void Dict::Set(Value key, Value value) {
  depth = std::max({depth, value.depth() + 1, key.depth() + 1});
  if (const Value* existing = Find(key)) {
    *const_cast<Value*>(existing) = std::move(value);
    return;
  }
  if (key.is(Kind::kText)) {
    text_keys.emplace(std::string_view(key.text()), entries.size());
  }
  entries.emplace_back(std::move(key), std::move(value));
}

Value Value::OfText(std::string text, bool is_markup) {
  return Value(Kind::kText, std::make_shared<const Text>(Text{std::move(text), is_markup}));
}

Value Value::OfSequence(Kind kind, std::vector<Value> items) {
  auto sequence = std::make_shared<Sequence>();
  sequence->depth = DeepestOf(items) + 1;
  sequence->items = std::move(items);
  return Value(kind, std::shared_ptr<const Sequence>(std::move(sequence)));
}

Value Value::OfDict(Dict dict) {
  return Value(Kind::kDict, std::make_shared<const Dict>(std::move(dict)));
}

Value Value::Missing(std::string what) {
  return Value(Kind::kUndefined, Undefined{std::make_shared<const std::string>(std::move(what))});
}

Value Value::OfMethod(Value object, std::string_view name) {
  return Value(Kind::kMethod,
               std::make_shared<const Method>(Method{std::move(object), std::string(name)}));
}

Integer Value::integer() const {
  return kind_ == Kind::kBool ? Integer{boolean()} : std::get<Integer>(data_);
}

double Value::number() const {
  return kind_ == Kind::kFloat ? std::get<double>(data_) : static_cast<double>(integer());
}

std::string Value::MissingThing() const {
  const auto& what = std::get<Undefined>(data_).what;
  return what == nullptr ? "a value" : *what;
}

int Value::depth() const {
  switch (kind_) {
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kIterator:
      return sequence().depth;
    case Kind::kDict:
      return dict().depth;
    case Kind::kMethod:
      return method().object.depth() + 1;
    default:
      return 0;
  }
}

bool Value::Truth() const {
  switch (kind_) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return integer() != 0;
    case Kind::kFloat:
      return number() != 0;
    case Kind::kText:
      return !text().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return !sequence().items.empty();
    case Kind::kDict:
      return !dict().entries.empty();
    case Kind::kIterator:
    case Kind::kNamespace:
    case Kind::kMacro:
    case Kind::kFunction:
    case Kind::kMethod:
    case Kind::kLoop:
      return true;
  }
  return false;
}

const char* Value::TypeName() const {
  switch (kind_) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kText:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kView:
      return "dictionary view";
    case Kind::kIterator:
      return "generator";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kMacro:
      return "Macro";
    case Kind::kFunction:
      return "function";
    case Kind::kMethod:
      return "method";
    case Kind::kLoop:
      return "LoopContext";
  }
  return "object";
}

std::string IntegerText(Integer value) {
  if (value == 0) return "0";
  const bool negative = value < 0;
  unsigned __int128 rest =
      negative ? -static_cast<unsigned __int128>(value) : static_cast<unsigned __int128>(value);
  std::string digits;
  for (; rest != 0; rest /= 10) digits += static_cast<char>('0' + static_cast<int>(rest % 10));
  if (negative) digits += '-';
  std::reverse(digits.begin(), digits.end());
  return digits;
}

}  // namespace octogate::workers::jinja

// Values of a template: Python's, as far as chat templates can see them.
//
// All values but namespaces are immutable (the sandbox that chat templates are
// written for forbids changing lists and dictionaries), so copies share. A
// value lives within one rendering, on one thread.
#ifndef OCTOGATE_WORKERS_MODEL_JINJA_VALUE_H_
#define OCTOGATE_WORKERS_MODEL_JINJA_VALUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace octogate::workers::jinja {

// Wide enough for every integer that JSON libraries keep exactly.
using Integer = __int128;

class Value;
struct Statement;  // ast.h
struct Scope;      // interpreter.h

enum class Kind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kText,
  kList,
  kTuple,
  kDict,
  kView,      // dict.keys() and the like: sized, not indexable
  kIterator,  // a generator: read once, always true
  kNamespace,
  kMacro,
  kFunction,  // a global function
  kMethod,    // a method bound to its object
  kLoop,
};

struct Text {
  std::string text;
  // Marked safe (markupsafe.Markup): what is joined to it gets HTML-escaped.
  bool is_markup = false;
};

struct Sequence {
  std::vector<Value> items;
  mutable size_t position = 0;  // kIterator: the items before it were read
  int depth = 1;                // containers nested in it, itself included
};

struct Dict {
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  // Replaces the value of an equal key, keeping its place.
  void Set(Value key, Value value);

  std::vector<std::pair<Value, Value>> entries;
  // Positions of the keys that are texts, whose bytes the entries hold.
  absl::flat_hash_map<std::string_view, size_t> text_keys;
  int depth = 1;
};

struct Namespace {
  Dict attributes;
};

struct Macro {
  const Statement* definition = nullptr;
  Scope* scope = nullptr;  // where it was defined
};

struct Loop {
  std::vector<Value> items;
  size_t index = 0;
  std::vector<Value> last_changed;
};

struct Method;

class Value {
 public:
  Value() : data_(Undefined{}) {}
  static Value None() { return Value(Kind::kNone, std::monostate{}); }
  static Value Bool(bool value) { return Value(Kind::kBool, value); }
  static Value Int(Integer value) { return Value(Kind::kInt, value); }
  static Value Float(double value) { return Value(Kind::kFloat, value); }
  static Value OfText(std::string text, bool is_markup = false);
  static Value OfSequence(Kind kind, std::vector<Value> items);
  static Value OfDict(Dict dict);
  // The missing thing is told in error messages: "'foo' is undefined".
  static Value Missing(std::string what);
  static Value Of(Namespace* value) { return Value(Kind::kNamespace, value); }
  static Value Of(const Macro* value) { return Value(Kind::kMacro, value); }
  static Value Of(Loop* value) { return Value(Kind::kLoop, value); }
  static Value OfFunction(const char* name) { return Value(Kind::kFunction, name); }
  static Value OfMethod(Value object, std::string_view name);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_number() const { return is_integral() || kind_ == Kind::kFloat; }
  bool is_markup() const { return kind_ == Kind::kText && text_data().is_markup; }

  bool boolean() const { return std::get<bool>(data_); }
  Integer integer() const;  // of kInt and kBool
  double number() const;    // of every number
  const std::string& text() const { return text_data().text; }
  const Sequence& sequence() const { return *std::get<std::shared_ptr<const Sequence>>(data_); }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  Namespace& name_space() const { return *std::get<Namespace*>(data_); }
  const Macro& macro() const { return *std::get<const Macro*>(data_); }
  Loop& loop() const { return *std::get<Loop*>(data_); }
  const char* function() const { return std::get<const char*>(data_); }
  const Method& method() const { return *std::get<std::shared_ptr<const Method>>(data_); }
  std::string MissingThing() const;

  // Containers nested in this one, itself included; 0 for scalars.
  int depth() const;
  // Python's truth value.
  bool Truth() const;
  // Python's name of the type, for messages.
  const char* TypeName() const;

 private:
  struct Undefined {
    std::shared_ptr<const std::string> what;
  };
  using Data =
      std::variant<std::monostate, Undefined, bool, Integer, double, std::shared_ptr<const Text>,
                   std::shared_ptr<const Sequence>, std::shared_ptr<const Dict>, Namespace*,
                   const Macro*, Loop*, const char*, std::shared_ptr<const Method>>;

  template <typename T>
  Value(Kind kind, T data) : kind_(kind), data_(std::move(data)) {}
  const Text& text_data() const { return *std::get<std::shared_ptr<const Text>>(data_); }

  Kind kind_ = Kind::kUndefined;
  Data data_;
};

struct Method {
  Value object;
  std::string name;
};

// Positional and keyword arguments of a call, filter or test.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

std::string IntegerText(Integer value);

}  // namespace octogate::workers::jinja

#endif  // OCTOGATE_WORKERS_MODEL_JINJA_VALUE_H_

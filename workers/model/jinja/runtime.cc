#include "workers/model/jinja/runtime.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "workers/model/json_file.h"

namespace octogate::workers::jinja {

Value Runtime::Fail(std::string_view message) {
  if (status_.ok()) {
    status_ = absl::InvalidArgumentError(
        absl::StrCat("chat template, line ", line_, ": ", std::string(message)));
  }
  return Value();
}

Value Runtime::RaiseException(std::string_view message) {
  if (status_.ok()) {
    status_ = absl::InvalidArgumentError(absl::StrCat(
        "the model's chat template refuses these messages: ", QuotedForError(message)));
  }
  return Value();
}

Value Runtime::Exhaust(std::string_view message) {
  if (status_.ok()) {
    status_ = absl::ResourceExhaustedError(
        absl::StrCat("chat template, line ", line_, ": ", std::string(message)));
  }
  return Value();
}

bool Runtime::Step(size_t count) {
  if (failed()) return false;
  steps_ += static_cast<int64_t>(std::min<size_t>(count, size_t{1} << 40));
  if (steps_ > limits_.max_steps) {
    Exhaust(absl::StrCat("took more than ", limits_.max_steps, " steps"));
  }
  return !failed();
}

bool Runtime::Allocate(size_t bytes) {
  if (failed()) return false;
  if (bytes > limits_.max_allocated_bytes - allocated_) {
    Exhaust(absl::StrCat("made values of more than ", limits_.max_allocated_bytes, " bytes"));
    return false;
  }
  allocated_ += bytes;
  return Scan(bytes);
}

Value Runtime::MakeText(std::string text, bool is_markup) {
  if (!Allocate(text.size() + sizeof(Text))) return Value();
  return Value::OfText(std::move(text), is_markup);
}

Value Runtime::MakeSequence(Kind kind, std::vector<Value> items) {
  if (!Allocate(items.size() * sizeof(Value) + sizeof(Sequence))) return Value();
  Value sequence = Value::OfSequence(kind, std::move(items));
  if (sequence.depth() > kMaxValueDepth) return Exhaust("lists are nested too deeply");
  return sequence;
}

Value Runtime::MakeDict(Dict dict) {
  if (!Allocate(dict.entries.size() * 4 * sizeof(Value) + sizeof(Dict))) return Value();
  if (dict.depth > kMaxValueDepth) return Exhaust("dictionaries are nested too deeply");
  return Value::OfDict(std::move(dict));
}

std::optional<std::vector<const Value*>> BindArguments(
    Runtime& runtime, std::string_view function, const Arguments& arguments,
    std::initializer_list<std::string_view> names, size_t num_required) {
  const std::string who(function);
  if (arguments.positional.size() > names.size()) {
    runtime.Fail(absl::StrCat(who, "() takes at most ", names.size(), " arguments, got ",
                              arguments.positional.size()));
    return std::nullopt;
  }
  std::vector<const Value*> bound(names.size(), nullptr);
  for (size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.keyword) {
    const auto it = std::find(names.begin(), names.end(), name);
    if (it == names.end() || bound[static_cast<size_t>(it - names.begin())] != nullptr) {
      runtime.Fail(absl::StrCat(who, "() got ", it == names.end() ? "an unexpected" : "a repeated",
                                " argument '", name, "'"));
      return std::nullopt;
    }
    bound[static_cast<size_t>(it - names.begin())] = &value;
  }
  for (size_t i = 0; i < num_required; ++i) {
    if (bound[i] == nullptr) {
      runtime.Fail(
          absl::StrCat(who, "() needs the argument '", std::string(names.begin()[i]), "'"));
      return std::nullopt;
    }
  }
  return bound;
}

}  // namespace octogate::workers::jinja

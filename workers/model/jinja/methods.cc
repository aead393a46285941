#include "workers/model/jinja/methods.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/operations.h"
#include "workers/model/jinja/text.h"

namespace octogate::workers::jinja {
namespace {

using Bound = std::vector<const Value*>;

constexpr std::array<std::string_view, 47> kTextMethods = {
    "capitalize",   "casefold",    "center",    "count",      "encode",       "endswith",
    "expandtabs",   "find",        "format",    "format_map", "index",        "isalnum",
    "isalpha",      "isascii",     "isdecimal", "isdigit",    "isidentifier", "islower",
    "isnumeric",    "isprintable", "isspace",   "istitle",    "isupper",      "join",
    "ljust",        "lower",       "lstrip",    "maketrans",  "partition",    "removeprefix",
    "removesuffix", "replace",     "rfind",     "rindex",     "rjust",        "rpartition",
    "rsplit",       "rstrip",      "split",     "splitlines", "startswith",   "strip",
    "swapcase",     "title",       "translate", "upper",      "zfill"};
constexpr std::array<std::string_view, 6> kDictMethods = {"copy",  "fromkeys", "get",
                                                          "items", "keys",     "values"};
constexpr std::array<std::string_view, 3> kListMethods = {"copy", "count", "index"};
constexpr std::array<std::string_view, 2> kTupleMethods = {"count", "index"};

template <size_t kSize>
bool Among(const std::array<std::string_view, kSize>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// A text argument; null arguments give `fallback`.
std::optional<std::string_view> TextArgument(Runtime& runtime, std::string_view method,
                                             const Value* value, std::string_view fallback) {
  if (value == nullptr) return fallback;
  if (value->is(Kind::kText)) return std::string_view(value->text());
  runtime.Fail(
      absl::StrCat(std::string(method), "() expects a string, got '", value->TypeName(), "'"));
  return std::nullopt;
}

std::optional<int64_t> IndexArgument(Runtime& runtime, std::string_view method, const Value* value,
                                     int64_t fallback) {
  if (value == nullptr) return fallback;
  const std::optional<int64_t> index = ToIndex(*value);
  if (!index) {
    runtime.Fail(
        absl::StrCat(std::string(method), "() expects an integer, got '", value->TypeName(), "'"));
  }
  return index;
}

Value StripMethod(Runtime& runtime, const Value& self, std::string_view name, Side side,
                  const Arguments& arguments) {
  const auto bound = BindArguments(runtime, name, arguments, {"chars"}, 0);
  if (!bound) return Value();
  const Value* characters = (*bound)[0];
  if (characters == nullptr || characters->is(Kind::kNone)) {
    return runtime.MakeText(std::string(Strip(self.text(), side, nullptr)), self.is_markup());
  }
  const auto set = TextArgument(runtime, name, characters, "");
  if (!set) return Value();
  if (!runtime.Scan(self.text().size() * (set->size() / 8 + 1))) return Value();
  return runtime.MakeText(std::string(Strip(self.text(), side, &*set)), self.is_markup());
}

Value TextList(Runtime& runtime, const std::vector<std::string_view>& parts, bool markup,
               Kind kind = Kind::kList) {
  std::vector<Value> items;
  if (!runtime.Allocate(parts.size() * (sizeof(Text) + sizeof(Value)))) return Value();
  for (const std::string_view part : parts) {
    items.push_back(runtime.MakeText(std::string(part), markup));
  }
  return runtime.MakeSequence(kind, std::move(items));
}

Value SplitMethod(Runtime& runtime, const Value& self, std::string_view name,
                  const Arguments& arguments) {
  const bool from_right = name == "rsplit";
  const auto bound = BindArguments(runtime, name, arguments, {"sep", "maxsplit"}, 0);
  if (!bound) return Value();
  const auto max_splits = IndexArgument(runtime, name, (*bound)[1], -1);
  if (!max_splits || !runtime.Scan(self.text().size())) return Value();
  const Value* separator = (*bound)[0];
  if (separator == nullptr || separator->is(Kind::kNone)) {
    return TextList(runtime, SplitWhitespace(self.text(), *max_splits, from_right),
                    self.is_markup());
  }
  const auto text = TextArgument(runtime, name, separator, "");
  if (!text) return Value();
  if (text->empty()) return runtime.Fail("empty separator");
  return TextList(runtime, SplitOn(self.text(), *text, *max_splits, from_right), self.is_markup());
}

Value PartitionMethod(Runtime& runtime, const Value& self, std::string_view name,
                      const Arguments& arguments) {
  const auto bound = BindArguments(runtime, name, arguments, {"sep"}, 1);
  if (!bound) return Value();
  const auto separator = TextArgument(runtime, name, (*bound)[0], "");
  if (!separator || !runtime.Scan(self.text().size())) return Value();
  if (separator->empty()) return runtime.Fail("empty separator");
  const std::string_view text = self.text();
  const size_t at = name == "partition" ? text.find(*separator) : text.rfind(*separator);
  std::vector<std::string_view> parts;
  if (at != std::string_view::npos) {
    parts = {text.substr(0, at), *separator, text.substr(at + separator->size())};
  } else if (name == "partition") {
    parts = {text, "", ""};
  } else {
    parts = {"", "", text};
  }
  return TextList(runtime, parts, self.is_markup(), Kind::kTuple);
}

// startswith and endswith, whose argument may be a tuple of texts.
Value AffixMethod(Runtime& runtime, const Value& self, std::string_view name,
                  const Arguments& arguments) {
  const auto bound = BindArguments(runtime, name, arguments, {"affix"}, 1);
  if (!bound) return Value();
  const Value& affix = *(*bound)[0];
  const std::vector<Value> one = {affix};
  for (const Value& item : affix.is(Kind::kTuple) ? affix.sequence().items : one) {
    const auto text = TextArgument(runtime, name, &item, "");
    if (!text || !runtime.Scan(text->size())) return Value();
    const std::string_view whole = self.text();
    if (name == "startswith" ? whole.starts_with(*text) : whole.ends_with(*text)) {
      return Value::Bool(true);
    }
  }
  return Value::Bool(false);
}

// find, rfind, index and rindex, over the whole text.
Value FindMethod(Runtime& runtime, const Value& self, std::string_view name,
                 const Arguments& arguments) {
  const auto bound = BindArguments(runtime, name, arguments, {"sub"}, 1);
  if (!bound) return Value();
  const auto sub = TextArgument(runtime, name, (*bound)[0], "");
  if (!sub || !runtime.Scan(self.text().size())) return Value();
  const bool from_right = name[0] == 'r';
  const size_t at = from_right ? self.text().rfind(*sub) : self.text().find(*sub);
  if (at != std::string::npos) {
    return Value::Int(
        static_cast<Integer>(CountCodePoints(std::string_view(self.text()).substr(0, at))));
  }
  if (name == "index" || name == "rindex") return runtime.Fail("substring not found");
  return Value::Int(-1);
}

Value CountMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "count", arguments, {"value"}, 1);
  if (!bound) return Value();
  if (!self.is(Kind::kText)) {
    Integer count = 0;
    for (const Value& item : self.sequence().items) {
      count += Equal(runtime, item, *(*bound)[0]) ? 1 : 0;
    }
    return Value::Int(count);
  }
  const auto sub = TextArgument(runtime, "count", (*bound)[0], "");
  if (!sub || !runtime.Scan(self.text().size())) return Value();
  if (sub->empty()) {
    return Value::Int(static_cast<Integer>(CountCodePoints(self.text()) + 1));
  }
  Integer count = 0;
  for (size_t at = self.text().find(*sub); at != std::string::npos;
       at = self.text().find(*sub, at + sub->size())) {
    ++count;
  }
  return Value::Int(count);
}

Value JoinMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "join", arguments, {"iterable"}, 1);
  if (!bound) return Value();
  const auto items = Iterate(runtime, *(*bound)[0]);
  if (!items) return Value();
  std::string out;
  for (size_t i = 0; i < items->size(); ++i) {
    const auto text = TextArgument(runtime, "join", &(*items)[i], "");
    if (!text || !runtime.Allocate(text->size() + self.text().size())) return Value();
    if (i > 0) out += self.text();
    out += *text;
  }
  return runtime.MakeText(std::move(out));
}

Value ReplaceMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "replace", arguments, {"old", "new", "count"}, 2);
  if (!bound) return Value();
  const auto from = TextArgument(runtime, "replace", (*bound)[0], "");
  const auto to = TextArgument(runtime, "replace", (*bound)[1], "");
  const auto count = IndexArgument(runtime, "replace", (*bound)[2], -1);
  if (!from || !to || !count) return Value();
  // At most one replacement per occurrence of the shortest thing to replace.
  const size_t most = self.text().size() / std::max<size_t>(from->size(), 1) + 1;
  if (!runtime.Scan(self.text().size()) || !runtime.Allocate(most * to->size())) return Value();
  return runtime.MakeText(Replace(self.text(), *from, *to, *count), self.is_markup());
}

Value PadMethod(Runtime& runtime, const Value& self, std::string_view name,
                const Arguments& arguments) {
  const auto bound = BindArguments(runtime, name, arguments, {"width", "fillchar"}, 1);
  if (!bound) return Value();
  const auto width = IndexArgument(runtime, name, (*bound)[0], 0);
  const auto fill = TextArgument(runtime, name, (*bound)[1], name == "zfill" ? "0" : " ");
  if (!width || !fill) return Value();
  const int64_t length = static_cast<int64_t>(CountCodePoints(self.text()));
  const int64_t missing = std::max<int64_t>(*width - length, 0);
  if (!runtime.Allocate(static_cast<size_t>(missing) * fill->size())) return Value();
  const int64_t left = name == "ljust"    ? 0
                       : name == "center" ? missing / 2 + (missing & *width & 1)
                                          : missing;
  std::string out;
  std::string_view text = self.text();
  if (name == "zfill" && !text.empty() && (text[0] == '-' || text[0] == '+')) {
    out += text[0];
    text.remove_prefix(1);
  }
  for (int64_t i = 0; i < left; ++i) out += *fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += *fill;
  return runtime.MakeText(std::move(out), self.is_markup());
}

// str.format with {}, {0} and {name}; no format specifications.
Value FormatMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const std::string_view format = self.text();
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if ((c == '{' || c == '}') && i + 1 < format.size() && format[i + 1] == c) {
      out += c;
      ++i;
      continue;
    }
    if (c != '{') {
      out += c;
      continue;
    }
    const size_t close = format.find('}', i);
    if (close == std::string_view::npos) return runtime.Fail("single '{' in format()");
    const std::string_view field = format.substr(i + 1, close - i - 1);
    if (field.find_first_of(":!.[{") != std::string_view::npos) {
      return runtime.Fail("format() with a conversion or attribute is not supported");
    }
    const Value* value = nullptr;
    if (field.find_first_not_of("0123456789") == std::string_view::npos && field.size() < 6) {
      const size_t index = field.empty() ? next++ : std::stoul(std::string(field));
      if (index < arguments.positional.size()) value = &arguments.positional[index];
    } else {
      for (const auto& [name, given] : arguments.keyword) {
        if (name == field) value = &given;
      }
    }
    if (value == nullptr) {
      return runtime.Fail(
          absl::StrCat("format() has no argument for '{", std::string(field.substr(0, 40)), "}'"));
    }
    out += ToText(runtime, *value);
    if (runtime.failed()) return Value();
    i = close;
  }
  return runtime.MakeText(std::move(out), self.is_markup());
}

Value AffixRemoval(Runtime& runtime, const Value& self, std::string_view name,
                   const Arguments& arguments) {
  const auto bound = BindArguments(runtime, name, arguments, {"affix"}, 1);
  if (!bound) return Value();
  const auto affix = TextArgument(runtime, name, (*bound)[0], "");
  if (!affix) return Value();
  std::string_view text = self.text();
  if (name == "removeprefix" && text.starts_with(*affix)) text.remove_prefix(affix->size());
  if (name == "removesuffix" && text.ends_with(*affix)) text.remove_suffix(affix->size());
  return runtime.MakeText(std::string(text), self.is_markup());
}

bool AllCodePoints(std::string_view text, bool (*predicate)(char32_t)) {
  for (size_t i = 0; i < text.size();) {
    if (!predicate(NextCodePoint(text, i))) return false;
  }
  return true;
}

Value CaseOrClassMethod(Runtime& runtime, const Value& self, std::string_view name,
                        const Arguments& arguments) {
  if (!BindArguments(runtime, name, arguments, {}, 0) || !runtime.Scan(self.text().size())) {
    return Value();
  }
  const std::string& text = self.text();
  const bool markup = self.is_markup();
  if (name == "lower") return runtime.MakeText(Lower(text), markup);
  if (name == "upper") return runtime.MakeText(Upper(text), markup);
  if (name == "title") return runtime.MakeText(Title(text), markup);
  if (name == "capitalize") return runtime.MakeText(Capitalize(text), markup);
  if (name == "islower") return Value::Bool(IsLowerText(text));
  if (name == "isupper") return Value::Bool(IsUpperText(text));
  if (name == "isspace") return Value::Bool(!text.empty() && AllCodePoints(text, IsSpace));
  if (name == "isprintable") return Value::Bool(AllCodePoints(text, IsPrintable));
  const bool ascii = AllCodePoints(text, [](char32_t c) { return c < 0x80; });
  if (name == "isascii") return Value::Bool(ascii);
  if (ascii && (name == "isdigit" || name == "isdecimal" || name == "isnumeric")) {
    return Value::Bool(!text.empty() && text.find_first_not_of("0123456789") == std::string::npos);
  }
  if (ascii && (name == "isalpha" || name == "isalnum")) {
    return Value::Bool(
        !text.empty() &&
        AllCodePoints(
            text, name == "isalpha"
                      ? [](char32_t c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }
                      : [](char32_t c) {
                          return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9');
                        }));
  }
  return runtime.Fail(
      absl::StrCat("the string method '", std::string(name), "' is not supported here"));
}

Value TextMethod(Runtime& runtime, const Value& self, std::string_view name,
                 const Arguments& arguments) {
  if (name == "strip") return StripMethod(runtime, self, name, Side::kBoth, arguments);
  if (name == "lstrip") return StripMethod(runtime, self, name, Side::kLeft, arguments);
  if (name == "rstrip") return StripMethod(runtime, self, name, Side::kRight, arguments);
  if (name == "split" || name == "rsplit") return SplitMethod(runtime, self, name, arguments);
  if (name == "startswith" || name == "endswith") {
    return AffixMethod(runtime, self, name, arguments);
  }
  if (name == "replace") return ReplaceMethod(runtime, self, arguments);
  if (name == "join") return JoinMethod(runtime, self, arguments);
  if (name == "format") return FormatMethod(runtime, self, arguments);
  if (name == "count") return CountMethod(runtime, self, arguments);
  if (name == "find" || name == "rfind" || name == "index" || name == "rindex") {
    return FindMethod(runtime, self, name, arguments);
  }
  if (name == "partition" || name == "rpartition") {
    return PartitionMethod(runtime, self, name, arguments);
  }
  if (name == "removeprefix" || name == "removesuffix") {
    return AffixRemoval(runtime, self, name, arguments);
  }
  if (name == "center" || name == "ljust" || name == "rjust" || name == "zfill") {
    return PadMethod(runtime, self, name, arguments);
  }
  if (name == "splitlines") {
    if (!BindArguments(runtime, name, arguments, {}, 0)) return Value();
    if (!runtime.Scan(self.text().size())) return Value();
    return TextList(runtime, SplitLines(self.text()), self.is_markup());
  }
  return CaseOrClassMethod(runtime, self, name, arguments);
}

Value DictMethod(Runtime& runtime, const Value& self, std::string_view name,
                 const Arguments& arguments) {
  if (name == "get") {
    const auto bound = BindArguments(runtime, name, arguments, {"key", "default"}, 1);
    if (!bound || !CheckKey(runtime, *(*bound)[0])) return Value();
    if (const Value* found = self.dict().Find(*(*bound)[0])) return *found;
    return (*bound)[1] != nullptr ? *(*bound)[1] : Value::None();
  }
  if (!BindArguments(runtime, name, arguments, {}, 0)) return Value();
  if (name == "copy") return self;
  if (name == "fromkeys") {
    return runtime.Fail("the dictionary method 'fromkeys' is not supported here");
  }
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().entries) {
    if (name == "keys") items.push_back(key);
    if (name == "values") items.push_back(value);
    if (name == "items") items.push_back(runtime.MakeSequence(Kind::kTuple, {key, value}));
  }
  return runtime.MakeSequence(Kind::kView, std::move(items));
}

Value ListMethod(Runtime& runtime, const Value& self, std::string_view name,
                 const Arguments& arguments) {
  if (name == "count") return CountMethod(runtime, self, arguments);
  if (name == "copy") return BindArguments(runtime, name, arguments, {}, 0) ? self : Value();
  const auto bound = BindArguments(runtime, name, arguments, {"value"}, 1);
  if (!bound) return Value();
  const std::vector<Value>& items = self.sequence().items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (Equal(runtime, items[i], *(*bound)[0])) return Value::Int(static_cast<Integer>(i));
  }
  return runtime.Fail("index() did not find the value");
}

Value LoopMethod(Runtime& runtime, const Value& self, std::string_view name,
                 const Arguments& arguments) {
  Loop& loop = self.loop();
  if (name == "cycle") {
    if (arguments.positional.empty()) return runtime.Fail("no items for cycling given");
    return arguments.positional[loop.index % arguments.positional.size()];
  }
  const bool same =
      loop.last_changed.size() == arguments.positional.size() &&
      std::equal(loop.last_changed.begin(), loop.last_changed.end(), arguments.positional.begin(),
                 [&](const Value& a, const Value& b) { return Equal(runtime, a, b); });
  loop.last_changed = arguments.positional;
  return Value::Bool(!same);
}

}  // namespace

bool HasMethod(const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::kText:
      return Among(kTextMethods, name);
    case Kind::kDict:
      return Among(kDictMethods, name);
    case Kind::kList:
      return Among(kListMethods, name);
    case Kind::kTuple:
      return Among(kTupleMethods, name);
    default:
      return false;
  }
}

Value CallMethod(Runtime& runtime, const Method& method, const Arguments& arguments) {
  const Value& self = method.object;
  switch (self.kind()) {
    case Kind::kText:
      return TextMethod(runtime, self, method.name, arguments);
    case Kind::kDict:
      return DictMethod(runtime, self, method.name, arguments);
    case Kind::kList:
    case Kind::kTuple:
      return ListMethod(runtime, self, method.name, arguments);
    case Kind::kLoop:
      return LoopMethod(runtime, self, method.name, arguments);
    default:
      return runtime.Fail("not a method");
  }
}

}  // namespace octogate::workers::jinja

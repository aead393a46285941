#include "workers/model/jinja/filters.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/methods.h"
#include "workers/model/jinja/operations.h"
#include "workers/model/jinja/sequence_filters.h"
#include "workers/model/jinja/text.h"

namespace octogate::workers::jinja {
namespace {

constexpr int64_t kMaxIndent = 1000;

// A filter that turns a text into another one without arguments.
template <std::string (*kConvert)(std::string_view)>
Value TextFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "filter", arguments, {}, 0)) return Value();
  const Value text = ToTextValue(runtime, value);
  if (runtime.failed()) return Value();
  return runtime.MakeText(kConvert(text.text()), text.is_markup());
}

Value AbsFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "abs", arguments, {}, 0)) return Value();
  if (value.is_integral()) {
    return Value::Int(value.integer() < 0 ? -value.integer() : value.integer());
  }
  if (value.is_number()) return Value::Float(std::abs(value.number()));
  return runtime.Fail(absl::StrCat("abs() needs a number, got '", value.TypeName(), "'"));
}

Value AttrFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "attr", arguments, {"name"}, 1);
  if (!bound) return Value();
  const std::string name = ToText(runtime, *(*bound)[0]);
  // Attributes only, never keys.
  if (value.is(Kind::kUndefined) || (value.is(Kind::kDict) && !HasMethod(value, name))) {
    return Value::Missing(absl::StrCat("the attribute '", name.substr(0, 100), "'"));
  }
  return GetAttribute(runtime, value, name);
}

Value CenterFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "center", arguments, {"width"}, 0);
  if (!bound) return Value();
  const Value text = ToTextValue(runtime, value);
  if (runtime.failed()) return Value();
  const Value method = GetAttribute(runtime, text, "center");
  Arguments width;
  width.positional.push_back((*bound)[0] == nullptr ? Value::Int(80) : *(*bound)[0]);
  return CallMethod(runtime, method.method(), width);
}

Value DefaultFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "default", arguments, {"default_value", "boolean"}, 0);
  if (!bound) return Value();
  const bool falsy_too = (*bound)[1] != nullptr && (*bound)[1]->Truth();
  if (!value.is(Kind::kUndefined) && !(falsy_too && !value.Truth())) return value;
  return (*bound)[0] == nullptr ? runtime.MakeText("") : *(*bound)[0];
}

Value EscapeFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "escape", arguments, {}, 0)) return Value();
  if (value.is_markup()) return value;
  return runtime.MakeText(EscapeHtml(ToText(runtime, value)), true);
}

Value ForceEscapeFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "forceescape", arguments, {}, 0)) return Value();
  return runtime.MakeText(EscapeHtml(ToText(runtime, value)), true);
}

// Python's int(text): digits with single underscores between them, a sign and
// whitespace around.
std::optional<Integer> ParseInteger(std::string_view text, int base) {
  text = Strip(text, Side::kBoth, nullptr);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  Integer number = 0;
  bool after_digit = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '_' && after_digit && i + 1 < text.size()) {
      after_digit = false;
      continue;
    }
    const char lower = static_cast<char>(c | 0x20);
    const int digit = c >= '0' && c <= '9'           ? c - '0'
                      : lower >= 'a' && lower <= 'z' ? lower - 'a' + 10
                                                     : 99;
    if (digit >= base || number > (Integer{1} << 100)) return std::nullopt;
    number = number * base + digit;
    after_digit = true;
  }
  if (!after_digit) return std::nullopt;
  return negative ? -number : number;
}

std::optional<double> ParseFloat(std::string_view text) {
  text = Strip(text, Side::kBoth, nullptr);
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  double number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || parsed.ec == std::errc::invalid_argument ||
      parsed.ptr != text.data() + text.size()) {
    return std::nullopt;
  }
  if (parsed.ec == std::errc::result_out_of_range) return std::nullopt;
  return number;
}

Value IntFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "int", arguments, {"default", "base"}, 0);
  if (!bound) return Value();
  const Value fallback = (*bound)[0] == nullptr ? Value::Int(0) : *(*bound)[0];
  const auto base = (*bound)[1] == nullptr ? 10 : ToIndex(*(*bound)[1]);
  if (!base || *base < 2 || *base > 36) return runtime.Fail("int() needs a base from 2 to 36");
  if (value.is(Kind::kUndefined)) return runtime.Fail(value.MissingThing() + " is undefined");
  std::optional<double> number;
  if (value.is_integral()) return Value::Int(value.integer());
  if (value.is(Kind::kFloat)) number = value.number();
  if (value.is(Kind::kText)) {
    if (!runtime.Scan(value.text().size())) return Value();
    if (const auto integer = ParseInteger(value.text(), static_cast<int>(*base))) {
      return Value::Int(*integer);
    }
    number = ParseFloat(value.text());
  }
  if (!number || !(std::abs(*number) < 1e30)) return fallback;
  return Value::Int(static_cast<Integer>(*number));
}

Value FloatFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "float", arguments, {"default"}, 0);
  if (!bound) return Value();
  if (value.is(Kind::kUndefined)) return runtime.Fail(value.MissingThing() + " is undefined");
  if (value.is_number()) return Value::Float(value.number());
  if (value.is(Kind::kText)) {
    if (const auto number = ParseFloat(value.text())) return Value::Float(*number);
  }
  return (*bound)[0] == nullptr ? Value::Float(0) : *(*bound)[0];
}

Value FormatFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  Value given;
  if (!arguments.keyword.empty()) {
    if (!arguments.positional.empty()) {
      return runtime.Fail("format: positional and keyword arguments cannot be mixed");
    }
    Dict dict;
    for (const auto& [name, item] : arguments.keyword) dict.Set(runtime.MakeText(name), item);
    given = runtime.MakeDict(std::move(dict));
  } else {
    given = runtime.MakeSequence(Kind::kTuple, arguments.positional);
  }
  const std::string format = ToText(runtime, value);
  return runtime.failed() ? Value() : FormatPercent(runtime, format, given);
}

// The prefix that an indentation argument asks for: a width or a text.
std::optional<std::string> IndentText(Runtime& runtime, const Value* width, int64_t fallback) {
  if (width != nullptr && width->is(Kind::kText)) return width->text();
  const auto count = width == nullptr ? fallback : ToIndex(*width);
  if (!count || *count > kMaxIndent) {
    runtime.Fail(absl::StrCat("an indentation must be a string or a number up to ", kMaxIndent));
    return std::nullopt;
  }
  return std::string(static_cast<size_t>(std::max<int64_t>(*count, 0)), ' ');
}

Value IndentFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "indent", arguments, {"width", "first", "blank"}, 0);
  if (!bound) return Value();
  const auto indent = IndentText(runtime, (*bound)[0], 4);
  const Value text = ToTextValue(runtime, value);
  if (!indent || runtime.failed()) return Value();
  const bool first = (*bound)[1] != nullptr && (*bound)[1]->Truth();
  const bool blank = (*bound)[2] != nullptr && (*bound)[2]->Truth();
  // Jinja appends a newline before it splits, so that a last line end counts.
  const std::string with_newline = text.text() + "\n";
  const std::vector<std::string_view> lines = SplitLines(with_newline);
  if (!runtime.Allocate(with_newline.size() + lines.size() * (indent->size() + 1))) return Value();
  std::string out = first ? *indent : "";
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) {
      out += '\n';
      if (blank || !lines[i].empty()) out += *indent;
    }
    out += lines[i];
  }
  return runtime.MakeText(std::move(out), text.is_markup());
}

Value ReplaceFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "replace", arguments, {"old", "new", "count"}, 2);
  if (!bound) return Value();
  Arguments texts;
  texts.positional.push_back(runtime.MakeText(ToText(runtime, *(*bound)[0])));
  texts.positional.push_back(runtime.MakeText(ToText(runtime, *(*bound)[1])));
  if ((*bound)[2] != nullptr && !(*bound)[2]->is(Kind::kNone)) {
    texts.positional.push_back(*(*bound)[2]);
  }
  const Value text = runtime.MakeText(ToText(runtime, value));
  if (runtime.failed()) return Value();
  return CallMethod(runtime, GetAttribute(runtime, text, "replace").method(), texts);
}

Value RoundFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "round", arguments, {"precision", "method"}, 0);
  if (!bound) return Value();
  const auto precision = (*bound)[0] == nullptr ? 0 : ToIndex(*(*bound)[0]);
  const std::string method = (*bound)[1] == nullptr ? "common" : ToText(runtime, *(*bound)[1]);
  if (!value.is_number()) return runtime.Fail("round() needs a number");
  if (!precision || *precision < 0 || *precision > 300) {
    return runtime.Fail("round() needs a precision from 0 to 300");
  }
  if (method == "common") {
    if (value.is_integral()) return Value::Int(value.integer());
    char buffer[700];
    std::snprintf(buffer, sizeof(buffer), "%.*f", static_cast<int>(*precision), value.number());
    return Value::Float(std::strtod(buffer, nullptr));
  }
  if (method != "ceil" && method != "floor") {
    return runtime.Fail("round() knows the methods common, ceil and floor");
  }
  const double scale = std::pow(10.0, static_cast<double>(*precision));
  const double scaled = value.number() * scale;
  return Value::Float((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
}

Value SafeFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "safe", arguments, {}, 0)) return Value();
  if (value.is_markup()) return value;
  return runtime.MakeText(ToText(runtime, value), true);
}

Value StringFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "string", arguments, {}, 0)) return Value();
  return ToTextValue(runtime, value);
}

// Unlike str.title, words begin after whitespace and -({[< only.
Value TitleFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "title", arguments, {}, 0)) return Value();
  const std::string text = ToText(runtime, value);
  std::string out;
  std::string_view rest = text;
  const auto is_separator = [](std::string_view s, size_t& i) {
    const char32_t c = NextCodePoint(s, i);
    return IsSpace(c) || (c < 0x80 && std::string_view("-({[<").find(static_cast<char>(c)) !=
                                          std::string_view::npos);
  };
  while (!rest.empty()) {
    size_t word = 0;
    for (size_t i = 0; i < rest.size() && is_separator(rest, i);) word = i;
    out += rest.substr(0, word);
    rest.remove_prefix(word);
    size_t end = 0;
    for (size_t i = 0; i < rest.size() && !is_separator(rest, i);) end = i;
    if (end == 0) continue;
    size_t second = 0;
    NextCodePoint(rest, second);
    out += Upper(rest.substr(0, second));
    out += Lower(rest.substr(second, end - second));
    rest.remove_prefix(end);
  }
  return runtime.MakeText(std::move(out));
}

Value ToJsonFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "tojson", arguments,
                                   {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  if (!bound) return Value();
  JsonStyle style;
  style.ensure_ascii = (*bound)[0] != nullptr && (*bound)[0]->Truth();
  style.sort_keys = (*bound)[3] != nullptr && (*bound)[3]->Truth();
  const Value* indent = (*bound)[1];
  if (indent != nullptr && !indent->is(Kind::kNone)) {
    style.indent = IndentText(runtime, indent, 0);
    style.item_separator = ",";
  }
  const Value* separators = (*bound)[2];
  if (separators != nullptr && !separators->is(Kind::kNone)) {
    const auto pair = Iterate(runtime, *separators);
    if (!pair) return Value();
    if (pair->size() != 2) return runtime.Fail("tojson: separators must be a pair");
    style.item_separator = ToText(runtime, (*pair)[0]);
    style.key_separator = ToText(runtime, (*pair)[1]);
  }
  return runtime.failed() ? Value() : runtime.MakeText(ToJson(runtime, value, style));
}

Value TrimFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "trim", arguments, {"chars"}, 0);
  if (!bound) return Value();
  const Value text = ToTextValue(runtime, value);
  if (runtime.failed()) return Value();
  return CallMethod(runtime, GetAttribute(runtime, text, "strip").method(), arguments);
}

Value WordCountFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "wordcount", arguments, {}, 0)) return Value();
  // \w+ counted by its boundaries, ASCII punctuation and whitespace apart.
  Integer count = 0;
  bool in_word = false;
  for (const char c : ToText(runtime, value)) {
    const bool word = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                      c == '_' || static_cast<unsigned char>(c) >= 0x80;
    count += word && !in_word ? 1 : 0;
    in_word = word;
  }
  return Value::Int(count);
}

Value UrlEncodeFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "urlencode", arguments, {}, 0)) return Value();
  if (!value.is(Kind::kText)) return runtime.Fail("urlencode of other than a string");
  std::string out;
  for (const char c : value.text()) {
    const bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                       std::string_view("_.-~/").find(c) != std::string_view::npos;
    char escaped[4];
    std::snprintf(escaped, sizeof(escaped), "%%%02X", static_cast<unsigned char>(c));
    out += plain ? std::string(1, c) : escaped;
  }
  return runtime.MakeText(std::move(out));
}

struct FilterEntry {
  std::string_view name;
  Filter filter;
};

constexpr std::array kFilters = std::to_array<FilterEntry>({
    {"abs", AbsFilter},
    {"attr", AttrFilter},
    {"batch", BatchFilter},
    {"capitalize", TextFilter<Capitalize>},
    {"center", CenterFilter},
    {"count", LengthFilter},
    {"d", DefaultFilter},
    {"default", DefaultFilter},
    {"dictsort", DictSortFilter},
    {"e", EscapeFilter},
    {"escape", EscapeFilter},
    {"first", FirstFilter},
    {"float", FloatFilter},
    {"forceescape", ForceEscapeFilter},
    {"format", FormatFilter},
    {"indent", IndentFilter},
    {"int", IntFilter},
    {"items", ItemsFilter},
    {"join", JoinFilter},
    {"last", LastFilter},
    {"length", LengthFilter},
    {"list", ListFilter},
    {"lower", TextFilter<Lower>},
    {"map", MapFilter},
    {"max", MaxFilter},
    {"min", MinFilter},
    {"reject", RejectFilter},
    {"rejectattr", RejectAttributeFilter},
    {"replace", ReplaceFilter},
    {"reverse", ReverseFilter},
    {"round", RoundFilter},
    {"safe", SafeFilter},
    {"select", SelectFilter},
    {"selectattr", SelectAttributeFilter},
    {"sort", SortFilter},
    {"string", StringFilter},
    {"sum", SumFilter},
    {"title", TitleFilter},
    {"tojson", ToJsonFilter},
    {"trim", TrimFilter},
    {"unique", UniqueFilter},
    {"upper", TextFilter<Upper>},
    {"urlencode", UrlEncodeFilter},
    {"wordcount", WordCountFilter},
});

const FilterEntry* FindFilter(std::string_view name) {
  const auto* it = std::lower_bound(
      kFilters.begin(), kFilters.end(), name,
      [](const FilterEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return it != kFilters.end() && it->name == name ? it : nullptr;
}

}  // namespace

bool IsFilter(std::string_view name) { return FindFilter(name) != nullptr; }

Value ApplyFilter(Runtime& runtime, std::string_view name, const Value& value,
                  const Arguments& arguments) {
  if (!runtime.Step()) return Value();
  const FilterEntry* filter = FindFilter(name);
  if (filter == nullptr) {
    return runtime.Fail(absl::StrCat("there is no filter '", std::string(name.substr(0, 40)), "'"));
  }
  return filter->filter(runtime, value, arguments);
}

}  // namespace octogate::workers::jinja

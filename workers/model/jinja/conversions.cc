// Conversions to text and JSON, iteration, and "%" formatting.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/operations.h"
#include "workers/model/jinja/text.h"

namespace octogate::workers::jinja {
namespace {

void AppendRepr(Runtime& runtime, const Value& value, std::string& out, int depth);

void AppendItems(Runtime& runtime, const std::vector<Value>& items, std::string& out, int depth) {
  bool first = true;
  for (const Value& item : items) {
    if (runtime.failed()) return;
    if (!first) out += ", ";
    first = false;
    AppendRepr(runtime, item, out, depth);
  }
}

void AppendDict(Runtime& runtime, const Dict& dict, std::string& out, int depth) {
  out += '{';
  bool first = true;
  for (const auto& [key, value] : dict.entries) {
    if (runtime.failed()) return;
    if (!first) out += ", ";
    first = false;
    AppendRepr(runtime, key, out, depth);
    out += ": ";
    AppendRepr(runtime, value, out, depth);
  }
  out += '}';
}

// repr(value). `depth` guards against a namespace that holds itself.
void AppendRepr(Runtime& runtime, const Value& value, std::string& out, int depth) {
  if (depth > kMaxValueDepth) {
    runtime.Exhaust("a namespace is nested too deeply to print");
    return;
  }
  // One value shared many times can print much longer than it is.
  if (!runtime.Step() || out.size() > runtime.limits().max_allocated_bytes) {
    if (!runtime.failed()) runtime.Exhaust("a value's text is too long");
    return;
  }
  switch (value.kind()) {
    case Kind::kText:
      if (!runtime.Scan(value.text().size())) return;
      out += value.is_markup() ? "Markup(" + TextRepr(value.text()) + ")" : TextRepr(value.text());
      break;
    case Kind::kList:
      out += '[';
      AppendItems(runtime, value.sequence().items, out, depth + 1);
      out += ']';
      break;
    case Kind::kTuple:
      out += '(';
      AppendItems(runtime, value.sequence().items, out, depth + 1);
      out += value.sequence().items.size() == 1 ? ",)" : ")";
      break;
    case Kind::kView:
      out += "dict_view([";
      AppendItems(runtime, value.sequence().items, out, depth + 1);
      out += "])";
      break;
    case Kind::kDict:
      AppendDict(runtime, value.dict(), out, depth + 1);
      break;
    case Kind::kNamespace:
      out += "<Namespace ";
      AppendDict(runtime, value.name_space().attributes, out, depth + 1);
      out += '>';
      break;
    case Kind::kUndefined:
      out += "Undefined";
      break;
    case Kind::kNone:
      out += "None";
      break;
    case Kind::kBool:
      out += value.boolean() ? "True" : "False";
      break;
    case Kind::kInt:
      out += IntegerText(value.integer());
      break;
    case Kind::kFloat:
      out += FloatRepr(value.number());
      break;
    default:
      absl::StrAppend(&out, "<", value.TypeName(), ">");
  }
}

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, const JsonStyle& style) : runtime_(runtime), style_(style) {}

  void Write(const Value& value) {
    if (!runtime_.Step() || out_.size() > runtime_.limits().max_allocated_bytes) {
      if (!runtime_.failed()) runtime_.Exhaust("a value's JSON is too long");
      return;
    }
    switch (value.kind()) {
      case Kind::kNone:
        out_ += "null";
        break;
      case Kind::kBool:
        out_ += value.boolean() ? "true" : "false";
        break;
      case Kind::kInt:
        out_ += IntegerText(value.integer());
        break;
      case Kind::kFloat:
        out_ += Number(value.number());
        break;
      case Kind::kText:
        if (!runtime_.Scan(value.text().size())) return;
        AppendJsonString(out_, value.text(), style_.ensure_ascii);
        break;
      case Kind::kList:
      case Kind::kTuple:
        WriteList(value.sequence().items);
        break;
      case Kind::kDict:
        WriteDict(value.dict());
        break;
      default:
        runtime_.Fail(absl::StrCat(
            "tojson: a value of type ", value.TypeName(), " cannot be written as JSON",
            value.is(Kind::kUndefined) ? absl::StrCat(" (", value.MissingThing(), ")") : ""));
    }
  }

  std::string Take() { return std::move(out_); }

 private:
  static std::string Number(double number) {
    if (std::isnan(number)) return "NaN";
    if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
    return FloatRepr(number);
  }

  void NewLine() {
    if (!style_.indent) return;
    out_ += '\n';
    for (int i = 0; i < level_; ++i) out_ += *style_.indent;
  }

  void WriteList(const std::vector<Value>& items) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_ += '[';
    ++level_;
    for (size_t i = 0; i < items.size() && !runtime_.failed(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      NewLine();
      Write(items[i]);
    }
    --level_;
    NewLine();
    out_ += ']';
  }

  void WriteKey(const Value& key) {
    switch (key.kind()) {
      case Kind::kText:
        AppendJsonString(out_, key.text(), style_.ensure_ascii);
        break;
      case Kind::kNone:
        out_ += "\"null\"";
        break;
      case Kind::kBool:
        out_ += key.boolean() ? "\"true\"" : "\"false\"";
        break;
      case Kind::kInt:
        absl::StrAppend(&out_, "\"", IntegerText(key.integer()), "\"");
        break;
      case Kind::kFloat:
        absl::StrAppend(&out_, "\"", Number(key.number()), "\"");
        break;
      default:
        runtime_.Fail(
            absl::StrCat("tojson: a key of type ", key.TypeName(), " cannot be written as JSON"));
    }
  }

  void WriteDict(const Dict& dict) {
    if (dict.entries.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> order;
    for (const auto& entry : dict.entries) order.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(order.begin(), order.end(), [this](const auto* a, const auto* b) {
        return Compare(runtime_, Order::kLess, a->first, b->first);
      });
    }
    out_ += '{';
    ++level_;
    for (size_t i = 0; i < order.size() && !runtime_.failed(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      NewLine();
      WriteKey(order[i]->first);
      out_ += style_.key_separator;
      Write(order[i]->second);
    }
    --level_;
    NewLine();
    out_ += '}';
  }

  Runtime& runtime_;
  const JsonStyle& style_;
  std::string out_;
  int level_ = 0;
};

// One conversion of a "%" format: %(name)-5.2f
struct Conversion {
  std::string name;
  bool has_name = false;
  std::string flags;
  std::optional<int> width;
  std::optional<int> precision;
  char type = 0;
};

constexpr int kMaxFormatWidth = 10000;

std::optional<int> ParseNumber(std::string_view text, size_t& i) {
  std::optional<int> number;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    number = std::min(number.value_or(0) * 10 + (text[i] - '0'), kMaxFormatWidth + 1);
  }
  return number;
}

std::optional<Conversion> ParseConversion(std::string_view format, size_t& i) {
  Conversion conversion;
  if (i < format.size() && format[i] == '(') {
    const size_t close = format.find(')', i);
    if (close == std::string_view::npos) return std::nullopt;
    conversion.name = std::string(format.substr(i + 1, close - i - 1));
    conversion.has_name = true;
    i = close + 1;
  }
  while (i < format.size() && std::string_view("-+ 0#").find(format[i]) != std::string_view::npos) {
    conversion.flags += format[i++];
  }
  conversion.width = ParseNumber(format, i);
  if (i < format.size() && format[i] == '.') {
    ++i;
    conversion.precision = ParseNumber(format, i).value_or(0);
  }
  if (i >= format.size()) return std::nullopt;
  conversion.type = format[i++];
  if (conversion.width.value_or(0) > kMaxFormatWidth ||
      conversion.precision.value_or(0) > kMaxFormatWidth) {
    return std::nullopt;
  }
  return conversion;
}

// The converted value before padding, or nothing for a wrong type.
std::optional<std::string> Convert(Runtime& runtime, const Conversion& conversion,
                                   const Value& value) {
  const bool plus = conversion.flags.find('+') != std::string::npos;
  const bool space = conversion.flags.find(' ') != std::string::npos;
  switch (conversion.type) {
    case 's':
    case 'r': {
      std::string text;
      if (conversion.type == 's') {
        text = ToText(runtime, value);
      } else {
        AppendRepr(runtime, value, text, 0);
      }
      if (!conversion.precision) return text;
      std::string cut;
      const std::vector<std::string_view> points = SplitCodePoints(text);
      for (size_t i = 0; i < points.size() && i < static_cast<size_t>(*conversion.precision); ++i) {
        cut += points[i];
      }
      return cut;
    }
    case 'd':
    case 'i':
    case 'u': {
      if (!value.is_number()) return std::nullopt;
      Integer integer = 0;
      if (value.is_integral()) {
        integer = value.integer();
      } else if (std::abs(value.number()) < 1e18) {
        integer = static_cast<int64_t>(value.number());
      } else {
        return std::nullopt;
      }
      std::string text = IntegerText(integer);
      if (integer >= 0 && plus) text = "+" + text;
      if (integer >= 0 && !plus && space) text = " " + text;
      return text;
    }
    case 'f':
    case 'F':
    case 'e':
    case 'g': {
      if (!value.is_number()) return std::nullopt;
      const std::string spec = absl::StrCat("%",
                                            plus    ? "+"
                                            : space ? " "
                                                    : "",
                                            ".*", std::string(1, conversion.type));
      const int precision = conversion.precision.value_or(6);
      const int size = std::snprintf(nullptr, 0, spec.c_str(), precision, value.number());
      std::string text(static_cast<size_t>(size) + 1, '\0');
      std::snprintf(text.data(), text.size(), spec.c_str(), precision, value.number());
      text.pop_back();
      return text;
    }
    default:
      return std::nullopt;
  }
}

std::string Pad(const Conversion& conversion, std::string text) {
  const size_t width = static_cast<size_t>(conversion.width.value_or(0));
  const size_t length = CountCodePoints(text);
  if (length >= width) return text;
  const std::string fill(width - length, ' ');
  if (conversion.flags.find('-') != std::string::npos) return text + fill;
  if (conversion.flags.find('0') != std::string::npos && conversion.type != 's' &&
      conversion.type != 'r') {
    const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ');
    return text.substr(0, sign) + std::string(width - length, '0') + text.substr(sign);
  }
  return fill + text;
}

}  // namespace

std::string ToText(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kText)) {
    runtime.Allocate(value.text().size());
    return runtime.failed() ? std::string() : value.text();
  }
  std::string out;
  if (value.is(Kind::kUndefined)) return out;
  AppendRepr(runtime, value, out, 0);
  runtime.Allocate(out.size());
  return out;
}

Value ToTextValue(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kText)) return value;
  return runtime.MakeText(ToText(runtime, value));
}

std::string ToJson(Runtime& runtime, const Value& value, const JsonStyle& style) {
  JsonWriter writer(runtime, style);
  writer.Write(value);
  return writer.Take();
}

std::optional<std::vector<Value>> Iterate(Runtime& runtime, const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      return items;
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kIterator: {
      const Sequence& sequence = value.sequence();
      if (!runtime.Allocate(sequence.items.size() * sizeof(Value))) return std::nullopt;
      const size_t start = value.is(Kind::kIterator) ? sequence.position : 0;
      items.assign(sequence.items.begin() + static_cast<std::ptrdiff_t>(start),
                   sequence.items.end());
      if (value.is(Kind::kIterator)) sequence.position = sequence.items.size();
      return items;
    }
    case Kind::kDict:
      if (!runtime.Allocate(value.dict().entries.size() * sizeof(Value))) return std::nullopt;
      for (const auto& [key, unused] : value.dict().entries) items.push_back(key);
      return items;
    case Kind::kText:
      if (!runtime.Allocate(value.text().size() * (sizeof(Value) + sizeof(Text)))) {
        return std::nullopt;
      }
      for (const std::string_view point : SplitCodePoints(value.text())) {
        items.push_back(Value::OfText(std::string(point), value.is_markup()));
      }
      return items;
    default:
      runtime.Fail(absl::StrCat("'", value.TypeName(), "' object is not iterable"));
      return std::nullopt;
  }
}

std::optional<int64_t> Length(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kText:
      if (!runtime.Scan(value.text().size())) return std::nullopt;
      return static_cast<int64_t>(CountCodePoints(value.text()));
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
      return static_cast<int64_t>(value.sequence().items.size());
    case Kind::kDict:
      return static_cast<int64_t>(value.dict().entries.size());
    case Kind::kLoop:
      return static_cast<int64_t>(value.loop().items.size());
    default:
      runtime.Fail(absl::StrCat("object of type '", value.TypeName(), "' has no len()"));
      return std::nullopt;
  }
}

Value FormatPercent(Runtime& runtime, std::string_view format, const Value& arguments) {
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < format.size();) {
    if (format[i] != '%') {
      out += format[i++];
      continue;
    }
    ++i;
    const std::optional<Conversion> conversion = ParseConversion(format, i);
    if (!conversion) return runtime.Fail("'%' format is incomplete or not supported");
    if (conversion->type == '%') {
      out += '%';
      continue;
    }
    const Value* value = nullptr;
    if (conversion->has_name) {
      if (arguments.is(Kind::kDict)) {
        value = arguments.dict().Find(std::string_view(conversion->name));
      }
    } else if (arguments.is(Kind::kTuple)) {
      const std::vector<Value>& items = arguments.sequence().items;
      if (next < items.size()) value = &items[next];
      ++next;
    } else if (next++ == 0) {
      value = &arguments;
    }
    if (value == nullptr) return runtime.Fail("'%' format has no argument for a conversion");
    const std::optional<std::string> text = Convert(runtime, *conversion, *value);
    if (!text) {
      return runtime.Fail(absl::StrCat("'%", std::string(1, conversion->type),
                                       "' cannot format a value of type ", value->TypeName()));
    }
    if (!runtime.Allocate(text->size() + static_cast<size_t>(conversion->width.value_or(0)))) {
      return Value();
    }
    out += Pad(*conversion, *text);
  }
  const bool all_used = arguments.is(Kind::kTuple)  ? next >= arguments.sequence().items.size()
                        : arguments.is(Kind::kDict) ? true
                                                    : next > 0;
  if (!all_used) return runtime.Fail("'%' format has more arguments than conversions");
  return runtime.MakeText(std::move(out));
}

}  // namespace octogate::workers::jinja

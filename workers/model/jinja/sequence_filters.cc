#include "workers/model/jinja/sequence_filters.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "workers/model/jinja/filters.h"
#include "workers/model/jinja/operations.h"
#include "workers/model/jinja/tests.h"
#include "workers/model/jinja/text.h"

namespace octogate::workers::jinja {
namespace {

// The part of `item` that a dotted attribute names; the item itself without
// one. As Jinja's make_attrgetter: each part is a key first, digits a position.
Value ReadAttribute(Runtime& runtime, const Value& item, const Value* attribute,
                    const Value* fallback = nullptr) {
  if (attribute == nullptr || attribute->is(Kind::kNone)) return item;
  if (attribute->is_integral()) return GetItem(runtime, item, *attribute);
  if (!attribute->is(Kind::kText)) return runtime.Fail("an attribute must be a name or a number");
  Value value = item;
  for (const std::string_view part : SplitOn(attribute->text(), ".", -1, false)) {
    const bool is_number = !part.empty() && part.size() < 10 &&
                           part.find_first_not_of("0123456789") == std::string_view::npos;
    value = GetItem(
        runtime, value,
        is_number ? Value::Int(std::stoi(std::string(part))) : runtime.MakeText(std::string(part)));
    if (value.is(Kind::kUndefined) && fallback != nullptr) value = *fallback;
    if (runtime.failed()) return Value();
  }
  return value;
}

bool IsTrue(const Value* value, bool fallback) {
  return value == nullptr ? fallback : value->Truth();
}

// The key that sorting and grouping compare: texts in lower case unless asked.
Value SortKey(Runtime& runtime, const Value& value, bool case_sensitive) {
  if (case_sensitive || !value.is(Kind::kText)) return value;
  return runtime.MakeText(Lower(value.text()));
}

// Sorts stably by key; a failed comparison leaves an arbitrary order behind.
void SortByKey(Runtime& runtime, std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  // std::stable_sort must see a consistent order even after a failure.
  const auto less = [&runtime](const auto& a, const auto& b) {
    return !runtime.failed() && Compare(runtime, Order::kLess, a.first, b.first);
  };
  if (reverse) std::reverse(keyed.begin(), keyed.end());
  std::stable_sort(keyed.begin(), keyed.end(), less);
  if (reverse) std::reverse(keyed.begin(), keyed.end());
}

Value Generator(Runtime& runtime, std::vector<Value> items) {
  return runtime.MakeSequence(Kind::kIterator, std::move(items));
}

// select, reject and their attribute forms.
Value Choose(Runtime& runtime, const Value& value, const Arguments& arguments, bool by_attribute,
             bool keep) {
  // Jinja looks at nothing else when there is nothing to choose from, none included.
  if (!value.Truth()) return Generator(runtime, {});
  const size_t skip = by_attribute ? 1 : 0;
  if (arguments.positional.size() < skip) {
    return runtime.Fail("selectattr and rejectattr need an attribute");
  }
  const Value* attribute = by_attribute ? &arguments.positional[0] : nullptr;
  std::string test;
  Arguments rest;
  if (arguments.positional.size() > skip) {
    const Value& name = arguments.positional[skip];
    if (!name.is(Kind::kText)) return runtime.Fail("the name of a test must be a string");
    test = name.text();
    rest.positional.assign(arguments.positional.begin() + static_cast<std::ptrdiff_t>(skip) + 1,
                           arguments.positional.end());
    rest.keyword = arguments.keyword;
  }
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  std::vector<Value> chosen;
  for (const Value& item : *items) {
    if (!runtime.Step()) return Value();
    const Value tested = ReadAttribute(runtime, item, attribute);
    const bool passes = test.empty() ? tested.Truth() : ApplyTest(runtime, test, tested, rest);
    if (passes == keep) chosen.push_back(item);
  }
  return Generator(runtime, std::move(chosen));
}

Value Extreme(Runtime& runtime, const Value& value, const Arguments& arguments,
              std::string_view name, Order order) {
  const auto bound = BindArguments(runtime, name, arguments, {"case_sensitive", "attribute"}, 0);
  if (!bound) return Value();
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  if (items->empty()) return Value::Missing("an item of an empty sequence");
  const bool case_sensitive = IsTrue((*bound)[0], false);
  const auto key = [&](const Value& item) {
    return SortKey(runtime, ReadAttribute(runtime, item, (*bound)[1]), case_sensitive);
  };
  Value best = (*items)[0];
  Value best_key = key(best);
  for (size_t i = 1; i < items->size() && !runtime.failed(); ++i) {
    Value candidate = key((*items)[i]);
    if (Compare(runtime, order, candidate, best_key)) {
      best = (*items)[i];
      best_key = std::move(candidate);
    }
  }
  return best;
}

}  // namespace

Value BatchFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "batch", arguments, {"linecount", "fill_with"}, 1);
  if (!bound) return Value();
  const auto size = ToIndex(*(*bound)[0]);
  if (!size || *size < 1 || *size > 100000) return runtime.Fail("batch() needs a positive size");
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  std::vector<Value> batches;
  for (size_t start = 0; start < items->size(); start += static_cast<size_t>(*size)) {
    const size_t end = std::min(items->size(), start + static_cast<size_t>(*size));
    std::vector<Value> batch(items->begin() + static_cast<std::ptrdiff_t>(start),
                             items->begin() + static_cast<std::ptrdiff_t>(end));
    const Value* fill = (*bound)[1];
    if (fill != nullptr && !fill->is(Kind::kNone)) batch.resize(static_cast<size_t>(*size), *fill);
    batches.push_back(runtime.MakeSequence(Kind::kList, std::move(batch)));
    if (runtime.failed()) return Value();
  }
  return Generator(runtime, std::move(batches));
}

Value DictSortFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound =
      BindArguments(runtime, "dictsort", arguments, {"case_sensitive", "by", "reverse"}, 0);
  if (!bound) return Value();
  if (!value.is(Kind::kDict)) return runtime.Fail("dictsort() needs a dictionary");
  const Value* by = (*bound)[1];
  const bool by_value = by != nullptr && by->is(Kind::kText) && by->text() == "value";
  if (by != nullptr && !by_value && !(by->is(Kind::kText) && by->text() == "key")) {
    return runtime.Fail("dictsort() sorts by 'key' or by 'value'");
  }
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : value.dict().entries) {
    keyed.emplace_back(SortKey(runtime, by_value ? item : key, IsTrue((*bound)[0], false)),
                       runtime.MakeSequence(Kind::kTuple, {key, item}));
    if (runtime.failed()) return Value();
  }
  SortByKey(runtime, keyed, IsTrue((*bound)[2], false));
  std::vector<Value> items;
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return runtime.MakeSequence(Kind::kList, std::move(items));
}

Value FirstFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "first", arguments, {}, 0)) return Value();
  if (value.is(Kind::kIterator)) {
    const Sequence& sequence = value.sequence();
    if (sequence.position < sequence.items.size()) return sequence.items[sequence.position++];
    return Value::Missing("the first item of an empty sequence");
  }
  if (value.is(Kind::kText)) {
    if (value.text().empty()) return Value::Missing("the first item of an empty sequence");
    return GetItem(runtime, value, Value::Int(0));
  }
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  return items->empty() ? Value::Missing("the first item of an empty sequence") : items->front();
}

Value LastFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "last", arguments, {}, 0)) return Value();
  if (value.is(Kind::kIterator)) return runtime.Fail("'generator' object is not reversible");
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  return items->empty() ? Value::Missing("the last item of an empty sequence") : items->back();
}

Value ItemsFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "items", arguments, {}, 0)) return Value();
  if (value.is(Kind::kUndefined)) return Generator(runtime, {});
  if (!value.is(Kind::kDict)) return runtime.Fail("items: can only get item pairs from a mapping");
  std::vector<Value> items;
  for (const auto& [key, item] : value.dict().entries) {
    items.push_back(runtime.MakeSequence(Kind::kTuple, {key, item}));
  }
  return Generator(runtime, std::move(items));
}

Value JoinFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "join", arguments, {"d", "attribute"}, 0);
  if (!bound) return Value();
  const std::string separator = (*bound)[0] == nullptr ? "" : ToText(runtime, *(*bound)[0]);
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  std::string out;
  for (size_t i = 0; i < items->size(); ++i) {
    if (!runtime.Allocate(separator.size())) return Value();
    if (i > 0) out += separator;
    out += ToText(runtime, ReadAttribute(runtime, (*items)[i], (*bound)[1]));
  }
  return runtime.MakeText(std::move(out));
}

Value LengthFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "length", arguments, {}, 0)) return Value();
  const auto length = Length(runtime, value);
  return length ? Value::Int(*length) : Value();
}

Value ListFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "list", arguments, {}, 0)) return Value();
  auto items = Iterate(runtime, value);
  return items ? runtime.MakeSequence(Kind::kList, *std::move(items)) : Value();
}

Value MapFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!value.Truth()) return Generator(runtime, {});
  std::vector<Value> mapped;
  if (arguments.positional.empty()) {
    const auto bound = BindArguments(runtime, "map", arguments, {"attribute", "default"}, 1);
    if (!bound) return Value();
    const auto items = Iterate(runtime, value);
    if (!items) return Value();
    for (const Value& item : *items) {
      mapped.push_back(ReadAttribute(runtime, item, (*bound)[0], (*bound)[1]));
      if (runtime.failed()) return Value();
    }
    return Generator(runtime, std::move(mapped));
  }
  const Value& name = arguments.positional[0];
  if (!name.is(Kind::kText)) return runtime.Fail("the name of a filter must be a string");
  Arguments rest;
  rest.positional.assign(arguments.positional.begin() + 1, arguments.positional.end());
  rest.keyword = arguments.keyword;
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  for (const Value& item : *items) {
    mapped.push_back(ApplyFilter(runtime, name.text(), item, rest));
    if (runtime.failed()) return Value();
  }
  return Generator(runtime, std::move(mapped));
}

Value MaxFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Extreme(runtime, value, arguments, "max", Order::kGreater);
}

Value MinFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Extreme(runtime, value, arguments, "min", Order::kLess);
}

Value RejectAttributeFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Choose(runtime, value, arguments, true, false);
}

Value RejectFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Choose(runtime, value, arguments, false, false);
}

Value SelectAttributeFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Choose(runtime, value, arguments, true, true);
}

Value SelectFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  return Choose(runtime, value, arguments, false, true);
}

Value ReverseFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  if (!BindArguments(runtime, "reverse", arguments, {}, 0)) return Value();
  auto items = Iterate(runtime, value);
  if (!items) return Value();
  if (!value.is(Kind::kText)) {
    std::reverse(items->begin(), items->end());
    return Generator(runtime, *std::move(items));
  }
  std::string out;
  for (size_t i = items->size(); i > 0; --i) out += (*items)[i - 1].text();
  return runtime.MakeText(std::move(out), value.is_markup());
}

Value SortFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound =
      BindArguments(runtime, "sort", arguments, {"reverse", "case_sensitive", "attribute"}, 0);
  if (!bound) return Value();
  auto items = Iterate(runtime, value);
  if (!items) return Value();
  // Several attributes, separated by commas, compare one after another.
  std::vector<Value> attributes;
  const Value* attribute = (*bound)[2];
  if (attribute != nullptr && attribute->is(Kind::kText)) {
    for (const std::string_view name : SplitOn(attribute->text(), ",", -1, false)) {
      attributes.push_back(runtime.MakeText(std::string(name)));
    }
  } else if (attribute != nullptr) {
    attributes.push_back(*attribute);
  }
  const bool case_sensitive = IsTrue((*bound)[1], false);
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& item : *items) {
    std::vector<Value> key;
    for (const Value& name : attributes) {
      key.push_back(SortKey(runtime, ReadAttribute(runtime, item, &name), case_sensitive));
    }
    if (attributes.empty()) key.push_back(SortKey(runtime, item, case_sensitive));
    keyed.emplace_back(runtime.MakeSequence(Kind::kList, std::move(key)), std::move(item));
    if (runtime.failed()) return Value();
  }
  SortByKey(runtime, keyed, IsTrue((*bound)[0], false));
  std::vector<Value> sorted;
  for (auto& [key, item] : keyed) sorted.push_back(std::move(item));
  return runtime.MakeSequence(Kind::kList, std::move(sorted));
}

Value SumFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound = BindArguments(runtime, "sum", arguments, {"attribute", "start"}, 0);
  if (!bound) return Value();
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  Value total = (*bound)[1] == nullptr ? Value::Int(0) : *(*bound)[1];
  for (const Value& item : *items) {
    total = Arithmetic(runtime, Operator::kAdd, total, ReadAttribute(runtime, item, (*bound)[0]));
    if (runtime.failed()) return Value();
  }
  return total;
}

Value UniqueFilter(Runtime& runtime, const Value& value, const Arguments& arguments) {
  const auto bound =
      BindArguments(runtime, "unique", arguments, {"case_sensitive", "attribute"}, 0);
  if (!bound) return Value();
  const auto items = Iterate(runtime, value);
  if (!items) return Value();
  std::vector<Value> unique;
  std::vector<Value> other_keys;
  absl::flat_hash_map<std::string, bool> text_keys;
  for (const Value& item : *items) {
    const Value key =
        SortKey(runtime, ReadAttribute(runtime, item, (*bound)[1]), IsTrue((*bound)[0], false));
    if (runtime.failed() || !CheckKey(runtime, key)) return Value();
    bool is_new = false;
    if (key.is(Kind::kText)) {
      is_new = text_keys.emplace(key.text(), true).second;
    } else {
      is_new = std::none_of(other_keys.begin(), other_keys.end(),
                            [&](const Value& other) { return Equal(runtime, key, other); });
      if (is_new) other_keys.push_back(key);
    }
    if (is_new) unique.push_back(item);
  }
  return Generator(runtime, std::move(unique));
}

}  // namespace octogate::workers::jinja

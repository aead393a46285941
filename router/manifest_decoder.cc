#include "router/manifest_decoder.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/strings.h"
#include "router/graph_schema.h"

namespace octogate::router {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

// What people call a message: "a node", "an edge".
std::string Noun(const Descriptor& type) {
  std::string words;
  for (const char c : type.name()) {
    if (absl::ascii_isupper(c) && !words.empty()) words.push_back(' ');
    words.push_back(absl::ascii_tolower(c));
  }
  const bool vowel = std::string_view("aeiou").find(words.front()) != std::string_view::npos;
  return absl::StrCat(vowel ? "an " : "a ", words);
}

std::vector<std::string> KeysOf(const Descriptor& type) {
  std::vector<std::string> keys;
  for (int i = 0; i < type.field_count(); ++i) keys.push_back(type.field(i)->json_name());
  return keys;
}

// Members of a oneof as a choice: "model, router or tool".
std::string Choice(const OneofDescriptor& oneof) {
  std::string text;
  for (int i = 0; i < oneof.field_count(); ++i) {
    if (i > 0) text.append(i + 1 == oneof.field_count() ? " or " : ", ");
    absl::StrAppend(&text, "'", oneof.field(i)->json_name(), "'");
  }
  return text;
}

class Decoder {
 public:
  Decoder(PositionMap* positions, std::vector<ManifestError>* errors)
      : positions_(*positions), errors_(*errors) {}

  void DecodeFields(const YamlNode& node, const std::string& path,
                    const std::vector<std::string>& foreign_keys, Message* message) {
    const Descriptor& type = *message->GetDescriptor();
    positions_.Set(path, node.position);
    if (node.kind != YamlNode::Kind::kMap && node.kind != YamlNode::Kind::kNull) {
      Error(node, absl::StrCat("expected a map with the keys of ", Noun(type), " (",
                               absl::StrJoin(KeysOf(type), ", "), "), found ", Describe(node)));
      return;
    }
    absl::flat_hash_map<std::string, Position> seen;
    absl::flat_hash_map<const OneofDescriptor*, const FieldDescriptor*> chosen;
    for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
      const YamlNode& key = node.children[i];
      if (!CheckKey(key, &seen)) continue;
      if (std::count(foreign_keys.begin(), foreign_keys.end(), key.value) > 0) continue;
      const FieldDescriptor* field = FindField(type, key.value);
      if (field == nullptr) {
        std::vector<std::string> known = KeysOf(type);
        known.insert(known.end(), foreign_keys.begin(), foreign_keys.end());
        Error(key, absl::StrCat("unknown key ", Quoted(key.value), " in ", Noun(type),
                                Suggest(key.value, known, "keys")));
        continue;
      }
      if (const OneofDescriptor* oneof = field->real_containing_oneof(); oneof != nullptr) {
        const auto [other, first] = chosen.try_emplace(oneof, field);
        if (!first) {
          Error(key, absl::StrCat("'", field->json_name(), "' beside '", other->second->json_name(),
                                  "'; ", Noun(type), " has exactly one of ", Choice(*oneof)));
          continue;
        }
      }
      DecodeField(node.children[i + 1], Join(path, field->name()), *field, message);
    }
    CheckPresence(node, type, seen, chosen);
  }

 private:
  static std::string Join(const std::string& path, const std::string& name) {
    return path.empty() ? name : absl::StrCat(path, ".", name);
  }

  static const FieldDescriptor* FindField(const Descriptor& type, const std::string& key) {
    for (int i = 0; i < type.field_count(); ++i) {
      if (type.field(i)->json_name() == key) return type.field(i);
    }
    return nullptr;
  }

  void Error(const YamlNode& node, std::string message) {
    if (errors_.size() >= kMaxErrors) return;
    errors_.push_back({node.position, std::move(message)});
  }

  bool CheckKey(const YamlNode& key, absl::flat_hash_map<std::string, Position>* seen) {
    if (key.kind != YamlNode::Kind::kScalar) {
      Error(key, absl::StrCat("a key must be a word, found ", Describe(key)));
      return false;
    }
    const auto [first, inserted] = seen->try_emplace(key.value, key.position);
    if (inserted) return true;
    Error(key, absl::StrCat("duplicate key ", Quoted(key.value), ", first at ", first->second.line,
                            ":", first->second.column, "; remove one"));
    return false;
  }

  void CheckPresence(
      const YamlNode& node, const Descriptor& type,
      const absl::flat_hash_map<std::string, Position>& seen,
      const absl::flat_hash_map<const OneofDescriptor*, const FieldDescriptor*>& chosen) {
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      if (RuleOf(field).required && !seen.contains(field.json_name())) {
        Error(node, absl::StrCat(Noun(type), " needs the key '", field.json_name(), "'"));
      }
    }
    std::string instead;
    bool has_choice = false;
    for (int i = 0; i < type.field_count(); ++i) {
      const std::string& key = type.field(i)->json_name();
      if (!RuleOf(*type.field(i)).is_choice) continue;
      absl::StrAppend(&instead, ", or '", key, "' alone");
      has_choice |= seen.contains(key);
    }
    for (int i = 0; i < type.real_oneof_decl_count() && !has_choice; ++i) {
      const OneofDescriptor& oneof = *type.oneof_decl(i);
      if (!chosen.contains(&oneof)) {
        Error(node, absl::StrCat(Noun(type), " needs exactly one of ", Choice(oneof), instead));
      }
    }
  }

  void DecodeField(const YamlNode& value, const std::string& path, const FieldDescriptor& field,
                   Message* message) {
    positions_.Set(path, value.position);
    const FieldRule& rule = RuleOf(field);
    if (field.is_map()) return DecodeMap(value, path, field, rule, message);
    if (!field.is_repeated()) return DecodeSingle(value, path, field, rule, message);
    if (value.kind != YamlNode::Kind::kSequence) {
      Error(value, absl::StrCat("'", field.json_name(), "' must be a list, found ", Describe(value),
                                "; write each entry as '- …' or in [ ]"));
      return;
    }
    if (const std::string wrong = CheckItems(rule, value.children.size()); !wrong.empty()) {
      Error(value, absl::StrCat("'", field.json_name(), "' ", wrong));
      return;
    }
    for (size_t i = 0; i < value.children.size(); ++i) {
      DecodeSingle(value.children[i], absl::StrCat(path, "[", i, "]"), field, rule, message);
    }
  }

  void DecodeMap(const YamlNode& value, const std::string& path, const FieldDescriptor& field,
                 const FieldRule& rule, Message* message) {
    if (value.kind != YamlNode::Kind::kMap) {
      Error(value, absl::StrCat("'", field.json_name(), "' must be a map, found ", Describe(value),
                                "; write each entry as 'key: value'"));
      return;
    }
    if (const std::string wrong = CheckItems(rule, value.children.size() / 2); !wrong.empty()) {
      Error(value, absl::StrCat("'", field.json_name(), "' ", wrong));
      return;
    }
    const FieldDescriptor& key_field = *field.message_type()->map_key();
    const FieldDescriptor& value_field = *field.message_type()->map_value();
    absl::flat_hash_map<std::string, Position> seen;
    for (size_t i = 0; i + 1 < value.children.size(); i += 2) {
      const YamlNode& key = value.children[i];
      if (!CheckKey(key, &seen)) continue;
      constexpr size_t kMaxKeyBytes = 64;
      if (key.value.empty() || key.value.size() > kMaxKeyBytes) {
        Error(key, absl::StrCat("the key ", Quoted(key.value), " must have 1 to ", kMaxKeyBytes,
                                " bytes"));
        continue;
      }
      std::string text;
      const YamlNode& element = value.children[i + 1];
      positions_.Set(absl::StrCat(path, "[", key.value, "]"), key.position);
      if (!DecodeText(element, key.value, rule, &text)) continue;
      Message* entry = message->GetReflection()->AddMessage(message, &field);
      entry->GetReflection()->SetString(entry, &key_field, key.value);
      entry->GetReflection()->SetString(entry, &value_field, text);
    }
  }

  // One value: of a single field, or one element of a list.
  void DecodeSingle(const YamlNode& value, const std::string& path, const FieldDescriptor& field,
                    const FieldRule& rule, Message* message) {
    positions_.Set(path, value.position);
    const Reflection& reflection = *message->GetReflection();
    const bool repeated = field.is_repeated();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return DecodeFields(value, path, {},
                            repeated ? reflection.AddMessage(message, &field)
                                     : reflection.MutableMessage(message, &field));
      case FieldDescriptor::CPPTYPE_STRING: {
        std::string text;
        if (!DecodeText(value, field.json_name(), rule, &text)) {
          // Keeps the places of the elements behind it.
          if (repeated) reflection.AddString(message, &field, "");
          return;
        }
        return repeated ? reflection.AddString(message, &field, std::move(text))
                        : reflection.SetString(message, &field, std::move(text));
      }
      case FieldDescriptor::CPPTYPE_ENUM:
        return DecodeEnum(value, field, message);
      case FieldDescriptor::CPPTYPE_BOOL:
        return DecodeBool(value, field, message);
      default:
        return DecodeNumber(value, field, rule, message);
    }
  }

  // A scalar is taken over even where it is reported, so that references to it are not reported,
  // too. False: there is no text at all.
  bool DecodeText(const YamlNode& value, const std::string& key, const FieldRule& rule,
                  std::string* text) {
    const bool scalar = value.kind == YamlNode::Kind::kScalar;
    if (!scalar || (!value.quoted && (IsPlainNull(value.value) || IsPlainBool(value.value) ||
                                      IsPlainNumber(value.value)))) {
      Error(value,
            absl::StrCat("'", key, "' must be text, found ", Describe(value),
                         scalar                               ? "; put it in quotes"
                         : value.kind == YamlNode::Kind::kMap ? "; text with ': ' needs quotes"
                                                              : ""));
      *text = value.value;
      return scalar;
    }
    if (const std::string wrong = CheckText(rule, value.value); !wrong.empty()) {
      Error(value, absl::StrCat("'", key, "' ", wrong));
    }
    *text = value.value;
    return true;
  }

  void DecodeEnum(const YamlNode& value, const FieldDescriptor& field, Message* message) {
    std::vector<std::string> known;
    for (int i = 0; i < field.enum_type()->value_count(); ++i) {
      const EnumValueDescriptor& candidate = *field.enum_type()->value(i);
      if (candidate.number() == 0) continue;
      known.push_back(EnumSpelling(candidate));
      if (value.kind == YamlNode::Kind::kScalar && value.value == known.back()) {
        message->GetReflection()->SetEnum(message, &field, &candidate);
        return;
      }
    }
    Error(value, absl::StrCat("'", field.json_name(), "' must be ", absl::StrJoin(known, ", "),
                              "; found ", Describe(value)));
  }

  void DecodeBool(const YamlNode& value, const FieldDescriptor& field, Message* message) {
    if (value.kind != YamlNode::Kind::kScalar || value.quoted ||
        (value.value != "true" && value.value != "false")) {
      Error(value, absl::StrCat("'", field.json_name(), "' must be true or false, found ",
                                Describe(value)));
      return;
    }
    message->GetReflection()->SetBool(message, &field, value.value == "true");
  }

  void DecodeNumber(const YamlNode& value, const FieldDescriptor& field, const FieldRule& rule,
                    Message* message) {
    const bool real = field.cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE;
    const std::string range = std::isfinite(rule.min) ? CheckNumber(rule, std::nan("")) : "";
    const auto wrong_type = [&] {
      Error(value, absl::StrCat("'", field.json_name(), "' must be ",
                                real ? "a number" : "a whole number", ", found ", Describe(value),
                                range.empty() ? "" : absl::StrCat("; it ", range)));
    };
    if (value.kind != YamlNode::Kind::kScalar || value.quoted || !IsPlainNumber(value.value)) {
      return wrong_type();
    }
    double number = 0;
    int64_t whole = 0;
    uint64_t natural = 0;
    const bool is_unsigned = field.cpp_type() == FieldDescriptor::CPPTYPE_UINT64;
    if (real) {
      if (!absl::SimpleAtod(value.value, &number) || !std::isfinite(number)) return wrong_type();
    } else if (is_unsigned) {
      if (!absl::SimpleAtoi(value.value, &natural)) return wrong_type();
    } else {
      if (!absl::SimpleAtoi(value.value, &whole)) return wrong_type();
      number = static_cast<double>(whole);
    }
    if (const std::string wrong = CheckNumber(rule, number); !wrong.empty()) {
      Error(value, absl::StrCat("'", field.json_name(), "' is ", value.value, "; it ", wrong));
      return;
    }
    const Reflection& reflection = *message->GetReflection();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return reflection.SetDouble(message, &field, number);
      case FieldDescriptor::CPPTYPE_UINT64:
        return reflection.SetUInt64(message, &field, natural);
      case FieldDescriptor::CPPTYPE_INT64:
        return reflection.SetInt64(message, &field, whole);
      default:
        // The rule of every int32 field lies within its type.
        return reflection.SetInt32(message, &field, static_cast<int32_t>(whole));
    }
  }

  // More than are ever shown, few enough to sort.
  static constexpr size_t kMaxErrors = 1000;

  PositionMap& positions_;
  std::vector<ManifestError>& errors_;
};

}  // namespace

Position PositionMap::Find(std::string_view path) const {
  while (true) {
    const auto found = positions_.find(ToAbsl(path));
    if (found != positions_.end()) return found->second;
    const size_t cut = path.find_last_of(".[");
    if (cut == std::string_view::npos) break;
    path = path.substr(0, cut);
  }
  const auto root = positions_.find("");
  return root == positions_.end() ? Position{} : root->second;
}

void DecodeMessage(const YamlNode& node, std::string_view path,
                   const std::vector<std::string>& foreign_keys, Message* message,
                   PositionMap* positions, std::vector<ManifestError>* errors) {
  Decoder(positions, errors).DecodeFields(node, std::string(path), foreign_keys, message);
}

std::string Suggest(std::string_view word, std::vector<std::string> known, std::string_view what) {
  constexpr size_t kMaxListed = 12;
  if (known.empty()) return absl::StrCat("; there are no ", ToAbsl(what));
  const std::string lower = absl::AsciiStrToLower(ToAbsl(word));
  const size_t limit = std::max<size_t>(1, word.size() / 3);
  std::string best;
  size_t best_distance = limit + 1;
  for (const std::string& candidate : known) {
    // Names are at most 128 bytes; anything longer is not a slip of the pen.
    if (word.size() > 128) break;
    const size_t distance = EditDistance(lower, absl::AsciiStrToLower(candidate), limit);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  if (!best.empty()) return absl::StrCat("; did you mean '", best, "'?");
  const bool all = known.size() <= kMaxListed;
  if (!all) known.resize(kMaxListed);
  return absl::StrCat("; known ", ToAbsl(what), ": ", absl::StrJoin(known, ", "), all ? "" : ", …");
}

}  // namespace octogate::router

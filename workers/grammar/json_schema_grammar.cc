#include "workers/grammar/json_schema_grammar.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "workers/grammar/shipped_grammars.h"
#include "workers/grammar/string_pattern.h"
#include "workers/grammar/utf8_ranges.h"

namespace octogate::workers {
namespace {

// Keeps the order of properties.
using Json = nlohmann::ordered_json;

constexpr int kMaxNesting = 64;
constexpr size_t kMaxNameBytes = 100;  // of a property, beside which others are allowed
constexpr int64_t kMaxCount = Grammar::kMaxRepetition;

const std::set<std::string>& Annotations() {
  static const auto* const names = new std::set<std::string>{
      "title", "description", "default",    "examples", "$schema",   "$id",
      "$defs", "definitions", "deprecated", "readOnly", "writeOnly", "$comment"};
  return *names;
}

// A literal of the notation.
std::string Literal(std::string_view text) {
  std::string literal = "\"";
  for (size_t at = 0; at < text.size();) {
    const char32_t c = TakeCodePoint(text, &at);
    if (c == '"' || c == '\\') {
      literal.push_back('\\');
      literal.push_back(static_cast<char>(c));
    } else if (c < 0x20 || c == 0x7F) {
      absl::StrAppendFormat(&literal, "\\x%02x", static_cast<uint32_t>(c));
    } else {
      AppendCharacter(c, &literal);
    }
  }
  return literal + "\"";
}

constexpr int kMaxJsonNesting = 512;

// Copying and printing a JSON value recurse, so how deep it may be is decided first.
bool IsDeeperThan(std::string_view text, int limit) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > limit) return true;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return false;
}

struct NameTree {
  bool name = false;
  std::map<char32_t, std::unique_ptr<NameTree>> next;
};

// What may follow in a string after the characters on the way to `tree`, so that the whole is none
// of its names.
std::string OtherNames(const NameTree& tree) {
  std::string taken;
  std::string ways;
  for (const auto& [c, child] : tree.next) {
    absl::StrAppendFormat(&taken, "\\U%08x", static_cast<uint32_t>(c));
    absl::StrAppendFormat(&ways, "[\\U%08x] %s | ", static_cast<uint32_t>(c), OtherNames(*child));
  }
  return absl::StrCat("(", ways, "[^\"\\\\\\x00-\\x1F", taken, "] plain*",
                      tree.name ? ")" : " | \"\")");
}

class SchemaWriter {
 public:
  explicit SchemaWriter(const Json& document) : document_(document) {}

  absl::StatusOr<std::string> Write() {
    OCTOGATE_ASSIGN_OR_RETURN(const std::string root, Reference("#"));
    while (!pending_.empty()) {
      const Pending next = std::move(pending_.back());
      pending_.pop_back();
      OCTOGATE_ASSIGN_OR_RETURN(const std::string expression,
                                Convert(*next.schema, next.pointer, 0));
      absl::StrAppend(&rules_, next.rule, " ::= ", expression, "\n");
    }
    // The rules of JSON, under its own root's other name.
    std::string text(kJsonGrammar);
    const size_t at = text.find("root   ::=");
    if (at == text.npos) return absl::InternalError("the JSON grammar has no root");
    text.replace(at, 4, "any-json");
    return absl::StrCat("root ::= ws ", root, " ws\n", rules_,
                        "plain ::= [^\"\\\\\\x00-\\x1F]\n"
                        "integer ::= \"-\"? natural\nnatural ::= \"0\" | [1-9] [0-9]*\n"
                        "positive ::= [1-9] [0-9]*\n"
                        "unsigned ::= natural (\".\" [0-9]+)? ([eE] [+\\-]? [0-9]+)?\n",
                        text);
  }

 private:
  static absl::Status Error(const std::string& place, const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("schema ", place, ": ", what));
  }
  static absl::Status Unsupported(const std::string& place, const std::string& what) {
    return absl::UnimplementedError(absl::StrCat("schema ", place, ": ", what));
  }

  std::string AddRule(const std::string& expression) {
    const std::string name = absl::StrCat("schema-", next_rule_++);
    absl::StrAppend(&rules_, name, " ::= ", expression, "\n");
    return name;
  }

  // The rule of the schema at a JSON pointer of the document, which Write writes later.
  absl::StatusOr<std::string> Reference(const std::string& pointer) {
    const auto known = references_.find(pointer);
    if (known != references_.end()) return known->second;
    if (pointer.empty() || pointer[0] != '#') {
      return Unsupported(pointer, "only references within the document (\"#/…\") are supported");
    }
    const Json* schema = nullptr;
    try {
      const Json::json_pointer path(pointer.substr(1));
      if (document_.contains(path)) schema = &document_.at(path);
    } catch (const std::exception&) {
      schema = nullptr;
    }
    if (schema == nullptr) return Error(pointer, "there is nothing at this reference");
    const std::string name = absl::StrCat("reference-", references_.size());
    references_.emplace(pointer, name);
    pending_.push_back({name, pointer, schema});
    return name;
  }

  // Only these keywords and annotations may be there.
  static absl::Status CheckKeywords(const Json& schema, const std::string& place,
                                    const std::set<std::string>& allowed) {
    for (const auto& [key, value] : schema.items()) {
      if (allowed.count(key) > 0 || Annotations().count(key) > 0) continue;
      return Unsupported(place, absl::StrCat("the keyword \"", key, "\" is not supported here"));
    }
    return absl::OkStatus();
  }

  // An expression for what the schema at `place` allows.
  absl::StatusOr<std::string> Convert(const Json& schema, const std::string& place, int nesting) {
    if (nesting > kMaxNesting || next_rule_ > Grammar::kMaxRules ||
        rules_.size() > Grammar::kMaxTextBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("schema ", place, ": too deep or too large"));
    }
    if (schema.is_boolean()) {
      return schema.get<bool>() ? std::string("value") : AddNothing();
    }
    if (!schema.is_object()) return Error(place, "a schema is an object or a boolean");
    if (schema.contains("$ref")) {
      OCTOGATE_RETURN_IF_ERROR(CheckKeywords(schema, place, {"$ref"}));
      if (!schema["$ref"].is_string()) return Error(place, "$ref is not a string");
      return Reference(schema["$ref"].get<std::string>());
    }
    for (const char* key : {"anyOf", "oneOf", "allOf"}) {
      if (!schema.contains(key)) continue;
      OCTOGATE_RETURN_IF_ERROR(CheckKeywords(schema, place, {key}));
      const Json& parts = schema[key];
      if (!parts.is_array() || parts.empty()) {
        return Error(place, absl::StrCat(key, " is not an array of schemas"));
      }
      if (std::string_view(key) == "allOf" && parts.size() > 1) {
        return Unsupported(place, "allOf of more than one schema is not supported");
      }
      std::vector<std::string> ways;
      for (size_t i = 0; i < parts.size(); ++i) {
        OCTOGATE_ASSIGN_OR_RETURN(
            std::string way, Convert(parts[i], absl::StrCat(place, "/", key, "/", i), nesting + 1));
        ways.push_back(std::move(way));
      }
      return AddRule(Join(ways));
    }
    if (schema.contains("enum") || schema.contains("const")) return Constants(schema, place);
    if (!schema.contains("type")) {
      OCTOGATE_RETURN_IF_ERROR(CheckKeywords(schema, place, {}));
      return std::string("value");
    }
    return Types(schema, place, nesting);
  }

  static std::string Join(const std::vector<std::string>& ways) {
    std::string text;
    for (const std::string& way : ways) absl::StrAppend(&text, text.empty() ? "" : " | ", way);
    return text;
  }

  // What no text matches.
  std::string AddNothing() {
    const std::string name = absl::StrCat("schema-", next_rule_++);
    absl::StrAppend(&rules_, name, " ::= ", name, "\n");
    return name;
  }

  static bool HasType(const Json& value, std::string_view type) {
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "null") return value.is_null();
    if (type == "array") return value.is_array();
    return type == "object" && value.is_object();
  }

  static absl::StatusOr<std::vector<std::string>> TypesOf(const Json& schema,
                                                          const std::string& place) {
    std::vector<std::string> types;
    const Json& type = schema["type"];
    for (const Json& one : type.is_array() ? type : Json::array({type})) {
      const std::string name = one.is_string() ? one.get<std::string>() : "";
      static const std::set<std::string> kKnown = {"object",  "array",   "string", "number",
                                                   "integer", "boolean", "null"};
      if (kKnown.count(name) == 0) return Error(place, "type names no JSON type");
      types.push_back(name);
    }
    return types;
  }

  absl::StatusOr<std::string> Constants(const Json& schema, const std::string& place) {
    OCTOGATE_RETURN_IF_ERROR(CheckKeywords(schema, place, {"enum", "const", "type"}));
    Json values = Json::array();
    if (schema.contains("enum")) {
      values = schema["enum"];
      if (!values.is_array() || values.empty()) return Error(place, "enum is not a list of values");
    }
    if (schema.contains("const")) {
      if (!values.empty()) return Unsupported(place, "enum and const exclude each other here");
      values.push_back(schema["const"]);
    }
    std::vector<std::string> types;
    if (schema.contains("type")) {
      OCTOGATE_ASSIGN_OR_RETURN(types, TypesOf(schema, place));
    }
    std::vector<std::string> ways;
    for (const Json& value : values) {
      const bool fits =
          types.empty() ||
          std::any_of(types.begin(), types.end(), [&](const auto& t) { return HasType(value, t); });
      if (fits) ways.push_back(Literal(value.dump()));
    }
    if (ways.empty()) return Error(place, "no value of enum has the type");
    return AddRule(Join(ways));
  }

  absl::StatusOr<std::string> Types(const Json& schema, const std::string& place, int nesting) {
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> types, TypesOf(schema, place));
    std::set<std::string> allowed = {"type"};
    const auto allow = [&](std::initializer_list<const char*> keys) {
      allowed.insert(keys.begin(), keys.end());
    };
    for (const std::string& type : types) {
      if (type == "object") allow({"properties", "required", "additionalProperties"});
      if (type == "array") allow({"items", "minItems", "maxItems"});
      if (type == "string") allow({"minLength", "maxLength", "pattern"});
      if (type == "number") allow({"minimum"});
      if (type == "integer") allow({"minimum", "exclusiveMinimum"});
    }
    OCTOGATE_RETURN_IF_ERROR(CheckKeywords(schema, place, allowed));
    std::vector<std::string> ways;
    for (const std::string& type : types) {
      if (type == "boolean") {
        ways.push_back("\"true\" | \"false\"");
      } else if (type == "null") {
        ways.push_back("\"null\"");
      } else {
        OCTOGATE_ASSIGN_OR_RETURN(std::string way, type == "object" ? Object(schema, place, nesting)
                                                   : type == "array" ? Array(schema, place, nesting)
                                                   : type == "string"
                                                       ? String(schema, place)
                                                       : Number(schema, place, type));
        ways.push_back(std::move(way));
      }
    }
    return AddRule(Join(ways));
  }

  absl::StatusOr<std::string> Number(const Json& schema, const std::string& place,
                                     const std::string& type) {
    if (!schema.contains("minimum") && !schema.contains("exclusiveMinimum")) return type;
    if (schema.contains("minimum") && schema.contains("exclusiveMinimum")) {
      return Unsupported(place, "minimum and exclusiveMinimum exclude each other here");
    }
    const bool exclusive = schema.contains("exclusiveMinimum");
    const Json& bound = schema[exclusive ? "exclusiveMinimum" : "minimum"];
    if (bound == 0 && !exclusive) return std::string(type == "integer" ? "natural" : "unsigned");
    if (type == "integer" && bound == (exclusive ? 0 : 1)) return std::string("positive");
    return Unsupported(place,
                       "of the bounds of numbers only a minimum of 0 is supported, and of "
                       "integers a minimum of 1");
  }

  // The repetition of `minimum` and `maximum`, as {m,n}; empty where neither is there.
  absl::StatusOr<std::pair<int64_t, int64_t>> Counts(const Json& schema, const std::string& place,
                                                     const char* minimum, const char* maximum) {
    std::pair<int64_t, int64_t> counts = {0, -1};
    for (const char* key : {minimum, maximum}) {
      if (!schema.contains(key)) continue;
      const Json& count = schema[key];
      if (!count.is_number_integer() || count < 0 || count > kMaxCount) {
        return Error(place, absl::StrCat(key, " is not an integer from 0 to ", kMaxCount));
      }
      (key == minimum ? counts.first : counts.second) = count.get<int64_t>();
    }
    return counts;
  }

  absl::StatusOr<std::string> String(const Json& schema, const std::string& place) {
    if (schema.contains("pattern")) {
      if (schema.contains("minLength") || schema.contains("maxLength")) {
        return Unsupported(place, "a pattern beside minLength or maxLength is not supported");
      }
      if (!schema["pattern"].is_string()) return Error(place, "pattern is not a string");
      OCTOGATE_ASSIGN_OR_RETURN(const std::string pattern,
                                StringPatternNotation(schema["pattern"].get<std::string>(), place));
      return absl::StrCat("\"\\\"\" ", pattern, " \"\\\"\"");
    }
    OCTOGATE_ASSIGN_OR_RETURN(const auto counts, Counts(schema, place, "minLength", "maxLength"));
    if (counts.first == 0 && counts.second < 0) return std::string("string");
    if (counts.second >= 0 && counts.second < counts.first) return AddNothing();
    return absl::StrCat("\"\\\"\" character{", counts.first, ",",
                        counts.second < 0 ? "" : absl::StrCat(counts.second), "} \"\\\"\"");
  }

  absl::StatusOr<std::string> Array(const Json& schema, const std::string& place, int nesting) {
    std::string item = "value";
    if (schema.contains("items")) {
      OCTOGATE_ASSIGN_OR_RETURN(
          item, Convert(schema["items"], absl::StrCat(place, "/items"), nesting + 1));
    }
    OCTOGATE_ASSIGN_OR_RETURN(const auto counts, Counts(schema, place, "minItems", "maxItems"));
    const auto [least, most] = counts;
    if (most >= 0 && most < least) return AddNothing();
    const std::string empty = least == 0 ? "\"[\" ws \"]\"" : "";
    if (most == 0) return empty;
    const std::string more =
        absl::StrCat("(\",\" ws ", item, " ws){", std::max<int64_t>(least - 1, 0), ",",
                     most < 0 ? "" : absl::StrCat(most - 1), "}");
    return absl::StrCat(empty, empty.empty() ? "" : " | ", "\"[\" ws ", item, " ws ", more,
                        " \"]\"");
  }

  absl::StatusOr<std::string> Object(const Json& schema, const std::string& place, int nesting) {
    const Json none = Json::object();
    const Json& properties = schema.contains("properties") ? schema["properties"] : none;
    if (!properties.is_object()) return Error(place, "properties is not an object");
    std::set<std::string> required;
    if (schema.contains("required")) {
      for (const Json& name : schema["required"]) {
        if (!name.is_string()) return Error(place, "required is not a list of names");
        if (!properties.contains(name.get<std::string>())) {
          return Unsupported(place,
                             absl::StrCat("the required property \"", name.get<std::string>(),
                                          "\" is not among the properties"));
        }
        required.insert(name.get<std::string>());
      }
    }
    // A property that is not named.
    std::string other;
    const Json additional = schema.value("additionalProperties", Json(true));
    if (additional != false) {
      OCTOGATE_ASSIGN_OR_RETURN(
          const std::string value,
          Convert(additional, absl::StrCat(place, "/additionalProperties"), nesting + 1));
      NameTree names;
      for (const auto& [name, unused] : properties.items()) {
        if (name.size() > kMaxNameBytes) {
          return Unsupported(place, absl::StrCat("additionalProperties beside a name of more than ",
                                                 kMaxNameBytes, " bytes is not supported"));
        }
        // Other names are written without escapes, so they cannot be one that needs them.
        if (std::any_of(name.begin(), name.end(), [](char c) {
              return static_cast<unsigned char>(c) < 0x20 || c == '"' || c == '\\';
            })) {
          continue;
        }
        NameTree* tree = &names;
        for (size_t at = 0; at < name.size();) {
          auto& next = tree->next[TakeCodePoint(name, &at)];
          if (next == nullptr) next = std::make_unique<NameTree>();
          tree = next.get();
        }
        tree->name = true;
      }
      const std::string key = AddRule(absl::StrCat("\"\\\"\" ", OtherNames(names), " \"\\\"\""));
      other = AddRule(absl::StrCat(key, " ws \":\" ws ", value, " ws"));
    }
    // Backwards: what may follow when the first i properties are over, where one was there (`more`)
    // or none (`first`).
    std::string more = other.empty() ? "\"\"" : AddRule(absl::StrCat("(\",\" ws ", other, ")*"));
    std::string first = other.empty() ? "\"\"" : AddRule(absl::StrCat("(", other, " ", more, ")?"));
    std::vector<std::pair<std::string, std::string>> members;  // name, expression
    for (const auto& [name, property] : properties.items()) {
      OCTOGATE_ASSIGN_OR_RETURN(
          const std::string value,
          Convert(property, absl::StrCat(place, "/properties/", name), nesting + 1));
      members.emplace_back(name,
                           absl::StrCat(Literal(Json(name).dump()), " ws \":\" ws ", value, " ws"));
    }
    for (size_t i = members.size(); i-- > 0;) {
      const auto& [name, member] = members[i];
      const bool optional = required.count(name) == 0;
      const std::string own = AddRule(member);
      std::string next_first = absl::StrCat(own, " ", more);
      std::string next_more = absl::StrCat("\",\" ws ", own, " ", more);
      if (optional) {
        absl::StrAppend(&next_first, " | ", first);
        absl::StrAppend(&next_more, " | ", more);
      }
      first = AddRule(next_first);
      more = AddRule(next_more);
    }
    return absl::StrCat("\"{\" ws ", first, " \"}\"");
  }

  const Json& document_;
  std::string rules_;
  size_t next_rule_ = 0;
  std::map<std::string, std::string> references_;  // rules by pointer
  struct Pending {
    std::string rule;
    std::string pointer;
    const Json* schema;
  };
  std::vector<Pending> pending_;
};

}  // namespace

absl::StatusOr<std::string> JsonSchemaNotation(std::string_view schema) {
  if (schema.size() > Grammar::kMaxTextBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the schema has ", schema.size(), " bytes; the limit is ", Grammar::kMaxTextBytes));
  }
  if (IsDeeperThan(schema, kMaxJsonNesting)) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the schema is nested deeper than ", kMaxJsonNesting));
  }
  try {
    const Json document = Json::parse(schema);
    return SchemaWriter(document).Write();
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat("the schema is no JSON: ", error.what()));
  }
}

absl::StatusOr<Grammar> JsonSchemaGrammar(std::string_view schema) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::string notation, JsonSchemaNotation(schema));
  return ParseGrammar(notation);
}

}  // namespace octogate::workers

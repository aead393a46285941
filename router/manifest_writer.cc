#include "router/manifest_writer.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "router/graph_manifest.h"
#include "router/graph_schema.h"
#include "router/yaml_tree.h"

namespace octogate::router {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Whether every YAML reader takes the plain text for that text.
bool IsSafePlain(std::string_view text) {
  if (text.empty() || text.back() == ' ' || text.size() > 200) return false;
  if (!absl::ascii_isalpha(text.front()) && text.front() != '/' && text.front() != '_') {
    return false;
  }
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(c) ||
           std::string_view(" _-./?!()+").find(c) != std::string_view::npos;
  });
  if (!plain) return false;
  // Words that YAML 1.1 readers take for something else.
  const std::string lower = absl::AsciiStrToLower(ToAbsl(text));
  for (const std::string_view word :
       {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}) {
    if (lower == word) return false;
  }
  return true;
}

std::string Scalar(std::string_view text) {
  if (IsSafePlain(text)) return std::string(text);
  std::string out = "\"";
  constexpr char kHex[] = "0123456789abcdef";
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    const std::string_view rest = text.substr(i);
    if (byte == '"' || byte == '\\') {
      out.append({'\\', text[i]});
    } else if (byte == '\n') {
      out.append("\\n");
    } else if (byte == '\t') {
      out.append("\\t");
    } else if (byte < 0x20 || byte == 0x7F) {
      out.append({'\\', 'x', kHex[byte >> 4], kHex[byte & 15]});
    } else if (byte == 0xC2 && i + 1 < text.size() && static_cast<uint8_t>(text[i + 1]) < 0xA0) {
      // C1 controls, next-line among them.
      const auto low = static_cast<uint8_t>(text[++i]);
      out.append({'\\', 'x', kHex[low >> 4], kHex[low & 15]});
    } else if (rest.substr(0, 3) == "\u2028" || rest.substr(0, 3) == "\u2029" ||
               rest.substr(0, 3) == "\uFEFF") {
      out.append(rest[0] == '\xEF' ? "\\ufeff" : rest[2] == '\xA8' ? "\\u2028" : "\\u2029");
      i += 2;
    } else {
      out.push_back(text[i]);
    }
  }
  out.push_back('"');
  return out;
}

std::string Number(double value) {
  char buffer[32];
  const auto end = std::to_chars(std::begin(buffer), std::end(buffer), value).ptr;
  return std::string(std::begin(buffer), end);
}

// As ValueToText, in quotes where YAML needs them.
std::string ScalarOf(const Message& message, const FieldDescriptor& field, int index) {
  const std::string text = ValueToText(message, field, index);
  return field.cpp_type() == FieldDescriptor::CPPTYPE_STRING ? Scalar(text) : text;
}

// Fields that are set, in the order of the contract.
std::vector<const FieldDescriptor*> FieldsOf(const Message& message) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  std::sort(fields.begin(), fields.end(),
            [](const auto* a, const auto* b) { return a->index() < b->index(); });
  return fields;
}

void WriteFields(const Message& message, int indent, bool in_list, std::string* out);

void WriteMap(const Message& message, const FieldDescriptor& field, int indent, std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<std::string> lines;
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    const Message& entry = reflection.GetRepeatedMessage(message, &field, i);
    const auto& type = *field.message_type();
    lines.push_back(absl::StrCat(std::string(indent, ' '), ScalarOf(entry, *type.map_key(), -1),
                                 ": ", ScalarOf(entry, *type.map_value(), -1), "\n"));
  }
  std::sort(lines.begin(), lines.end());
  for (const std::string& line : lines) out->append(line);
}

void WriteList(const Message& message, const FieldDescriptor& field, int indent, std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
    absl::StrAppend(out, std::string(indent, ' '), "- ");
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      WriteFields(reflection.GetRepeatedMessage(message, &field, i), indent + 2, true, out);
    } else {
      absl::StrAppend(out, ScalarOf(message, field, i), "\n");
    }
  }
}

// `in_list`: the first line has its indentation already.
void WriteFields(const Message& message, int indent, bool in_list, std::string* out) {
  const Reflection& reflection = *message.GetReflection();
  const std::vector<const FieldDescriptor*> fields = FieldsOf(message);
  if (fields.empty()) out->append("{}\n");
  for (const FieldDescriptor* field : fields) {
    if (!in_list || field != fields.front()) out->append(indent, ' ');
    absl::StrAppend(out, field->json_name(), ":");
    if (field->is_map()) {
      out->push_back('\n');
      WriteMap(message, *field, indent + 2, out);
    } else if (field->is_repeated()) {
      out->push_back('\n');
      WriteList(message, *field, indent + 2, out);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      const Message& child = reflection.GetMessage(message, field);
      out->push_back(FieldsOf(child).empty() ? ' ' : '\n');
      WriteFields(child, indent + 2, false, out);
    } else {
      absl::StrAppend(out, " ", ScalarOf(message, *field, -1), "\n");
    }
  }
}

}  // namespace

std::string ValueToText(const Message& message, const FieldDescriptor& field, int index) {
  const Reflection& reflection = *message.GetReflection();
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return index >= 0 ? reflection.GetRepeatedString(message, &field, index)
                        : reflection.GetString(message, &field);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumSpelling(*reflection.GetEnum(message, &field));
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.GetBool(message, &field) ? "true" : "false";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return Number(reflection.GetDouble(message, &field));
    case FieldDescriptor::CPPTYPE_INT32:
      return absl::StrCat(reflection.GetInt32(message, &field));
    case FieldDescriptor::CPPTYPE_INT64:
      return absl::StrCat(reflection.GetInt64(message, &field));
    default:
      return absl::StrCat(reflection.GetUInt64(message, &field));
  }
}

std::string MessageToYaml(const Message& message) {
  std::string out;
  WriteFields(message, 0, false, &out);
  return out;
}

std::string GraphToYaml(const v1::Graph& graph) {
  std::string out = "apiVersion: octogate/v1\nkind: Graph\n";
  WriteFields(graph, 0, false, &out);
  return out;
}

}  // namespace octogate::router

#include "tests/proto/proto_lint.h"

#include <google/protobuf/descriptor.pb.h>

#include <algorithm>
#include <cctype>
#include <string_view>

namespace octogate {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsLower(char c) { return c >= 'a' && c <= 'z'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsPascalCase(std::string_view name) {
  return !name.empty() && IsUpper(name[0]) && std::all_of(name.begin(), name.end(), [](char c) {
    return IsUpper(c) || IsLower(c) || IsDigit(c);
  });
}

// Words of letters and digits between single underscores, the first one beginning with a letter.
bool IsSnakeCase(std::string_view name, bool (*is_letter)(char)) {
  if (name.empty() || !is_letter(name[0]) || name.back() == '_') return false;
  if (name.find("__") != std::string_view::npos) return false;
  return std::all_of(name.begin(), name.end(),
                     [&](char c) { return is_letter(c) || IsDigit(c) || c == '_'; });
}
bool IsLowerSnakeCase(std::string_view name) { return IsSnakeCase(name, IsLower); }
bool IsUpperSnakeCase(std::string_view name) { return IsSnakeCase(name, IsUpper); }

// Whether the last part of a package is a version: "v1", "v2beta3".
bool EndsWithVersion(std::string_view package) {
  const size_t dot = package.rfind('.');
  if (dot == std::string_view::npos) return false;
  std::string_view version = package.substr(dot + 1);
  const auto take_digits = [&version] {
    const size_t before = version.size();
    while (!version.empty() && IsDigit(version[0])) version.remove_prefix(1);
    return version.size() < before;
  };
  if (version.empty() || version[0] != 'v') return false;
  version.remove_prefix(1);
  if (!take_digits()) return false;
  for (const std::string_view stage : {"alpha", "beta"}) {
    if (version.substr(0, stage.size()) != stage) continue;
    version.remove_prefix(stage.size());
    return take_digits() && version.empty();
  }
  return version.empty();
}

// "FinishReason" -> "FINISH_REASON".
std::string UpperSnakeCase(const std::string& pascal) {
  std::string result;
  for (size_t i = 0; i < pascal.size(); ++i) {
    if (i > 0 && IsUpper(pascal[i]) && !IsUpper(pascal[i - 1])) result += '_';
    result += static_cast<char>(std::toupper(static_cast<unsigned char>(pascal[i])));
  }
  return result;
}

class Linter {
 public:
  void File(const FileDescriptor& file) {
    CheckPlace(file);
    for (int i = 0; i < file.message_type_count(); ++i) Message(*file.message_type(i));
    for (int i = 0; i < file.enum_type_count(); ++i) Enum(*file.enum_type(i));
    for (int i = 0; i < file.service_count(); ++i) Service(*file.service(i));
  }

  std::vector<std::string> TakeFindings() { return std::move(findings_); }

 private:
  void Expect(bool holds, const std::string& where, const std::string& problem) {
    if (!holds) findings_.push_back(where + ": " + problem);
  }

  // Of whatever has a source location.
  template <typename T>
  void Comment(const T& element, const std::string& name) {
    google::protobuf::SourceLocation location;
    const bool found = element.GetSourceLocation(&location);
    const std::string& text = location.leading_comments;
    Expect(found && std::any_of(text.begin(), text.end(),
                                [](unsigned char c) { return std::isalnum(c) != 0; }),
           name, "has no comment");
  }

  void CheckPlace(const FileDescriptor& file) {
    const std::string& path = file.name();
    const size_t slash = path.rfind('/');
    std::string folder = slash == std::string::npos ? "" : path.substr(0, slash);
    std::replace(folder.begin(), folder.end(), '/', '.');
    Expect(file.package() == folder, path,
           "is of package '" + file.package() + "'; its folder says '" + folder + "'");
    Expect(EndsWithVersion(file.package()), path,
           "the package does not end with a version, as '.v1'");
    Expect(IsLowerSnakeCase(path.substr(slash + 1, path.size() - slash - 1 - 6)), path,
           "the file's name is not lower_snake_case.proto");
    Expect(file.syntax() == FileDescriptor::SYNTAX_PROTO3, path, "is not proto3");
    Expect(file.public_dependency_count() == 0, path, "has a public import");
    Expect(file.weak_dependency_count() == 0, path, "has a weak import");
  }

  void Message(const Descriptor& message) {
    if (message.options().map_entry()) return;
    Expect(IsPascalCase(message.name()), message.full_name(), "is not PascalCase");
    Comment(message, message.full_name());
    for (int i = 0; i < message.field_count(); ++i) {
      const FieldDescriptor& field = *message.field(i);
      Expect(IsLowerSnakeCase(field.name()), field.full_name(), "is not lower_snake_case");
      Comment(field, field.full_name());
    }
    for (int i = 0; i < message.real_oneof_decl_count(); ++i) {
      const auto& oneof = *message.oneof_decl(i);
      Expect(IsLowerSnakeCase(oneof.name()), oneof.full_name(), "is not lower_snake_case");
      Comment(oneof, oneof.full_name());
    }
    for (int i = 0; i < message.nested_type_count(); ++i) Message(*message.nested_type(i));
    for (int i = 0; i < message.enum_type_count(); ++i) Enum(*message.enum_type(i));
  }

  void Enum(const EnumDescriptor& type) {
    Expect(IsPascalCase(type.name()), type.full_name(), "is not PascalCase");
    Expect(!type.options().allow_alias(), type.full_name(), "allows aliases");
    Comment(type, type.full_name());
    const std::string prefix = UpperSnakeCase(type.name()) + "_";
    for (int i = 0; i < type.value_count(); ++i) {
      const auto& value = *type.value(i);
      Expect(IsUpperSnakeCase(value.name()), value.full_name(), "is not UPPER_SNAKE_CASE");
      Expect(value.name().rfind(prefix, 0) == 0, value.full_name(),
             "does not begin with " + prefix);
      Comment(value, value.full_name());
    }
    const auto* zero = type.FindValueByNumber(0);
    Expect(zero != nullptr && zero->name() == prefix + "UNSPECIFIED", type.full_name(),
           "the value 0 is not " + prefix + "UNSPECIFIED");
  }

  void Service(const ServiceDescriptor& service) {
    Expect(IsPascalCase(service.name()), service.full_name(), "is not PascalCase");
    Comment(service, service.full_name());
    for (int i = 0; i < service.method_count(); ++i) {
      const MethodDescriptor& method = *service.method(i);
      Expect(IsPascalCase(method.name()), method.full_name(), "is not PascalCase");
      Comment(method, method.full_name());
      PairedType(method, *method.input_type(), "Request");
      PairedType(method, *method.output_type(), "Response");
    }
  }

  // A type belongs to one method, whose name it has, with or without the service's before it: so
  // each can grow without the others.
  void PairedType(const MethodDescriptor& method, const Descriptor& type, const std::string& kind) {
    const std::string name = method.name() + kind;
    Expect(type.name() == name || type.name() == method.service()->name() + name,
           method.full_name(), "has the type " + type.name() + "; it must be " + name);
    Expect(std::find(paired_.begin(), paired_.end(), &type) == paired_.end(), method.full_name(),
           "shares " + type.name() + " with another method");
    paired_.push_back(&type);
  }

  std::vector<std::string> findings_;
  std::vector<const Descriptor*> paired_;
};

}  // namespace

std::vector<std::string> LintProto(const FileDescriptor& file) {
  Linter linter;
  linter.File(file);
  return linter.TakeFindings();
}

}  // namespace octogate

#include "retrieval/schema/json_input.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "retrieval/schema/schema.h"

namespace octogate::schema {
namespace {

constexpr int kMaxDepth = 64;

std::string At(std::string_view source, std::string_view text, size_t offset) {
  offset = std::min(offset, text.size());
  const std::string_view before = text.substr(0, offset);
  const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
  const size_t start = before.rfind('\n');
  const size_t column = start == std::string_view::npos ? offset + 1 : offset - start;
  return absl::StrCat(ToAbsl(source), ":", line, ":", column);
}

// Brackets outside of strings; what else is wrong the parser finds.
size_t FindTooDeep(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      quoted = c != '"';
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return i;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return std::string_view::npos;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view source) {
  if (text.size() > kMaxJsonBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(ToAbsl(source), ": has ", text.size(),
                                                     " bytes of JSON; at most ", kMaxJsonBytes,
                                                     " are read; split it into several schemas"));
  }
  if (const size_t bad = FindInvalidUtf8(text); bad != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat(At(source, text, bad), ": is not valid UTF-8"));
  }
  if (const size_t deep = FindTooDeep(text); deep != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(At(source, text, deep), ": nests deeper than ", kMaxDepth, " levels"));
  }
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    const size_t offset = error.byte > 0 ? error.byte - 1 : 0;
    const std::string what = error.what();
    const size_t colon = what.find(": ");
    return absl::InvalidArgumentError(absl::StrCat(
        At(source, text, offset),
        ": is not JSON: ", colon == std::string::npos ? what : what.substr(colon + 2)));
  } catch (const nlohmann::json::exception& error) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(source), ": ", error.what()));
  }
}

bool JsonPlace::Has(const char* key) const {
  if (!value_->is_object()) return false;
  const auto member = value_->find(key);
  return member != value_->end() && !member->is_null();
}

JsonPlace JsonPlace::Member(const char* key) const {
  return {*value_->find(key), absl::StrCat(path_, ".", key)};
}

JsonPlace JsonPlace::Item(size_t index) const {
  return {(*value_)[index], absl::StrCat(path_, "[", index, "]")};
}

absl::Status JsonPlace::Error(std::string_view message) const {
  return absl::InvalidArgumentError(absl::StrCat(path_, ": ", ToAbsl(message)));
}

absl::Status JsonPlace::ExpectObject() const {
  return value_->is_object() ? absl::OkStatus() : Error("is not an object");
}

absl::Status JsonPlace::ExpectArray() const {
  return value_->is_array() ? absl::OkStatus() : Error("is not an array");
}

absl::Status JsonPlace::ExpectOnly(std::initializer_list<std::string_view> keys) const {
  OCTOGATE_RETURN_IF_ERROR(ExpectObject());
  for (const auto& [key, value] : value_->items()) {
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    std::string known;
    for (const std::string_view name : keys) {
      absl::StrAppend(&known, known.empty() ? "" : ", ", ToAbsl(name));
    }
    return Error(absl::StrCat("the key ", Quoted(key), " is not known; there are: ", known));
  }
  return absl::OkStatus();
}

absl::StatusOr<JsonPlace> JsonPlace::Array(const char* key) const {
  if (!Has(key)) return Error(absl::StrCat("has no array \"", key, "\""));
  const JsonPlace member = Member(key);
  OCTOGATE_RETURN_IF_ERROR(member.ExpectArray());
  return member;
}

absl::StatusOr<std::string> JsonPlace::AsText() const {
  if (!value_->is_string()) return Error("is not a text");
  return value_->get_ref<const std::string&>();
}

absl::StatusOr<int64_t> JsonPlace::AsInteger() const {
  if (!value_->is_number_integer()) return Error("is not an integer");
  if (value_->is_number_unsigned() && value_->get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return Error("is too large");
  }
  return value_->get<int64_t>();
}

absl::StatusOr<std::string> JsonPlace::Text(const char* key) const {
  if (!Has(key)) return std::string();
  return Member(key).AsText();
}

absl::StatusOr<bool> JsonPlace::Flag(const char* key) const {
  if (!Has(key)) return false;
  const JsonPlace member = Member(key);
  if (!member.value().is_boolean()) return member.Error("is neither true nor false");
  return member.value().get<bool>();
}

absl::StatusOr<std::optional<int64_t>> JsonPlace::Integer(const char* key) const {
  if (!Has(key)) return std::optional<int64_t>();
  OCTOGATE_ASSIGN_OR_RETURN(const int64_t number, Member(key).AsInteger());
  return std::optional<int64_t>(number);
}

std::optional<std::string> CellText(const nlohmann::json& value) {
  if (value.is_string()) return value.get_ref<const std::string&>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  return std::nullopt;
}

}  // namespace octogate::schema

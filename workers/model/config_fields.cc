#include "workers/model/config_fields.h"

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "workers/model/json_file.h"

namespace octogate::workers {

using nlohmann::json;

std::string JsonExcerpt(const json& value) {
  constexpr size_t kMaxChars = 60;
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > kMaxChars) text = text.substr(0, kMaxChars) + "...";
  return text;
}

absl::StatusOr<json> ParseJsonObject(std::string_view text, const std::string& source_name) {
  absl::StatusOr<json> parsed = ParseJson(text, source_name);
  if (parsed.ok() && !parsed->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(source_name, ": expected a JSON object"));
  }
  return parsed;
}

const json* ConfigFields::Find(const char* key) const {
  const auto it = object_.find(key);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void ConfigFields::Fail(absl::StatusCode code, const std::string& message) {
  if (status_.ok()) status_ = absl::Status(code, absl::StrCat(prefix_, message));
}

int ConfigFields::Int(const char* key, int min, int max, std::optional<int> fallback) {
  const json* value = Find(key);
  if (value == nullptr) {
    if (fallback) return *fallback;
    FailInvalid(absl::StrCat("\"", key, "\" is missing"));
    return min;
  }
  if (!value->is_number_integer() ||
      (value->is_number_unsigned() &&
       value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int>::max())) ||
      value->get<int64_t>() < min || value->get<int64_t>() > max) {
    FailInvalid(absl::StrCat("\"", key, "\" is ", JsonExcerpt(*value),
                             "; expected an integer from ", min, " to ", max));
    return min;
  }
  return value->get<int>();
}

float ConfigFields::Float(const char* key, double min, double max, std::optional<float> fallback) {
  const json* value = Find(key);
  if (value == nullptr) {
    if (fallback) return *fallback;
    FailInvalid(absl::StrCat("\"", key, "\" is missing"));
    return static_cast<float>(min);
  }
  if (!value->is_number() || !(value->get<double>() >= min && value->get<double>() <= max)) {
    FailInvalid(absl::StrCat("\"", key, "\" is ", JsonExcerpt(*value), "; expected a number from ",
                             min, " to ", max));
    return static_cast<float>(min);
  }
  return static_cast<float>(value->get<double>());
}

bool ConfigFields::Bool(const char* key, bool fallback) {
  const json* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    FailInvalid(absl::StrCat("\"", key, "\" is ", JsonExcerpt(*value), "; expected true or false"));
    return fallback;
  }
  return value->get<bool>();
}

std::optional<std::string> ConfigFields::String(const char* key) {
  const json* value = Find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    FailInvalid(absl::StrCat("\"", key, "\" is ", JsonExcerpt(*value), "; expected a string"));
    return std::nullopt;
  }
  return value->get<std::string>();
}

std::vector<float> ConfigFields::FloatList(const char* key, size_t size, double min, double max) {
  std::vector<float> list;
  const json* value = Find(key);
  if (value == nullptr || !value->is_array() || value->size() != size) {
    FailInvalid(absl::StrCat("\"", key, "\" must be a list of ", size,
                             " numbers (half the rotated dimensions), but ",
                             value == nullptr     ? "is missing"
                             : !value->is_array() ? "is no list"
                                                  : absl::StrCat("has ", value->size())));
    return list;
  }
  for (const json& item : *value) {
    if (!item.is_number() || !(item.get<double>() >= min && item.get<double>() <= max)) {
      FailInvalid(absl::StrCat("\"", key, "\"[", list.size(), "] is ", JsonExcerpt(item),
                               "; expected a number from ", min, " to ", max));
      return list;
    }
    list.push_back(static_cast<float>(item.get<double>()));
  }
  return list;
}

}  // namespace octogate::workers

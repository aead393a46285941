// JSON from files that nobody vouches for, read by key with errors that name the place. For the
// readers of this folder alone: it brings nlohmann::json with it.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_JSON_INPUT_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_JSON_INPUT_H_

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace octogate::schema {

// INVALID_ARGUMENT with `source`, line and column for what is not JSON, is not UTF-8 or nests
// deeper than 64 levels; RESOURCE_EXHAUSTED past kMaxJsonBytes.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view source);

// A value and where it stands, for messages: "tables.json: [3].column_names[0]".
class JsonPlace {
 public:
  JsonPlace(const nlohmann::json& value, std::string path) : value_(&value), path_(path) {}

  const nlohmann::json& value() const { return *value_; }
  const std::string& path() const { return path_; }
  size_t size() const { return value_->size(); }

  // Whether there is a member of that name that is not null.
  bool Has(const char* key) const;
  absl::StatusOr<JsonPlace> Array(const char* key) const;  // INVALID_ARGUMENT where it is none
  JsonPlace Item(size_t index) const;                      // of an array
  JsonPlace Member(const char* key) const;                 // that Has
  // The member, or an empty text where there is none or it is null.
  absl::StatusOr<std::string> Text(const char* key) const;
  absl::StatusOr<bool> Flag(const char* key) const;
  absl::StatusOr<std::optional<int64_t>> Integer(const char* key) const;

  absl::StatusOr<std::string> AsText() const;
  absl::StatusOr<int64_t> AsInteger() const;
  absl::Status ExpectObject() const;
  absl::Status ExpectArray() const;
  // INVALID_ARGUMENT for a member that is none of these.
  absl::Status ExpectOnly(std::initializer_list<std::string_view> keys) const;
  absl::Status Error(std::string_view message) const;

 private:
  const nlohmann::json* value_;
  std::string path_;
};

// A cell of a database as text: texts as they are, numbers and truth values as JSON writes them;
// none for null, arrays and objects.
std::optional<std::string> CellText(const nlohmann::json& value);

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_JSON_INPUT_H_

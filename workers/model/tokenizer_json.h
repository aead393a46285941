// Reading a JSON file from outside: every error names the file and the JSON path.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_JSON_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace octogate::workers {

// Parses `text`. INVALID_ARGUMENT, naming `source`, for text that is not JSON or not UTF-8, that
// nests deeper than 64 or holds more than 4 Mi values (which bounds memory to some 100 bytes each).
absl::StatusOr<nlohmann::json> ParseTokenizerJson(std::string_view text, std::string_view source);

// `text` made fit for an error message: escaped, and cut when long.
std::string Quoted(std::string_view text);

// A value and where it stands. Cheap to copy; the JSON document and the source name must outlive
// it. A member that is null counts as absent, as in the reference library.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string_view source)
      : value_(&value), source_(source) {}

  const nlohmann::json& value() const { return *value_; }
  bool is_object() const { return value_->is_object(); }
  bool is_array() const { return value_->is_array(); }
  bool is_string() const { return value_->is_string(); }

  // INVALID_ARGUMENT: "SOURCE: PATH: MESSAGE".
  absl::Status Error(std::string_view message) const;
  absl::Status Unimplemented(std::string_view message) const;

  // Members of an object (an error if this is none).
  absl::StatusOr<std::optional<JsonNode>> Find(std::string_view key) const;
  absl::StatusOr<JsonNode> Get(std::string_view key) const;
  // Elements of an array that the caller has checked.
  JsonNode At(size_t index) const;
  absl::Status CheckArray(size_t max_size) const;

  // This value as …
  absl::StatusOr<std::string> String() const;
  absl::StatusOr<int64_t> Integer(int64_t min, int64_t max) const;
  // One code point.
  absl::StatusOr<char32_t> Character() const;

  // Members as …, with a default for absent ones.
  absl::StatusOr<std::string> GetString(std::string_view key) const;
  absl::StatusOr<std::string> GetString(std::string_view key, std::string_view fallback) const;
  absl::StatusOr<bool> GetBool(std::string_view key) const;
  absl::StatusOr<bool> GetBool(std::string_view key, bool fallback) const;
  absl::StatusOr<int64_t> GetInteger(std::string_view key, int64_t min, int64_t max) const;

 private:
  JsonNode(const nlohmann::json& value, std::string_view source, std::string path)
      : value_(&value), source_(source), path_(std::move(path)) {}
  absl::StatusOr<bool> Bool() const;

  const nlohmann::json* value_;
  std::string_view source_;
  std::string path_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_JSON_H_

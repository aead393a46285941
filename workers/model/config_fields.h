// Reading the values of a checkpoint's JSON files with types, bounds and defaults.
#ifndef OCTOGATE_WORKERS_MODEL_CONFIG_FIELDS_H_
#define OCTOGATE_WORKERS_MODEL_CONFIG_FIELDS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace octogate::workers {

// A printable excerpt of a value for an error message.
std::string JsonExcerpt(const nlohmann::json& value);

// INVALID_ARGUMENT for what is not a JSON object; otherwise as ParseJson.
absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view text,
                                               const std::string& source_name);

// Typed access to a JSON object's keys. The first error sticks, and every
// later access returns its default, so that a parse reads straight through and
// asks for the status at the end. A key whose value is null counts as absent; so
// does one that is missing, for which a value without a fallback is an error.
class ConfigFields {
 public:
  // `object` and `status` must outlive the fields; `prefix` opens each message.
  ConfigFields(const nlohmann::json& object, std::string prefix, absl::Status& status)
      : object_(object), prefix_(std::move(prefix)), status_(status) {}

  const nlohmann::json* Find(const char* key) const;
  // Present, even if null.
  bool Mentions(const char* key) const { return object_.contains(key); }

  void Fail(absl::StatusCode code, const std::string& message);
  void FailInvalid(const std::string& message) {
    Fail(absl::StatusCode::kInvalidArgument, message);
  }

  int Int(const char* key, int min, int max, std::optional<int> fallback = std::nullopt);
  float Float(const char* key, double min, double max,
              std::optional<float> fallback = std::nullopt);
  bool Bool(const char* key, bool fallback);
  std::optional<std::string> String(const char* key);
  std::vector<float> FloatList(const char* key, size_t size, double min, double max);

 private:
  const nlohmann::json& object_;
  std::string prefix_;
  absl::Status& status_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_CONFIG_FIELDS_H_

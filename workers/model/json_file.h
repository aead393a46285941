// Bounded reading of the small text and JSON files of a checkpoint folder.
#ifndef OCTOGATE_WORKERS_MODEL_JSON_FILE_H_
#define OCTOGATE_WORKERS_MODEL_JSON_FILE_H_

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace octogate::workers {

inline constexpr size_t kMaxJsonDepth = 64;

// The whole file. NOT_FOUND when it does not exist, FAILED_PRECONDITION when it
// is not a regular file, RESOURCE_EXHAUSTED above `max_bytes`, INTERNAL when
// reading fails; each names the path.
absl::StatusOr<std::string> ReadSmallFile(const std::filesystem::path& path, size_t max_bytes);

// INVALID_ARGUMENT with line and column for text that is not JSON (UTF-8
// included), RESOURCE_EXHAUSTED when nested deeper than kMaxJsonDepth.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view source_name);

// A name from a file, shortened, escaped and in quotes, for an error message.
std::string QuotedForError(std::string_view name);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_JSON_FILE_H_

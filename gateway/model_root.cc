#include "gateway/model_root.h"

#include <algorithm>
#include <string>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// Of what may not be there.
absl::StatusOr<std::filesystem::path> PlaceBelow(const std::filesystem::path& root,
                                                 std::string_view path) {
  const std::filesystem::path relative(path);
  if (path.empty() || path.find('\0') != std::string_view::npos || relative.is_absolute()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(path), " must be a path below the gateway's --model-root"));
  }
  std::error_code error;
  const std::filesystem::path base = std::filesystem::canonical(root, error);
  if (error) return absl::NotFoundError("there is no folder --model-root");
  std::filesystem::path place = std::filesystem::weakly_canonical(base / relative, error);
  const auto [end, rest] = std::mismatch(base.begin(), base.end(), place.begin(), place.end());
  if (error || end != base.end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(Quoted(path), " leads out of the gateway's --model-root"));
  }
  return place;
}

}  // namespace

absl::StatusOr<std::filesystem::path> ResolveBelow(const std::filesystem::path& root,
                                                   std::string_view path) {
  OCTOGATE_ASSIGN_OR_RETURN(std::filesystem::path file, PlaceBelow(root, path));
  std::error_code error;
  if (std::filesystem::is_regular_file(file, error)) return file;
  return absl::NotFoundError(
      absl::StrCat("there is no file ", Quoted(path), " below the gateway's --model-root"));
}

absl::StatusOr<std::filesystem::path> ResolveFolderBelow(const std::filesystem::path& root,
                                                         std::string_view path) {
  OCTOGATE_ASSIGN_OR_RETURN(std::filesystem::path folder, PlaceBelow(root, path));
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return folder;
  return absl::NotFoundError(
      absl::StrCat("there is no folder ", Quoted(path), " below the gateway's --model-root"));
}

}  // namespace octogate::gateway

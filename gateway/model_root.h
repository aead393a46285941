// Paths that graphs name: all of them lie below one folder, the gateway's --model-root.
#ifndef OCTOGATE_GATEWAY_MODEL_ROOT_H_
#define OCTOGATE_GATEWAY_MODEL_ROOT_H_

#include <filesystem>
#include <string_view>

#include "absl/status/statusor.h"

namespace octogate::gateway {

// Where the file `path` lies below `root`. INVALID_ARGUMENT for a path that is absolute or leads
// out of the root, through a symbolic link too; NOT_FOUND where there is no such file.
absl::StatusOr<std::filesystem::path> ResolveBelow(const std::filesystem::path& root,
                                                   std::string_view path);

// The same for a folder. What is in it may still be links that lead out of the root.
absl::StatusOr<std::filesystem::path> ResolveFolderBelow(const std::filesystem::path& root,
                                                         std::string_view path);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_MODEL_ROOT_H_

#include "gateway/replay/recording_set.h"

#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "gateway/model_root.h"

namespace octogate::gateway {
namespace {

constexpr uintmax_t kMaxBytes = uintmax_t{1} << 30;

absl::StatusOr<LoadedRecording> Load(const std::string& path, const std::filesystem::path& root,
                                     const RecordingSet* previous, absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::filesystem::path file, ResolveBelow(root, path));
  LoadedRecording loaded;
  std::error_code error;
  loaded.written = std::filesystem::last_write_time(file, error);
  if (!error) loaded.bytes = std::filesystem::file_size(file, error);
  if (error) return absl::NotFoundError(absl::StrCat("cannot read '", path, "'"));
  if (previous != nullptr) {
    const auto known = previous->find(path);
    if (known != previous->end() && known->second.written == loaded.written &&
        known->second.bytes == loaded.bytes) {
      return known->second;
    }
  }
  OCTOGATE_ASSIGN_OR_RETURN(loaded.recording, Recording::Read(file, path, deadline));
  return loaded;
}

}  // namespace

absl::StatusOr<RecordingSet> ReadRecordings(const v1::Graph& graph,
                                            const std::filesystem::path& root,
                                            const RecordingSet* previous, absl::Time deadline) {
  RecordingSet recordings;
  uintmax_t bytes = 0;
  for (const v1::Node& node : graph.spec().nodes()) {
    if (!node.has_replay() || recordings.count(node.replay().recording()) > 0) continue;
    absl::StatusOr<LoadedRecording> loaded =
        Load(node.replay().recording(), root, previous, deadline);
    if (!loaded.ok()) {
      return Annotate(loaded.status(), absl::StrCat("node \"", node.name(), "\""));
    }
    bytes += loaded->bytes;
    if (bytes > kMaxBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the graph's recordings have more than ", kMaxBytes, " bytes together"));
    }
    recordings.emplace(node.replay().recording(), *std::move(loaded));
  }
  return recordings;
}

}  // namespace octogate::gateway

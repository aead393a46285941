// The recordings of a graph, by the paths that its nodes give.
#ifndef OCTOGATE_GATEWAY_REPLAY_RECORDING_SET_H_
#define OCTOGATE_GATEWAY_REPLAY_RECORDING_SET_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/replay/recording.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

struct LoadedRecording {
  std::shared_ptr<const Recording> recording;
  // Of the file when it was read.
  std::filesystem::file_time_type written;
  uintmax_t bytes = 0;
};

using RecordingSet = std::map<std::string, LoadedRecording>;

// Reads what the graph's replay nodes name, each file once, and takes from `previous` (may be null)
// what has not been written since. Together they have at most 1 GiB. The errors are those of
// ResolveBelow and Recording::Read, with the node's name before them.
absl::StatusOr<RecordingSet> ReadRecordings(const v1::Graph& graph,
                                            const std::filesystem::path& root,
                                            const RecordingSet* previous, absl::Time deadline);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_REPLAY_RECORDING_SET_H_

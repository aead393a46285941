// Keeps what drafters have learned in a folder, so that a restart does not begin with nothing.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFT_FOLDER_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFT_FOLDER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "workers/speculation/draft_keeper.h"

namespace octogate::workers {

struct DraftFolderOptions {
  // A scope's file is written no more often than this, and at the end: what was learned since is
  // lost where the process or the machine dies.
  absl::Duration interval = absl::Seconds(30);
  // Of a file that Load reads; larger ones are read by the first Sync.
  uintmax_t max_loaded_bytes = uintmax_t{256} << 10;
  // In the folder. Where there are as many, a new one takes the place of the one that was written
  // longest ago.
  size_t max_files = 1024;
  // How long Sync waits for another process that reads and writes in the folder.
  absl::Duration lock_wait = absl::Seconds(1);
};

// One file for each model, drafter and scope, which only its owner may read, since it tells what
// was asked and answered. Files are replaced whole, after what other processes have written in the
// meantime was merged; while one does so, it holds a lock (flock) of the folder. Who does not get
// it in time tries again at the next Sync, and at the last one writes without. A file that is
// damaged, or of a drafter with other options, is as if there were none, and is written anew. What
// else is in the folder is left alone.
//
// PERMISSION_DENIED or INVALID_ARGUMENT where the folder cannot be made.
absl::StatusOr<std::shared_ptr<DraftPlace>> OpenDraftFolder(const std::filesystem::path& folder,
                                                            DraftFolderOptions options = {});

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFT_FOLDER_H_

// Keeps what Token Recycling has learned in a folder, so that a restart does not begin with
// nothing.
#ifndef OCTOGATE_WORKERS_SPECULATION_RECYCLING_STATE_H_
#define OCTOGATE_WORKERS_SPECULATION_RECYCLING_STATE_H_

#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "workers/speculation/drafter.h"
#include "workers/speculation/recycling.h"

namespace octogate::workers {

// `drafter`, of which the table of a scope is read when its first sequence begins, and written when
// the drafter is destroyed, unless the drafter has dropped it by then
// (RecyclingOptions::max_scopes): one file for each scope, which only its owner may read, since it
// tells what was asked and answered. Reading a file takes some milliseconds of Begin. `model` names
// the weights and the tokenizer; files of other ones are not touched. A file that is damaged, or of
// another table, is as if there were none, and is written anew.
//
// PERMISSION_DENIED or INVALID_ARGUMENT where the folder cannot be made.
absl::StatusOr<std::unique_ptr<Drafter>> KeepRecyclingTables(
    std::unique_ptr<RecyclingDrafter> drafter, const std::filesystem::path& folder,
    const std::string& model);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_RECYCLING_STATE_H_

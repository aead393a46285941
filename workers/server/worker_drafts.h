// What drafters of a model learn, shared with its other replicas as flags say.
#ifndef OCTOGATE_WORKERS_SERVER_WORKER_DRAFTS_H_
#define OCTOGATE_WORKERS_SERVER_WORKER_DRAFTS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "workers/server/worker_store.h"
#include "workers/speculation/draft_keeper.h"

namespace octogate::workers {

// For one model. Null where there is no store. Errors as WorkerStoreOptions and WorkerStoreSecret;
// that the store cannot be reached is none.
absl::StatusOr<std::shared_ptr<DraftPlace>> OpenWorkerDrafts(const WorkerStoreFlags& flags);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_WORKER_DRAFTS_H_

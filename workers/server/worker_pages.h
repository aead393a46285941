// Pages of keys and values of a process's models, shared with other processes as its flags say.
#ifndef OCTOGATE_WORKERS_SERVER_WORKER_PAGES_H_
#define OCTOGATE_WORKERS_SERVER_WORKER_PAGES_H_

#include "absl/status/statusor.h"
#include "workers/engine/page_store.h"
#include "workers/server/worker_store.h"

namespace octogate::workers {

// For any number of models, which have the connections in common. Empty where there is no store.
// Says in the log where a model's pages are too large to be shared. Errors as WorkerStoreOptions
// and WorkerStoreSecret; that the store cannot be reached is none.
absl::StatusOr<MakePageStore> OpenWorkerPages(const WorkerStoreFlags& flags);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_WORKER_PAGES_H_

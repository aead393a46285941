// The store that replicas of a model share, as flags of their processes describe it.
#ifndef OCTOGATE_WORKERS_SERVER_WORKER_STORE_H_
#define OCTOGATE_WORKERS_SERVER_WORKER_STORE_H_

#include <CLI/CLI.hpp>
#include <string>

#include "absl/status/statusor.h"
#include "common/redis/redis_client.h"

namespace octogate::workers {

struct WorkerStoreFlags {
  std::string url;          // empty: nothing is shared
  std::string secret_file;  // empty: whoever can write to the store is trusted
  // What errors call the first; the second's name is this and "-secret-file".
  std::string flag = "--store";
};

// octogate-worker's.
void DefineWorkerStoreFlags(CLI::App& app, WorkerStoreFlags& flags);

// How to reach the store; the password is in the environment's OCTOGATE_REDIS_PASSWORD, as for the
// gateway. Each kind of data has a client of its own, so that small values do not wait behind
// large ones. INVALID_ARGUMENT for a wrong address, or without one.
absl::StatusOr<RedisOptions> WorkerStoreOptions(const WorkerStoreFlags& flags);

// What the workers of a store know in common and others do not: the bytes of the secret's file,
// without line ends at its end; empty where no file is given. INVALID_ARGUMENT for a file that
// cannot be read, or has less than 16 or more than 4,096 bytes.
absl::StatusOr<std::string> WorkerStoreSecret(const WorkerStoreFlags& flags);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_WORKER_STORE_H_

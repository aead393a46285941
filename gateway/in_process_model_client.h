// A replica in this process: a model that the gateway's own worker has loaded.
#ifndef OCTOGATE_GATEWAY_IN_PROCESS_MODEL_CLIENT_H_
#define OCTOGATE_GATEWAY_IN_PROCESS_MODEL_CLIENT_H_

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "gateway/model_client.h"
#include "octogate/v1/graph.pb.h"
#include "workers/engine/model_runner.h"
#include "workers/server/blocking_pool.h"
#include "workers/server/served_model.h"
#include "workers/speculation/draft_keeper.h"

namespace octogate::gateway {

struct InProcessWorkerOptions {
  // Where relative paths of models start.
  std::filesystem::path model_root = ".";
  // For all models together, those that are still needed by an earlier version of the graph
  // included. 0: what the machine has.
  uint64_t memory_limit_bytes = 0;
  // Of models for which the graph says nothing else. Where threads are pinned, models take CPUs
  // in turn, from first_cpu on.
  workers::LoadOptions load;
  // Opens, for each model that speculates, where its replicas tell each other what their drafters
  // have learned; null as empty: nowhere.
  std::function<absl::StatusOr<std::shared_ptr<workers::DraftPlace>>()> open_drafts;
};

// Loads models and unloads each when its last client and call have gone, on a thread of its own:
// whoever lets go of a model does not wait for its engine to stop.
//
// Thread safety: all methods may be called from any thread.
class InProcessWorker {
 public:
  explicit InProcessWorker(const InProcessWorkerOptions& options);
  // Every client must have gone; waits for calls under way.
  ~InProcessWorker();
  InProcessWorker(const InProcessWorker&) = delete;
  InProcessWorker& operator=(const InProcessWorker&) = delete;

  // Loads and warms the model, with the options that the graph gives it and those of `load` for the
  // others, and logs what its weights' format costs in precision. May take until the deadline;
  // RESOURCE_EXHAUSTED with the numbers where memory does not suffice.
  absl::StatusOr<std::unique_ptr<ModelClient>> Load(const v1::Model& model, absl::Time deadline);

  // What the models compute on; empty while there is none.
  std::string backend() const;

 private:
  class Client;
  struct Loaded;

  std::shared_ptr<Loaded> Share(std::unique_ptr<workers::ServedModel> service, uint64_t bytes);
  void Unload();

  const InProcessWorkerOptions options_;
  // For calls that wait, and for reading long prompts.
  workers::BlockingPool pool_;
  mutable absl::Mutex mutex_;
  uint64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int loaded_ ABSL_GUARDED_BY(mutex_) = 0;
  int next_cpu_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string backend_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Loaded>> to_unload_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread unloader_;
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_IN_PROCESS_MODEL_CLIENT_H_

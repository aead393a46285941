// The thread that drives an engine: takes requests from its queue, runs step after step, and
// publishes what happens.
//
// Thread safety: all methods may be called from any thread, callbacks included, except the
// destructor.
#ifndef OCTOGATE_WORKERS_ENGINE_ENGINE_LOOP_H_
#define OCTOGATE_WORKERS_ENGINE_ENGINE_LOOP_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/steady_event.h"
#include "kernels/backend.h"
#include "workers/engine/engine_core.h"
#include "workers/engine/engine_options.h"
#include "workers/engine/engine_stats.h"
#include "workers/engine/page_explanation.h"
#include "workers/engine/page_flush.h"
#include "workers/engine/request.h"
#include "workers/engine/request_check.h"
#include "workers/engine/sequence.h"
#include "workers/engine/shared_pages.h"
#include "workers/engine/step_cost.h"
#include "workers/engine/swap_space.h"
#include "workers/engine/transformer.h"
#include "workers/model/checkpoint.h"
#include "workers/model/tokenizer.h"

namespace octogate::workers {

class EngineLoop {
 public:
  // What the loop runs. Destroyed in reverse order.
  struct Parts {
    std::shared_ptr<const Checkpoint> checkpoint;
    std::shared_ptr<const Tokenizer> tokenizer;  // may be null
    std::unique_ptr<kernels::Backend> backend;
    std::unique_ptr<Transformer> transformer;
    std::unique_ptr<kernels::KvCache> cache;
    std::unique_ptr<SwapSpace> swap;  // may be null
    StepCost step_cost;
    std::unique_ptr<PageStore> page_store;           // may be null; handed on to shared_pages_
    std::vector<std::unique_ptr<Drafter>> drafters;  // in order of name
  };

  // Starts the thread. `initial_stats` has everything that does not change.
  EngineLoop(Parts parts, const EngineOptions& options, const EngineStats& initial_stats);
  // Ends every request with kCancelled and joins the thread.
  ~EngineLoop();
  EngineLoop(const EngineLoop&) = delete;
  EngineLoop& operator=(const EngineLoop&) = delete;

  // Queues a request; see Engine::Submit.
  absl::StatusOr<std::shared_ptr<Generation>> Submit(
      GenerateRequest request, ActiveRequest::Kind kind, ActiveRequest::Sink sink,
      std::shared_ptr<Generation> generation = nullptr);
  // See Engine::Drain.
  absl::Status Drain(absl::Time deadline);
  // See Engine::FlushPages.
  absl::StatusOr<FlushedPages> FlushPages(const PageFlush& flush, absl::Time deadline);
  // See Engine::ExplainPages.
  absl::StatusOr<PageExplanation> ExplainPages(std::vector<int32_t> prompt, ServiceTerms terms,
                                               absl::Time deadline);

  EngineStats stats() const;
  const Parts& parts() const { return parts_; }
  int context() const { return context_; }
  // See Engine::page_stamps.
  std::shared_ptr<const PageStamps> page_stamps() const {
    return options_.share_prefixes ? core_.scheduler().prefix_cache().stamps() : nullptr;
  }
  const std::string& backend_description() const { return backend_description_; }
  const std::string& slow_attention() const { return slow_attention_; }

 private:
  // What of a sequence is asked for between two steps. Outlives the call that asks where the answer
  // is late.
  struct Question {
    Sequence sequence;
    std::optional<PageExplanation> answer;  // guarded by mutex_
  };

  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return incoming_.empty() && active_ == 0;
  }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !incoming_.empty() || !flushes_.empty() || !questions_.empty();
  }

  RequestLimits LimitsOf(ActiveRequest::Kind kind) const;

  absl::StatusOr<std::shared_ptr<Generation>> Accept(GenerateRequest request,
                                                     ActiveRequest::Kind kind,
                                                     ActiveRequest::Sink sink,
                                                     std::shared_ptr<Generation> generation);
  absl::Status QueueFull() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  void Publish();
  // EngineStats::draft_bytes, a little old while requests run.
  uint64_t DraftBytes();

  Parts parts_;
  const EngineOptions options_;
  const std::string backend_description_;
  const std::string slow_attention_;
  mutable absl::Mutex mutex_;
  StepPace pace_;      // of the engine's thread; before what reads it
  SteadyEvent woken_;  // while the thread waits for pages; before what sets it

  std::unique_ptr<SharedPages> shared_pages_;  // may be null
  EngineCore core_;                            // of the engine's thread, as the one before
  const int context_;
  uint64_t flushes_taken_ = 0;  // of the engine's thread, as the next two
  uint64_t draft_bytes_ = 0;
  std::chrono::steady_clock::time_point count_draft_bytes_;

  std::vector<std::unique_ptr<ActiveRequest>> incoming_ ABSL_GUARDED_BY(mutex_);
  uint64_t arrivals_ ABSL_GUARDED_BY(mutex_) = 0;
  // Numbered in their order: those up to flushes_done_ are done, flushes_ are the last ones.
  std::vector<ContextFilter> flushes_ ABSL_GUARDED_BY(mutex_);
  uint64_t flushes_asked_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t flushes_done_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::shared_ptr<Question>> questions_ ABSL_GUARDED_BY(mutex_);
  int active_ ABSL_GUARDED_BY(mutex_) = 0;     // requests that the core has or is about to have
  int unstarted_ ABSL_GUARDED_BY(mutex_) = 0;  // of those, the ones that have not begun
  int64_t prompt_rows_ ABSL_GUARDED_BY(mutex_) = 0;  // EngineCore::prompt_rows
  double row_seconds_ ABSL_GUARDED_BY(mutex_) = 0;   // EngineCore::row_seconds
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);

  std::thread thread_;  // last: it uses everything above
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_ENGINE_LOOP_H_

// What an engine tells about itself while it runs.
#ifndef OCTOGATE_WORKERS_ENGINE_ENGINE_STATS_H_
#define OCTOGATE_WORKERS_ENGINE_ENGINE_STATS_H_

#include <array>
#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "kernels/dtype.h"
#include "workers/engine/page_store.h"
#include "workers/speculation/speculation_usage.h"

namespace octogate::workers {

// Counters since Create, and the state now.
struct EngineStats {
  // What SharedPages counts, the tokens that were used, and what the store counts.
  struct Sharing {
    uint64_t lookups = 0;
    uint64_t lookup_tokens = 0;
    uint64_t declined = 0;
    uint64_t abandoned = 0;
    uint64_t hit_tokens = 0;
    PageStoreStats store;
  };

  // Bucket i counts the steps that took less than 2^i units and are in no bucket before it; the
  // last bucket takes the rest.
  static constexpr int kStepTimeBuckets = 20;
  static constexpr absl::Duration kStepTimeUnit = absl::Microseconds(100);

  int running = 0;
  int waiting = 0;
  int64_t waiting_tokens = 0;  // of prompts that wait to be computed, or are being computed
  int pages_total = 0;
  int pages_used = 0;
  int pages_idle = 0;  // not used, but kept for prompts that begin with what they hold
  int page_size = 0;
  int max_sequences = 0;
  int context = 0;  // longest sequence accepted, in tokens
  kernels::DType kv_dtype = kernels::DType::kF32;
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;
  uint64_t activation_bytes = 0;
  uint64_t swap_bytes = 0;       // room for what preempted sequences have computed
  uint64_t swap_bytes_used = 0;  // of it, now

  uint64_t requests_accepted = 0;
  uint64_t requests_refused = 0;  // by Submit, for whatever reason
  uint64_t requests_finished = 0;
  uint64_t requests_unmeetable = 0;  // of these: whose deadline could not be met, by Admission
  uint64_t prompt_tokens = 0;        // computed; recomputation and reuse not included
  uint64_t generated_tokens = 0;
  uint64_t recomputed_tokens = 0;
  uint64_t preemptions = 0;
  // Of these: what was computed has been copied to the swap space; would have been, had there been
  // room. The others compute it again.
  uint64_t preemptions_saved = 0;
  uint64_t preemptions_without_room = 0;
  uint64_t restored_tokens = 0;  // whose keys and values were copied back from the swap space
  absl::Duration swap_time;      // that the copies took, both ways; not part of step_time
  // Tokens of sequences whose beginning was looked for in the prefix cache, and those that were
  // found there. A sequence that was preempted counts again.
  uint64_t prefix_query_tokens = 0;
  uint64_t prefix_hit_tokens = 0;
  // Pages that were flushed: free ones, and those that sequences ran on.
  uint64_t flushed_pages = 0;
  uint64_t flushed_in_use = 0;
  std::optional<Sharing> sharing;  // where pages are shared with other engines
  uint64_t steps = 0;
  uint64_t step_rows = 0;
  absl::Duration step_time;
  std::array<uint64_t, kStepTimeBuckets> step_time_histogram{};
  std::optional<SpeculationUsage> speculation;  // of all requests; where there are drafters
  uint64_t malformed_drafts = 0;                // proposals of drafters that were dropped
  // That drafters hold: what they have learned, weights and cache of a draft model, files of
  // datastores, which are mapped, and what they know of running sequences. What is kept in a folder
  // or shared has a copy, which is not counted, of what was learned.
  uint64_t draft_bytes = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_ENGINE_STATS_H_

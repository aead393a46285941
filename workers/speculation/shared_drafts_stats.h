// What came of sharing what drafters learn with other processes, since the process began.
#ifndef OCTOGATE_WORKERS_SPECULATION_SHARED_DRAFTS_STATS_H_
#define OCTOGATE_WORKERS_SPECULATION_SHARED_DRAFTS_STATS_H_

#include <cstdint>

namespace octogate::workers {

struct SharedDraftsStats {
  uint64_t published_bytes = 0;  // of publications and snapshots, with their envelopes
  uint64_t publications = 0;
  uint64_t snapshots = 0;
  uint64_t read_bytes = 0;
  uint64_t merged = 0;   // publications and snapshots of others that were taken in
  uint64_t refused = 0;  // values that were not what they should be
  // Of the store, where it is asked over a network.
  uint64_t store_failures = 0;  // calls that were not answered
  uint64_t store_losses = 0;    // of connections
  bool store_reachable = true;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_SHARED_DRAFTS_STATS_H_

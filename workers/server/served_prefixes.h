// What a worker tells of the prompts whose beginnings its prefix cache holds.
//
// A block of a prompt's text is held as long as the page is that has the block's last token, which
// is taken to lie where it would if all tokens of the prompt were equally long. Pages that others
// have been given since are known by their stamps, so that nothing is asked of the engine, and
// what was evicted is not told.
#ifndef OCTOGATE_WORKERS_SERVER_SERVED_PREFIXES_H_
#define OCTOGATE_WORKERS_SERVER_SERVED_PREFIXES_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "octogate/v1/worker.pb.h"
#include "workers/engine/page_stamps.h"
#include "workers/server/prompt_blocks.h"

namespace octogate::workers {

// Remembers nothing until it is asked for a summary for the first time: where nobody asks, it costs
// nothing.
//
// Thread safety: all methods may be called from any thread.
class ServedPrefixes {
 public:
  // `stamps` are of pages of `page_size` tokens each.
  ServedPrefixes(std::shared_ptr<const PageStamps> stamps, int page_size);

  bool wanted() const { return wanted_.load(std::memory_order_relaxed); }

  // A prompt of `tokens` tokens is in the cache, as far as `pages` go. Takes no longer than a copy
  // of `pages`: what has to be done is done by the next Summary, and the oldest of what waits for
  // it is forgotten where that is too much.
  void Add(std::shared_ptr<const PromptBlocks> prompt, int tokens,
           std::span<const StampedPage> pages);

  // Blocks that are held now: where there are more than a summary may have, those that were used
  // last, the beginnings of prompts before their ends.
  v1::PrefixSummary Summary();

 private:
  struct Prompt {
    std::shared_ptr<const PromptBlocks> blocks;
    int tokens = 0;
    std::vector<StampedPage> pages;
  };
  struct Block {
    StampedPage page;
    uint64_t used = 0;  // larger: later, and earlier in its prompt
  };

  void Enter(const Prompt& prompt) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveLeastUsed() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::shared_ptr<const PageStamps> stamps_;
  const int page_size_;
  std::atomic<bool> wanted_{false};

  absl::Mutex mutex_;
  absl::flat_hash_map<uint32_t, Block> blocks_ ABSL_GUARDED_BY(mutex_);
  uint64_t prompts_ ABSL_GUARDED_BY(mutex_) = 0;

  absl::Mutex waiting_mutex_;  // held for moments only
  std::deque<Prompt> waiting_ ABSL_GUARDED_BY(waiting_mutex_);
  size_t waiting_blocks_ ABSL_GUARDED_BY(waiting_mutex_) = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_SERVED_PREFIXES_H_

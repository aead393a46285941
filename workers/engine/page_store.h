// Where pages of keys and values are shared with other engines of the same model.
//
// An engine asks for the pages of a prompt that its own prefix cache does not have, and offers
// those that it has computed. It never waits for a store: it asks what has come, and computes what
// has not. A page that is delivered holds, bit for bit, what the engine would compute; whoever
// implements a store proves what it reads before it delivers it.
//
// So nothing is narrowed for the way: a cache of 8 bits (EngineOptions::kv_dtype) is shared in 8
// bits, and one of more in as many. And a page has the keys and values of all layers: a prompt that
// is found leaves one token to compute, in a step that needs them all, and what is computed while
// pages come is the prompt's front, which needs none of them.
#ifndef OCTOGATE_WORKERS_ENGINE_PAGE_STORE_H_
#define OCTOGATE_WORKERS_ENGINE_PAGE_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "workers/engine/page_flush.h"

namespace octogate::workers {

// Pages can be exchanged between engines whose formats are equal, and no others.
struct PageFormat {
  // All that decides the bits of a page beside the tokens: weights, their format, the type of keys
  // and values, what computes them.
  std::string description;
  int page_size = 1;      // positions
  size_t page_bytes = 0;  // of all layers
};

// Pages [first, first + count) of the sequence of `tokens`, which fill them. Both texts are read
// during calls only.
struct PageChain {
  std::string_view context;         // see PrefixCache
  std::span<const int32_t> tokens;  // from the sequence's first one
  int first = 0;
  int count = 0;
  uint64_t sequence = 0;  // whose it is: what is written of the same one counts once
};

// From the first page to the first one that the store does not have; or from the last one that it
// has to the first, for a sequence that computes from its beginning meanwhile.
enum class PageOrder { kForward, kBackward };

// A page that has come: the bytes of `value` from `offset` on.
struct SharedPage {
  int index = 0;  // in the sequence
  std::string value;
  size_t offset = 0;
  std::shared_ptr<void> lease = nullptr;  // of the memory that the store lets fetches take

  std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span(value)).subspan(offset);
  }
};

// Pages on their way. Its destruction gives up those that have not come, and does not wait.
class PageFetch {
 public:
  virtual ~PageFetch() = default;
  // That come at most, from the first of the chain on. Fewer than were asked for where there was no
  // memory for more.
  virtual int pages() const = 0;
  // Appends the pages that have come since the last call, in any order; those before the index
  // `first_needed` need not come any more. Returns whether no more will: the store has given all
  // that it has, or has failed.
  virtual bool Take(int first_needed, std::vector<SharedPage>& pages) = 0;
};

struct PageStoreStats {
  uint64_t read_bytes = 0;
  uint64_t written_bytes = 0;
  uint64_t refused_pages = 0;  // were not what they should have been
  uint64_t dropped_pages = 0;  // were not written
  uint64_t failures = 0;       // calls that were not answered
  uint64_t losses = 0;         // of connections
  bool reachable = false;
};

// Thread safety: called by the engine's thread only, except for CountStored, Flush and stats. No
// calls but the first two of these wait.
class PageStore {
 public:
  // Copies pages of the sequence, given by their indices, to `to`, and returns when that is done.
  using ReadPages =
      std::function<void(std::span<const int> pages, std::span<const std::span<std::byte>> to)>;

  virtual ~PageStore() = default;

  // Begins to read a chain, or as many of its first pages as there is memory for. `on_change` is
  // called, on any thread, when Take has something to say; not after the fetch is destroyed. Null
  // where nothing can be fetched.
  virtual std::unique_ptr<PageFetch> Fetch(const PageChain& chain, PageOrder order,
                                           std::function<void()> on_change) = 0;
  // Seconds that a fetch of so many pages is expected to take if it began now, by what others took
  // lately and what is under way; infinity where nothing can be fetched.
  virtual double FetchSeconds(int pages) const = 0;
  // Seconds until it would be known that the store does not have a page.
  virtual double MissSeconds() const = 0;
  // Pages of a chain that the store has, from the first on, by their names: none is read. Waits for
  // the store until `deadline`; an error where it has not said.
  virtual absl::StatusOr<int> CountStored(const PageChain& chain, absl::Time deadline) = 0;
  // Writes those pages of a chain that the store is not known to have and that are worth it, as far
  // as there is room for them in the queue.
  virtual void Write(const PageChain& chain, const ReadPages& read) = 0;

  // Has all engines that share the store forget what they have written and hold: those that are
  // told of the same flush with TakeFlushed after this, others within seconds. Waits for the store
  // until `deadline`; with any error it is to be repeated.
  virtual absl::Status Flush(const PageFlush& flush, absl::Time deadline) = 0;
  // What has been flushed since the last call, here or elsewhere, or may have been while it could
  // not be known; empty: nothing. From then on nothing of before is fetched, and what is written
  // must be of after: the caller forgets its own pages of these contexts at the same time.
  virtual ContextFilter TakeFlushed() = 0;

  virtual PageStoreStats stats() const = 0;
};

// Makes the store of an engine whose format this is; never null.
using MakePageStore = std::function<std::unique_ptr<PageStore>(const PageFormat& format)>;

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PAGE_STORE_H_

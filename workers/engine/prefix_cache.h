// Finds pages of the KV cache that hold the keys and values of a prompt's beginning already.
//
// Only full pages are entered. They are never written again, so that sequences share them as they
// are: nothing has to be copied on write. An entry is found by a hash that is chained through the
// sequence (hash of the page before it, token ids of the page), and is believed only where the page
// before it is the same entry and the token ids are equal, one by one. By induction from the first
// page a hit holds exactly the keys and values that the sequence would compute: an accidental or
// contrived collision of hashes costs a hit and nothing else.
//
// Keys and values depend on more than token ids, and not everyone may learn by the clock what
// others have asked. Both are part of the `context`: equal contexts share, others never do.
//
// Whoever owns an entered page (see PageAllocator) owns the pages before it too. Hence the pages of
// a chain become idle from its end, are given out from its end, and no entry outlives its parent.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_ENGINE_PREFIX_CACHE_H_
#define OCTOGATE_WORKERS_ENGINE_PREFIX_CACHE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "workers/engine/page_flush.h"
#include "workers/engine/page_stamps.h"

namespace octogate::workers {

// Continues a chain of hashes; the same in every process. Not cryptographic.
uint64_t ChainHash(uint64_t parent, std::span<const int32_t> tokens);
// What the chain of the first page begins with.
uint64_t ContextHash(std::string_view context);

class PrefixCache {
 public:
  static constexpr int32_t kNone = -1;
  using Hash = uint64_t (*)(uint64_t parent, std::span<const int32_t> tokens);

  // For pages 0 .. pages - 1. `hash` may be any function; a poor one costs hits.
  explicit PrefixCache(int pages, Hash hash = ChainHash);

  // The page that holds the keys and values of `tokens` behind page `parent`, which is an entry, or
  // kNone for the first page of a sequence. kNone where there is none.
  int32_t Find(std::string_view context, int32_t parent, std::span<const int32_t> tokens) const;

  // Enters `page`, which is not an entry, under what Find is to be asked. Returns
  //   `page`;
  //   another page, where that holds the same already;
  //   kNone, where an entry of other contents has the same hash. No page can be entered behind it.
  int32_t Insert(std::string_view context, int32_t parent, std::span<const int32_t> tokens,
                 int32_t page);

  // Removes the entry of a page, if it has one. No entry has it for a parent.
  void Forget(int32_t page);
  // Removes all entries of the contexts, and returns their pages.
  std::vector<int32_t> ForgetContexts(const ContextFilter& includes);

  bool contains(int32_t page) const { return entries_[static_cast<size_t>(page)].entered; }
  int size() const { return static_cast<int>(pages_by_hash_.size()); }
  // Changes with every entry that is removed. Never null.
  const std::shared_ptr<PageStamps>& stamps() const { return stamps_; }

 private:
  struct Entry {
    bool entered = false;
    uint64_t hash = 0;
    int32_t parent = kNone;
    int children = 0;
    std::string context;  // of a first page; others have that of their parent
    std::vector<int32_t> tokens;
  };

  void Remove(int32_t page);
  uint64_t HashOf(std::string_view context, int32_t parent, std::span<const int32_t> tokens) const;
  bool Matches(const Entry& entry, std::string_view context, int32_t parent,
               std::span<const int32_t> tokens) const;

  const Hash hash_;
  std::vector<Entry> entries_;  // by page
  const std::shared_ptr<PageStamps> stamps_;
  absl::flat_hash_map<uint64_t, int32_t> pages_by_hash_;
};

// Pages at the beginning of a sequence that a prefix cache had.
struct CachedPrefix {
  int pages = 0;
  StampedPage last = {.page = PrefixCache::kNone};  // of them
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_PREFIX_CACHE_H_

// Whole answers of one version of the graph, for the queries that they were given to and, with an
// encoder, for others of the same meaning. One gateway's: shared_answers.h asks the others.
//
// An answer belongs to a tenant and to everything that it depends on beside the query itself: the
// conversation before it, the node that is entered, the nodes that are drained, sampling, grammar,
// limits (AnswerKey::rest). Keys are compared byte by byte. Which answers may be kept at all is
// answer_recorder.h's business.
//
// Vectors are compared one by one, as a flat FAISS index would: of kMaxCompared that takes less
// than the encoder, and such an index cannot take one away without moving all others.
//
// Bounds: max_entries, and kMaxBytes of keys, texts and vectors. An answer that has expired goes
// when it is looked for, and the least recently used one goes first for want of room.
#ifndef OCTOGATE_GATEWAY_CACHE_ANSWER_CACHE_H_
#define OCTOGATE_GATEWAY_CACHE_ANSWER_CACHE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "gateway/cache/cache_counts.h"
#include "octogate/v1/gateway.pb.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

struct AnswerKey {
  std::string tenant;
  std::string rest;   // begins with the tenant
  std::string query;  // the last message, as it came
  // Of a gateway that shares answers (shared_answers.h): always of the same length, or none. What
  // was kept under others is not found.
  std::string marks = {};

  // Each unambiguous; the latter is every gateway's.
  std::string Whole() const { return marks + Common(); }
  std::string Common() const { return absl::StrCat(rest.size(), ":", rest, query); }
};

// An answer as it is kept. Immutable.
struct KeptAnswer {
  std::string query;       // that it was given to
  std::string first_node;  // that routers handed the query to
  v1::Tokens tokens;       // of the node that wrote it, all at once
  v1::FinishReason finish_reason = v1::FINISH_REASON_STOP;
  absl::Time given_at;

  size_t bytes() const { return query.size() + first_node.size() + tokens.SpaceUsedLong(); }
};

// Thread safety: all methods may be called from any thread; the lock is held for list and map
// operations, not while vectors are compared.
class AnswerCache {
 public:
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  // Of one answer with its key; longer ones are not kept.
  static constexpr size_t kMaxEntryBytes = size_t{1} << 20;
  // Entries of the same rest and marks that a query is compared with at most.
  static constexpr size_t kMaxCompared = 10'000;

  // `settings` with their defaults; max_entries 0: keeps nothing.
  explicit AnswerCache(const v1::AnswerCache& settings, size_t max_bytes = kMaxBytes,
                       Clock clock = SystemClock());

  bool enabled() const { return settings_.max_entries() > 0; }
  const v1::AnswerCache& settings() const { return settings_; }

  // The answer to the same words, or null.
  std::shared_ptr<const KeptAnswer> Find(const AnswerKey& key);
  // Counts one that is answered by Peek, or not at all.
  void CountLookup();
  // As Find, counting as no use.
  std::shared_ptr<const KeptAnswer> Peek(const AnswerKey& key) const;

  // The answer to the most similar query with the same rest, of those whose cosine is the threshold
  // at least; the newer of two equal ones. `vector` has the Euclidean length 1. Looks at the
  // kMaxCompared that were kept last.
  struct Alike {
    std::shared_ptr<const KeptAnswer> answer;  // null: none
    double similarity = 0;
  };
  Alike FindAlike(const AnswerKey& key, const std::vector<float>& vector) const;

  // A look-up that Find has not answered was by FindAlike or Peek after all: a hit, and a use of
  // the answer, which is one of the same rest.
  void CountUse(const AnswerKey& key, const KeptAnswer& answer);

  // Another one after each Flush.
  uint64_t epoch() const { return epoch_.load(); }

  // Keeps an answer in place of one that is there. `vector` may be empty: then only the same words
  // find it. `epoch` is that of before its query began: what was under way at a Flush, of any
  // tenant, is not kept. Returns whether it is.
  bool Put(const AnswerKey& key, std::shared_ptr<const KeptAnswer> answer,
           std::vector<float> vector, uint64_t epoch);

  // As of DecisionCache.
  CacheCounts Flush(std::string_view tenant);
  CacheCounts Counts(std::string_view tenant) const;

 private:
  struct Entry {
    std::string key;  // whole
    std::string tenant;
    std::string rest;  // with the marks before it
    std::shared_ptr<const KeptAnswer> answer;
    std::shared_ptr<const std::vector<float>> vector;  // null: none
    int64_t bytes = 0;
    std::list<const Entry*>::iterator place;  // with a vector: in by_rest_
  };
  using Entries = std::list<Entry>;

  static size_t BytesOf(const Entry& entry);

  void Remove(Entries::iterator entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsExpired(const KeptAnswer& answer) const;

  const v1::AnswerCache settings_;
  const int64_t max_bytes_;
  const Clock clock_;
  std::atomic<uint64_t> epoch_{0};
  mutable absl::Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);  // used last first
  absl::flat_hash_map<std::string_view, Entries::iterator> by_key_ ABSL_GUARDED_BY(mutex_);
  // Those with vectors, kept last first.
  absl::flat_hash_map<std::string, std::list<const Entry*>> by_rest_ ABSL_GUARDED_BY(mutex_);
  CacheCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_ANSWER_CACHE_H_

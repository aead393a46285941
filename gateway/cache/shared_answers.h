// The answers of gateways that share one Redis: what one of them keeps, the others find.
//
// Only answers to the same words: those to others of the same meaning (AnswerCache::FindAlike) stay
// each gateway's own, as an answer that was found here has no vector there. Found is an answer for
// the same AnswerKey, and by the same graph: its version and the digest of its manifest are part of
// the name that it stands under, as is the tenant. What the gateways' own files hold is not (a
// model's checkpoint, a recording): gateways with one Redis have the same files, and after another
// checkpoint everything is to be flushed.
//
// Flushes. There is a mark for everybody and one for each tenant, which a flush replaces by a new
// random one. An answer is written with the marks that were read before its query began, and given
// only where they are those that are read together with it. So nothing from before a flush, and no
// answer of a query that was under way, is found by any gateway once Flush has returned. Marks are
// in AnswerKey::marks too, whereby what a gateway keeps itself is not given after it has read other
// ones, which it does every `believed_for` at the latest. Where a mark is missing (the server was
// emptied, or has evicted it) a new one is set: all that was written before is out of reach.
//
// With the server late, gone, full, emptied or lying, the query runs as if nothing were shared, and
// what a gateway has kept itself is given by the marks that it has read last. A flush that the
// server has not taken is an error, and has emptied its own gateway alone: until it has been
// repeated, the others, and the shared answers, are as before.
//
// What is read is hostile: it is bounded, compared byte by byte with what was asked for, and must
// be as a gateway would have kept it for this graph.
#ifndef OCTOGATE_GATEWAY_CACHE_SHARED_ANSWERS_H_
#define OCTOGATE_GATEWAY_CACHE_SHARED_ANSWERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "gateway/cache/answer_cache.h"
#include "gateway/cache/cache_counts.h"
#include "gateway/shared_values.h"
#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

struct SharedAnswersOptions {
  // Outlives all that use it. Null: answers are not shared.
  SharedValues* values = nullptr;
  // That marks are taken for those in force after they were read.
  absl::Duration believed_for = absl::Seconds(1);
  Clock clock = SystemClock();
};

// Of one version of a graph.
//
// Thread safety: all methods may be called from any thread. None but Flush blocks.
class SharedAnswers {
 public:
  // Of one answer with its key, as it is written; longer ones are not shared. A round trip has many
  // of them, and little time.
  static constexpr size_t kMaxBytes = size_t{256} << 10;
  // Whose marks are known; at more all are forgotten, and read again.
  static constexpr size_t kMaxTenants = 4096;
  // More than an answer may be.
  static constexpr absl::Duration kMarkKeptFor = absl::Hours(31 * 24);

  // `options.values` is not null. `graph` outlives this object.
  SharedAnswers(const SharedAnswersOptions& options, const v1::Graph* graph, int64_t version,
                std::string_view manifest);

  // The marks of the tenant that were read last; empty: none yet.
  std::string Marks(const std::string& tenant) const;
  // Whether the key's marks were read just now, so that what is kept here may be given.
  bool Believes(const AnswerKey& key) const;

  struct Found {
    std::string marks;  // that the query is to go on with; empty: they cannot be known now
    std::shared_ptr<const KeptAnswer> answer;  // null: none
  };
  // `done` is called once, possibly before this returns, within the time of a read of the shared
  // values; it must not block.
  void Get(const AnswerKey& key, std::function<void(Found found)> done);

  // Written behind, with the key's marks; without them not.
  void Put(const AnswerKey& key, const KeptAnswer& answer);

  // Everybody's where `tenant` is empty. UNAVAILABLE or DEADLINE_EXCEEDED where the server has not
  // taken it, or not said so.
  absl::Status Flush(const std::string& tenant, absl::Time deadline);

  // Of its queries. Failures: reads without an answer of the server, or of what is none.
  CacheCounts Counts() const;

 private:
  struct Known {
    std::string marks;
    absl::Time asked = absl::InfinitePast();  // when they were
  };

  Found OnValues(const std::string& tenant, const std::string& query, const std::string& common,
                 absl::Time asked, const SharedValues::Values& values);
  // A mark as it was read, a new one where there is none, or empty where it cannot be known.
  std::string MarkOf(const std::string& name, const absl::StatusOr<std::string>& value);
  // NOT_FOUND where it is too old, or not of these marks; DATA_LOSS for anything else that is no
  // answer.
  absl::StatusOr<std::shared_ptr<const KeptAnswer>> Read(const std::string& marks,
                                                         const std::string& query,
                                                         const std::string& common,
                                                         std::string_view value) const;

  const SharedAnswersOptions options_;
  SharedValues& values_;
  const v1::Graph& graph_;
  const std::string identity_;  // of the graph and the format
  const absl::Duration kept_for_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Known> known_ ABSL_GUARDED_BY(mutex_);  // by tenant
  CacheCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_SHARED_ANSWERS_H_

// The answers of gateways that share one Redis: what one of them keeps, the others find.
//
// Only answers to the same words: those to others of the same meaning (AnswerCache::FindAlike) stay
// each gateway's own, as an answer that was found here has no vector there. Found is an answer for
// the same AnswerKey, and by the same graph: its version and the digest of its manifest are part of
// the name that it stands under, as is the tenant. What the gateways' own files hold is not (a
// model's checkpoint, a recording): gateways with one Redis have the same files, and after another
// checkpoint everything is to be flushed.
//
// Flushes hold at all of them at once (shared_flushes.h). Marks are in AnswerKey::marks too,
// whereby what a gateway keeps itself is not given after it has read other ones, which it does
// every `believed_for` at the latest.
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
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "gateway/cache/answer_cache.h"
#include "gateway/cache/cache_counts.h"
#include "gateway/cache/shared_flushes.h"
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

  // `options.values` is not null. `graph` outlives this object.
  SharedAnswers(const SharedAnswersOptions& options, const v1::Graph* graph, int64_t version,
                std::string_view manifest);

  // The marks of the tenant that were read last; empty: none yet.
  std::string Marks(const std::string& tenant) const { return flushes_.Marks(tenant); }
  // Whether the key's marks were read just now, so that what is kept here may be given.
  bool Believes(const AnswerKey& key) const { return flushes_.Believes(key.tenant, key.marks); }

  struct Found {
    std::string marks;  // that the query is to go on with; empty: they cannot be known now
    std::shared_ptr<const KeptAnswer> answer;  // null: none
  };
  // `done` is called once, possibly before this returns, within the time of a read of the shared
  // values; it must not block.
  void Get(const AnswerKey& key, std::function<void(Found found)> done);

  // Written behind, with the key's marks; without them not.
  void Put(const AnswerKey& key, const KeptAnswer& answer);

  // As of SharedFlushes.
  absl::Status Flush(const std::string& tenant, absl::Time deadline) {
    return flushes_.Flush(tenant, deadline);
  }

  // Of its queries. Failures: reads without an answer of the server, or of what is none.
  CacheCounts Counts() const;

 private:
  Found OnValues(const std::string& tenant, const std::string& query, const std::string& common,
                 absl::Time asked, const SharedValues::Values& values);
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
  SharedFlushes flushes_;
  mutable absl::Mutex mutex_;
  CacheCounts counts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_SHARED_ANSWERS_H_

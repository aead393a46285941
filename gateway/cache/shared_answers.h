// The answers of gateways that share one Redis: what one of them keeps, the others find.
//
// Only answers to the same words: those to others of the same meaning (AnswerCache::FindAlike) stay
// each gateway's own, as an answer that was found here has no vector there. Found is an answer for
// the same AnswerKey, tenant included, and by the same graph (flushable_values.h). What the
// gateways' own files hold is not looked at (a model's checkpoint, a recording): gateways with one
// Redis have the same files, and after another checkpoint everything is to be flushed.
//
// Flushes hold at all gateways at once. Marks are in AnswerKey::marks too, whereby what a gateway
// keeps itself is not given after it has read other ones, which it does every `believed_for` at the
// latest.
//
// With the server late, gone, full, emptied or lying, the query runs as if nothing were shared, and
// what a gateway has kept itself is given by the marks that it has read last. A flush that the
// server has not taken is an error, and has emptied its own gateway alone: until it has been
// repeated, the others, and the shared answers, are as before.
//
// What is read is hostile: it must be as a gateway would have kept it for this graph.
#ifndef OCTOGATE_GATEWAY_CACHE_SHARED_ANSWERS_H_
#define OCTOGATE_GATEWAY_CACHE_SHARED_ANSWERS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
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
#include "gateway/cache/flushable_values.h"
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

  // `options.values` is not null. `graph` outlives this object.
  SharedAnswers(const SharedAnswersOptions& options, const v1::Graph* graph, int64_t version,
                std::string_view manifest);

  // The marks of the tenant that were read last; empty: none yet.
  std::string Marks(const std::string& tenant) const;
  // Whether the key's marks were read just now, so that what is kept here may be given.
  bool Believes(const AnswerKey& key) const;

  using Found = FlushableValues::Found<KeptAnswer>;
  // As of FlushableValues.
  void Get(const AnswerKey& key, std::function<void(Found found)> done);

  // Written behind, with the key's marks; without them not.
  void Put(const AnswerKey& key, const KeptAnswer& answer);

  // As of FlushableValues.
  absl::Status Flush(const std::string& tenant, absl::Time deadline) {
    return values_.Flush(tenant, deadline);
  }
  CacheCounts Counts() const { return values_.Counts(); }

 private:
  struct Known {
    std::string marks;
    absl::Time asked = absl::InfinitePast();  // when they were
  };

  // Marks that were asked for at that time; empty: they could not be known.
  void Know(const std::string& tenant, absl::Time asked, const std::string& marks);
  // NOT_FOUND where it is too old, DATA_LOSS where it is no answer.
  absl::StatusOr<KeptAnswer> Parse(const std::string& query, std::string_view content) const;

  const Clock clock_;
  const absl::Duration believed_for_;
  const v1::Graph& graph_;
  const absl::Duration kept_for_;
  FlushableValues values_;
  mutable absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Known> known_ ABSL_GUARDED_BY(mutex_);  // by tenant
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_SHARED_ANSWERS_H_

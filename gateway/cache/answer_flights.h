// Single flight: of queries that are the same and come at the same time one runs, the leader, and
// the others, its followers, wait for its answer.
//
// Nobody waits for a leader that has gone: where it ends without an answer, because it failed, was
// refused or was cancelled, the follower that has waited longest leads. Where it turns out that the
// answer cannot be given to others, or that its own client is behind, all followers run by
// themselves at once. A follower that stops waiting (its own deadline or cancellation) leaves.
#ifndef OCTOGATE_GATEWAY_CACHE_ANSWER_FLIGHTS_H_
#define OCTOGATE_GATEWAY_CACHE_ANSWER_FLIGHTS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "gateway/cache/answer_cache.h"

namespace octogate::gateway {

// Thread safety: all methods may be called from any thread. No lock is held while callbacks run.
class AnswerFlights : public std::enable_shared_from_this<AnswerFlights> {
 public:
  // That follow one leader; further ones run by themselves.
  static constexpr size_t kMaxFollowers = 256;

  // The duty to end a flight. Whoever lets go of it without Finish or Release has failed, and the
  // next one leads.
  class Lead {
   public:
    Lead() = default;
    Lead(Lead&& other) noexcept { *this = std::move(other); }
    Lead& operator=(Lead&& other) noexcept;
    ~Lead() { Abandon(); }

    explicit operator bool() const { return flights_ != nullptr; }
    // Followers get the answer. `similarity` as of AnswerCache::Alike.
    void Finish(const std::shared_ptr<const KeptAnswer>& answer, double similarity = 1);
    // Followers run by themselves.
    void Release();
    void Abandon();

   private:
    friend class AnswerFlights;
    std::shared_ptr<AnswerFlights> flights_;
    std::string key_;
  };

  // What a follower has waited for: the answer and its similarity, or the lead, or neither: it runs
  // by itself. Called once, on the thread of the leader's end.
  using Outcome =
      std::function<void(std::shared_ptr<const KeptAnswer> answer, double similarity, Lead lead)>;

  struct Joined {
    Lead lead;            // this one leads
    uint64_t ticket = 0;  // or follows; neither: it runs by itself
  };
  Joined Join(const std::string& key, Outcome outcome);

  // Stops waiting. False: the outcome has been called, or is being called.
  bool Leave(const std::string& key, uint64_t ticket);

 private:
  struct Follower {
    uint64_t ticket;
    Outcome outcome;
  };

  std::list<Follower> End(const std::string& key);

  absl::Mutex mutex_;
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<std::string, std::list<Follower>> flights_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_ANSWER_FLIGHTS_H_

// Single flight: of queries that are the same and come at the same time one runs, the leader, and
// the others, its followers, wait for what comes of it.
//
// Nobody waits for a leader that has gone: where it ends without a result, because it failed, was
// refused or was cancelled, the follower that has waited longest leads. Where it turns out that the
// result cannot be given to others, or that its own client is behind, all followers run by
// themselves at once. A follower that stops waiting (its own deadline or cancellation) leaves; one
// that has a deadline and may not notice it follows no leader that has a later one.
#ifndef OCTOGATE_GATEWAY_CACHE_SINGLE_FLIGHT_H_
#define OCTOGATE_GATEWAY_CACHE_SINGLE_FLIGHT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace octogate::gateway {

// `Result` is what followers are given; where it is made anew, it says that there is none.
//
// Thread safety: all methods may be called from any thread. No lock is held while callbacks run.
template <typename Result>
class SingleFlight : public std::enable_shared_from_this<SingleFlight<Result>> {
 public:
  // That follow one leader; further ones run by themselves.
  static constexpr size_t kMaxFollowers = 256;

  // The duty to end a flight. Whoever lets go of it without Finish or Release has failed, and the
  // next one leads.
  class Lead {
   public:
    Lead() = default;
    Lead(Lead&& other) noexcept { *this = std::move(other); }
    Lead& operator=(Lead&& other) noexcept {
      if (this == &other) return *this;
      Abandon();
      flights_ = std::exchange(other.flights_, nullptr);
      key_ = std::move(other.key_);
      return *this;
    }
    ~Lead() { Abandon(); }

    explicit operator bool() const { return flights_ != nullptr; }
    // Followers get the result.
    void Finish(const Result& result) {
      const std::shared_ptr<SingleFlight> flights = std::exchange(flights_, nullptr);
      if (flights == nullptr) return;
      for (const Follower& follower : flights->End(key_)) follower.outcome(result, Lead());
    }
    // Followers run by themselves.
    void Release() { Finish(Result()); }
    void Abandon() {
      const std::shared_ptr<SingleFlight> flights = std::exchange(flights_, nullptr);
      if (flights == nullptr) return;
      Outcome next = flights->Next(key_);
      if (next == nullptr) return;
      Lead lead;
      lead.flights_ = flights;
      lead.key_ = key_;
      next(Result(), std::move(lead));
    }

   private:
    friend class SingleFlight;
    std::shared_ptr<SingleFlight> flights_;
    std::string key_;
  };

  // What a follower has waited for: the result, or the lead, or neither: it runs by itself. Called
  // once, on the thread of the leader's end.
  using Outcome = std::function<void(Result result, Lead lead)>;

  struct Joined {
    Lead lead;            // this one leads
    uint64_t ticket = 0;  // or follows; neither: it runs by itself
  };
  Joined Join(const std::string& key, Outcome outcome,
              absl::Time deadline = absl::InfiniteFuture()) {
    Joined joined;
    absl::MutexLock lock(&mutex_);
    const auto [flight, is_first] = flights_.try_emplace(key, Flight{deadline, {}});
    if (is_first) {
      joined.lead.flights_ = this->shared_from_this();
      joined.lead.key_ = key;
    } else if (flight->second.followers.size() < kMaxFollowers &&
               deadline >= flight->second.deadline) {
      joined.ticket = next_ticket_++;
      flight->second.followers.push_back({joined.ticket, std::move(outcome), deadline});
    }
    return joined;
  }

  // Stops waiting. False: the outcome has been called, or is being called.
  bool Leave(const std::string& key, uint64_t ticket) {
    Outcome left;  // goes without the lock
    absl::MutexLock lock(&mutex_);
    const auto flight = flights_.find(key);
    if (flight == flights_.end()) return false;
    std::list<Follower>& followers = flight->second.followers;
    const auto follower =
        std::find_if(followers.begin(), followers.end(),
                     [&](const Follower& candidate) { return candidate.ticket == ticket; });
    if (follower == followers.end()) return false;
    left = std::move(follower->outcome);
    followers.erase(follower);
    return true;
  }

 private:
  struct Follower {
    uint64_t ticket;
    Outcome outcome;
    absl::Time deadline;
  };
  struct Flight {
    absl::Time deadline;  // of its leader
    std::list<Follower> followers;
  };

  std::list<Follower> End(const std::string& key) {
    absl::MutexLock lock(&mutex_);
    const auto flight = flights_.find(key);
    std::list<Follower> followers = std::move(flight->second.followers);
    flights_.erase(flight);
    return followers;
  }

  // Of the one who leads now; null: nobody does.
  Outcome Next(const std::string& key) {
    absl::MutexLock lock(&mutex_);
    const auto flight = flights_.find(key);
    std::list<Follower>& followers = flight->second.followers;
    if (followers.empty()) {
      flights_.erase(flight);
      return nullptr;
    }
    flight->second.deadline = followers.front().deadline;
    Outcome next = std::move(followers.front().outcome);
    followers.pop_front();
    return next;
  }

  absl::Mutex mutex_;
  uint64_t next_ticket_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<std::string, Flight> flights_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CACHE_SINGLE_FLIGHT_H_

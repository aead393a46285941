// Keeps what the drafters of a model learn in places that outlive the process or that other
// processes read, too, and brings what these have learned.
//
// The engine's thread waits for it where a scope begins, and then for some milliseconds at most: a
// drafter and the keeper's thread pass exports through slots that hold one thing each. The keeper's
// thread has a copy of what every scope has learned and brings it to its places every `interval`.
// Places may be slow, full, gone or full of lies; drafting goes on with what is known here.
#ifndef OCTOGATE_WORKERS_SPECULATION_DRAFT_KEEPER_H_
#define OCTOGATE_WORKERS_SPECULATION_DRAFT_KEEPER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/steady_event.h"
#include "workers/speculation/learned_state.h"
#include "workers/speculation/scope_states.h"
#include "workers/speculation/shared_drafts_stats.h"

namespace octogate::workers {

// Whose learning it is. Nothing of one is ever used for another.
struct DraftOwner {
  std::string model;    // fingerprints of weights and tokenizer
  std::string drafter;  // its name
  std::string scope;    // a tenant, or all of them
};

// A folder, a store.
class DraftPlace {
 public:
  virtual ~DraftPlace() = default;

  // Fills the state of a scope that begins with what is at hand without waiting for others; should
  // take some milliseconds at most. Called by the keeper's thread, before the first Sync.
  virtual void Load(const DraftOwner& owner, LearnedState& state) = 0;
  // Writes what is new and reads what others have written. `last`: there will be no further call
  // for this owner, unless it is opened again, for which Load need not come. Called by the keeper's
  // thread, and may take some seconds at most.
  virtual absl::Status Sync(const DraftOwner& owner, bool last, LearnedState& state) = 0;
  // Of a place that other processes read and write. May be asked by any thread.
  virtual std::optional<SharedDraftsStats> shared_stats() const { return std::nullopt; }
};

// Passes one thing from one thread to one other. Neither waits.
template <typename T>
class Slot {
 public:
  Slot() = default;
  ~Slot() { delete value_.load(); }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;

  bool empty() const { return value_.load(std::memory_order_acquire) == nullptr; }
  // Drops what is in the slot.
  void Put(T value) { delete value_.exchange(new T(std::move(value)), std::memory_order_acq_rel); }
  std::unique_ptr<T> Take() {
    return std::unique_ptr<T>(value_.exchange(nullptr, std::memory_order_acq_rel));
  }

 private:
  std::atomic<T*> value_{nullptr};
};

// A scope of a drafter, from Open until the drafter lets go of it.
class KeptScope {
 public:
  explicit KeptScope(DraftOwner owner) : owner_(std::move(owner)) {}

  // Exports. The drafter's thread fills the one and empties the other.
  Slot<std::vector<std::string>>& learned() { return learned_; }
  Slot<std::vector<std::string>>& heard() { return heard_; }

 private:
  friend class DraftKeeper;

  const DraftOwner owner_;
  Slot<std::vector<std::string>> learned_;
  Slot<std::vector<std::string>> heard_;
  std::atomic<bool> forgotten_{false};   // by the drafter, since it was opened
  std::unique_ptr<LearnedState> state_;  // the keeper's thread's once the scope is open
  bool is_loaded_ = false;               // the keeper's thread's
  SteadyEvent loaded_;                   // places have been asked for what they have at hand
};

struct DraftKeeperOptions {
  std::string model;  // DraftOwner::model
  absl::Duration interval = absl::Milliseconds(300);
  size_t heard_bytes = size_t{8} << 10;  // of an export for drafters
  // How long Open waits for what places have at hand; what comes later is heard later.
  absl::Duration load_wait = absl::Milliseconds(5);
  // Kept at a time, those that wait for their places included: of a drafter no more than it has,
  // and as a rule two drafters learn. Each has a copy of what its drafter knows.
  size_t max_scopes = 2 * kMostScopes;
  // Where so many of them have been let go of, but have not been brought to their places yet, no
  // new ones are opened: no drafter counts their copies as memory of its own, and places may be
  // slow.
  size_t max_closed_scopes = 64;
  // After which the destructor asks no place any more.
  absl::Duration last_turn = absl::Seconds(10);
  std::vector<std::shared_ptr<DraftPlace>> places;
};

// Thread-safe.
class DraftKeeper {
 public:
  struct Stats {
    uint64_t turns = 0;     // of a scope at a place
    uint64_t failures = 0;  // of these
    absl::Status last_failure;
  };

  explicit DraftKeeper(DraftKeeperOptions options);
  // Brings everything to its places a last time: all to the first place before the second, so that
  // one that does not answer costs none of what the others could have had.
  ~DraftKeeper();
  DraftKeeper(const DraftKeeper&) = delete;
  DraftKeeper& operator=(const DraftKeeper&) = delete;

  // The drafter's scope, which is kept as long as the result lives; what places have at hand is in
  // `heard` already, where they told it within load_wait. The state is empty, and dropped where an
  // earlier life of the scope is still kept, of which everything will be in `heard`. Null where
  // there is no room for another scope: it may be asked for again later.
  std::shared_ptr<KeptScope> Open(std::string_view drafter, std::string_view scope,
                                  std::unique_ptr<LearnedState> state);

  absl::Duration interval() const { return options_.interval; }
  Stats stats() const;

 private:
  void Run();
  void Turn();  // of every scope
  void LoadNew();
  void LastTurn();
  void Sync(KeptScope& scope, bool last);
  static void TakeLearned(KeptScope& scope);
  void TellDrafter(KeptScope& scope) const;
  void SyncAt(DraftPlace& place, KeptScope& scope, bool last);
  bool Stopping() const;

  const DraftKeeperOptions options_;
  mutable absl::Mutex mutex_;  // never held where a place is asked
  // Those that are open have one reference more, their drafter's. None but the keeper's thread
  // removes one.
  std::map<std::pair<std::string, std::string>, std::shared_ptr<KeptScope>> scopes_
      ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  SteadyEvent wake_;  // a scope was opened, or stop_
  Stats stats_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_DRAFT_KEEPER_H_

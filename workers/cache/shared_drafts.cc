#include "workers/cache/shared_drafts.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <random>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace octogate::workers {
namespace {

using Steady = std::chrono::steady_clock;

// Exports of another format are under other names.
constexpr std::string_view kFormat = "1";
constexpr std::string_view kMark = "octogate drafts 1\n";
constexpr size_t kDigestBytes = 64;
constexpr size_t kMaxPublications = 1024;  // that are listed, of all replicas
constexpr size_t kMaxSnapshots = 16;
// A snapshot becomes old after this share of the time that its owner is known, and at least
constexpr double kSnapshotShare = 0.25;
constexpr absl::Duration kLeastSnapshotInterval = absl::Seconds(2);
constexpr int kNumberDigits = 12;

// Of fields that cannot run into each other.
std::string IdentityOf(const DraftOwner& owner) {
  return absl::StrCat(ToAbsl(kFormat), ",", owner.model.size(), ":", owner.model, ",",
                      owner.drafter.size(), ":", owner.drafter, ",", owner.scope.size(), ":",
                      owner.scope);
}

// As HMAC, with keys that fill a block of SHA-256 each.
std::string KeyedDigest(std::string_view secret, std::string_view text) {
  const std::string inner = Sha256Hex(absl::StrCat("inner ", ToAbsl(secret)));
  const std::string outer = Sha256Hex(absl::StrCat("outer ", ToAbsl(secret)));
  return Sha256Hex(absl::StrCat(outer, Sha256Hex(absl::StrCat(inner, ToAbsl(text)))));
}

std::string SealOf(const DraftOwner& owner, std::string_view secret, std::string_view exported) {
  return KeyedDigest(secret,
                     absl::StrCat(KeyedDigest(secret, IdentityOf(owner)), ToAbsl(exported)));
}

absl::Duration SinceSteady(Steady::time_point time) {
  return absl::FromChrono(Steady::now() - time);
}

std::string RandomReplica() {
  std::random_device random;
  return absl::StrFormat("%08x%08x", random(), random());
}

// "REPLICA/NUMBER"
struct Publication {
  std::string replica;
  uint64_t number = 0;
};
std::optional<Publication> ParsePublication(std::string_view name) {
  const size_t slash = name.find('/');
  Publication publication;
  if (slash == std::string_view::npos || slash == 0 ||
      name.size() - slash - 1 != static_cast<size_t>(kNumberDigits) ||
      !absl::SimpleAtoi(ToAbsl(name.substr(slash + 1)), &publication.number)) {
    return std::nullopt;
  }
  publication.replica = name.substr(0, slash);
  return publication;
}

// The size of a snapshot, behind the last "-" of its name; 0 where there is none.
uint64_t SnapshotSize(std::string_view name) {
  uint64_t size = 0;
  const std::string_view text = name.substr(name.rfind('-') + 1);
  return absl::SimpleAtoi(ToAbsl(text), &size) ? size : 0;
}

class StoredDrafts : public SharedDrafts {
 public:
  StoredDrafts(Store* store, SharedDraftsOptions options)
      : store_(*store), options_(std::move(options)), replica_(RandomReplica()) {}

  void Load(const DraftOwner&, LearnedState&) override {}

  absl::Status Sync(const DraftOwner& owner, bool last, LearnedState& state) override {
    const std::string prefix = SharedDraftsPrefix(owner, options_.secret);
    until_ = SteadyNow() + 3 * options_.call_timeout;
    const auto [found, is_new] = known_.try_emplace(prefix);
    Known& known = found->second;
    if (is_new) known.replica = absl::StrCat(replica_, "-", ++lives_);
    absl::Status status;
    if (last || Due(known, state)) {
      status = Exchange({owner, prefix, known, state}, last);
      known.changes = state.changes();
    }
    if (last) known_.erase(prefix);
    return status;
  }

  Stats stats() const override {
    Stats stats;
    {
      absl::MutexLock lock(&mutex_);
      stats = stats_;
    }
    if (options_.tell_store) options_.tell_store(stats);
    return stats;
  }

 private:
  // Of an owner.
  struct Known {
    // Whose numbers begin with 1: one that is opened again is another replica to the others.
    std::string replica;
    Steady::time_point since = Steady::now();
    Steady::time_point next_look;
    absl::Duration pause;
    bool has_failed = false;
    uint64_t changes = 0;  // when it was last looked at

    uint64_t published = 0;                    // number of the last publication
    std::map<std::string, uint64_t> replicas;  // the last publication that was read
    uint64_t snapshots_written = 0;
    struct Snapshot {
      Steady::time_point since = Steady::now();
      bool is_read = false;
      bool is_bad = false;
    };
    std::map<std::string, Snapshot> snapshots;  // that are there
    bool wants_snapshot = true;                 // one that was not read yet
    bool owes_snapshot = false;                 // what was to be published is lost
    uint64_t snapshot_changes = 0;              // that the newest one has
  };
  struct Turn {
    const DraftOwner& owner;
    const std::string& prefix;
    Known& known;
    LearnedState& state;
  };

  static bool Due(const Known& known, const LearnedState& state) {
    const bool has_news = state.changes() != known.changes && !known.has_failed;
    return has_news || Steady::now() >= known.next_look;
  }

  absl::Status Exchange(const Turn& turn, bool last) {
    Known& known = turn.known;
    const uint64_t before = turn.state.changes();
    const absl::Status status = TryExchange(turn, last);
    known.has_failed = !status.ok();
    // Looks less often while nothing happens, or nothing can.
    const bool is_quiet =
        known.has_failed || (turn.state.changes() == before && before == known.changes);
    known.pause =
        is_quiet ? std::min(std::max(2 * known.pause, absl::Milliseconds(250)), options_.max_pause)
                 : absl::ZeroDuration();
    known.next_look = Steady::now() + absl::ToChronoNanoseconds(known.pause);
    return status;
  }

  absl::Status TryExchange(const Turn& turn, bool last) {
    size_t budget = options_.read_bytes;
    OCTOGATE_RETURN_IF_ERROR(ListSnapshots(turn));
    OCTOGATE_RETURN_IF_ERROR(ReadPublications(turn, budget));
    if (turn.known.wants_snapshot) OCTOGATE_RETURN_IF_ERROR(ReadSnapshots(turn, budget));
    do {
      const std::string learned = turn.state.TakeForOthers(options_.publication_bytes);
      if (learned.empty()) break;
      const absl::Status published = Publish(turn, learned);
      if (!published.ok()) {
        turn.known.owes_snapshot = true;
        return published;
      }
    } while (last);
    return SnapshotDue(turn, last) ? WriteSnapshot(turn) : absl::OkStatus();
  }

  absl::Status ListSnapshots(const Turn& turn) {
    const std::string prefix = absl::StrCat(turn.prefix, "s/");
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                              store_.List(prefix, "", kMaxSnapshots, Deadline()));
    std::map<std::string, Known::Snapshot> snapshots;
    for (const std::string& name : names) {
      const auto found = turn.known.snapshots.find(name);
      if (found != turn.known.snapshots.end()) {
        snapshots.insert(*found);
      } else {
        snapshots.try_emplace(name);
        // Whoever has written it need not have heard what was published since the last look.
        turn.known.snapshot_changes = turn.known.changes;
      }
    }
    turn.known.snapshots = std::move(snapshots);
    return absl::OkStatus();
  }

  absl::Status ReadPublications(const Turn& turn, size_t& budget) {
    const std::string prefix = absl::StrCat(turn.prefix, "p/");
    OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                              store_.List(prefix, "", kMaxPublications, Deadline()));
    std::map<std::string, uint64_t> replicas;
    for (const std::string& name : names) {
      const auto publication = ParsePublication(std::string_view(name).substr(prefix.size()));
      if (!publication || publication->replica == turn.known.replica) continue;
      const auto known = turn.known.replicas.find(publication->replica);
      const bool is_known = known != turn.known.replicas.end();
      uint64_t& last_read = replicas[publication->replica];
      if (is_known) last_read = std::max(last_read, known->second);
      if (publication->number <= last_read) continue;
      if (publication->number != last_read + 1) turn.known.wants_snapshot = true;
      if (budget == 0) continue;
      const absl::Status heard = Hear(turn, name, budget);
      if (absl::IsUnavailable(heard) || absl::IsDeadlineExceeded(heard)) {
        turn.known.replicas.insert(replicas.begin(), replicas.end());
        return heard;
      }
      if (!heard.ok()) turn.known.wants_snapshot = true;
      last_read = publication->number;
      turn.known.replicas[publication->replica] = last_read;
    }
    turn.known.replicas = std::move(replicas);
    return absl::OkStatus();
  }

  absl::Status ReadSnapshots(const Turn& turn, size_t& budget) {
    for (auto& [name, snapshot] : turn.known.snapshots) {
      if (snapshot.is_read || snapshot.is_bad || budget == 0) continue;
      const absl::Status heard = Hear(turn, name, budget);
      if (heard.ok()) {
        snapshot.is_read = true;
        turn.known.wants_snapshot = false;
      } else if (absl::IsUnavailable(heard) || absl::IsDeadlineExceeded(heard)) {
        return heard;
      } else {
        snapshot.is_bad = true;
      }
    }
    return absl::OkStatus();
  }

  // Reads, checks and merges a value.
  absl::Status Hear(const Turn& turn, const std::string& name, size_t& budget) {
    const absl::StatusOr<std::string> sealed = store_.Get(name, Deadline());
    if (absl::IsNotFound(sealed.status())) return sealed.status();
    absl::Status heard = sealed.status();
    size_t bytes = 0;
    if (sealed.ok()) {
      bytes = sealed->size();
      const absl::StatusOr<std::string> exported = OpenDrafts(turn.owner, options_.secret, *sealed);
      heard = exported.ok() ? turn.state.Heard(*exported) : exported.status();
    }
    budget -= std::min(budget, bytes);
    const bool is_refused = absl::IsDataLoss(heard) || absl::IsInvalidArgument(heard);
    absl::MutexLock lock(&mutex_);
    stats_.read_bytes += bytes;
    if (heard.ok()) ++stats_.merged;
    if (is_refused) ++stats_.refused;
    return heard;
  }

  absl::Status Publish(const Turn& turn, const std::string& learned) {
    const uint64_t number = ++turn.known.published;
    const std::string sealed = SealDrafts(turn.owner, options_.secret, learned);
    OCTOGATE_RETURN_IF_ERROR(store_.Put(PublicationName(turn, number), sealed,
                                        absl::Now() + options_.publication_expiry, Deadline()));
    {
      absl::MutexLock lock(&mutex_);
      ++stats_.publications;
      stats_.published_bytes += sealed.size();
    }
    const auto kept = static_cast<uint64_t>(std::max(options_.publications, 1));
    if (number <= kept) return absl::OkStatus();
    return store_.Delete(PublicationName(turn, number - kept), Deadline());
  }

  bool SnapshotDue(const Turn& turn, bool last) const {
    const Known& known = turn.known;
    if (turn.state.changes() == 0) return false;
    absl::Duration age = absl::InfiniteDuration();  // of the newest
    uint64_t size = 0;                              // of the largest
    for (const auto& [name, snapshot] : known.snapshots) {
      if (snapshot.is_bad) continue;
      age = std::min(age, SinceSteady(snapshot.since));
      size = std::max(size, SnapshotSize(name));
    }
    if (age == absl::InfiniteDuration() || known.owes_snapshot) return true;
    if (age > options_.snapshot_expiry / 3) return true;
    // Whoever was first after the store had lost one may know little.
    if (age > kLeastSnapshotInterval && turn.state.size() > size + size / 8) return true;
    if (turn.state.changes() == known.snapshot_changes) return false;
    const absl::Duration interval =
        std::clamp(kSnapshotShare * SinceSteady(known.since), kLeastSnapshotInterval,
                   std::max(options_.snapshot_interval, kLeastSnapshotInterval));
    // Replicas take their turns: the last digit of their names says after how much more.
    const auto digit = static_cast<double>(replica_.back() % 16);
    return last || age > interval * (1 + digit / 64);
  }

  absl::Status WriteSnapshot(const Turn& turn) {
    Known& known = turn.known;
    const std::string name = absl::StrCat(turn.prefix, "s/", known.replica, "-",
                                          ++known.snapshots_written, "-", turn.state.size());
    const std::string sealed = SealDrafts(turn.owner, options_.secret, turn.state.Export());
    OCTOGATE_RETURN_IF_ERROR(
        store_.Put(name, sealed, absl::Now() + options_.snapshot_expiry, Deadline()));
    {
      absl::MutexLock lock(&mutex_);
      ++stats_.snapshots;
      stats_.published_bytes += sealed.size();
    }
    known.owes_snapshot = false;
    known.snapshot_changes = turn.state.changes();
    // What all the others had is in this one, or could not be read.
    std::map<std::string, Known::Snapshot> replaced;
    std::swap(replaced, known.snapshots);
    known.snapshots[name].is_read = true;
    for (const auto& [other, _] : replaced) {
      if (other == name) continue;
      OCTOGATE_RETURN_IF_ERROR(store_.Delete(other, Deadline()));
    }
    return absl::OkStatus();
  }

  static std::string PublicationName(const Turn& turn, uint64_t number) {
    return absl::StrFormat("%sp/%s/%0*d", turn.prefix, turn.known.replica, kNumberDigits, number);
  }
  absl::Time Deadline() const {
    return absl::Now() + std::min(options_.call_timeout, until_ - SteadyNow());
  }

  Store& store_;
  const SharedDraftsOptions options_;
  const std::string replica_;
  uint64_t lives_ = 0;
  absl::Time until_;                    // deadline of all calls of a Sync, by SteadyNow()
  std::map<std::string, Known> known_;  // by prefix
  mutable absl::Mutex mutex_;
  Stats stats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::string SharedDraftsPrefix(const DraftOwner& owner, std::string_view secret) {
  // All of a model have one first part.
  const std::string model = KeyedDigest(secret, absl::StrCat(ToAbsl(kFormat), ",", owner.model));
  return absl::StrCat("drafts-", model.substr(0, 32), "/", owner.drafter, "-",
                      KeyedDigest(secret, IdentityOf(owner)), "/");
}

std::string SealDrafts(const DraftOwner& owner, std::string_view secret,
                       std::string_view exported) {
  return absl::StrCat(ToAbsl(kMark), SealOf(owner, secret, exported), ToAbsl(exported));
}

absl::StatusOr<std::string> OpenDrafts(const DraftOwner& owner, std::string_view secret,
                                       std::string_view sealed) {
  if (!sealed.starts_with(kMark) || sealed.size() < kMark.size() + kDigestBytes) {
    return absl::DataLossError("not what a replica has learned, or in another format");
  }
  const std::string_view digest = sealed.substr(kMark.size(), kDigestBytes);
  const std::string_view exported = sealed.substr(kMark.size() + kDigestBytes);
  if (SealOf(owner, secret, exported) != digest) {
    return absl::DataLossError("what a replica has learned is damaged, or of another scope");
  }
  return std::string(exported);
}

std::shared_ptr<SharedDrafts> ShareDrafts(Store* store, SharedDraftsOptions options) {
  return std::make_shared<StoredDrafts>(store, std::move(options));
}

}  // namespace octogate::workers

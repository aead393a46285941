#include "common/memory_store.h"

#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/local_notifier.h"
#include "common/strings.h"

namespace octogate {
namespace {

class MemoryStore final : public Store {
 public:
  explicit MemoryStore(MemoryStoreOptions options) : options_(std::move(options)) {}

  absl::StatusOr<std::string> Get(std::string_view key, absl::Time deadline) override {
    const absl::Time now = options_.clock();
    if (absl::Status status = Check(key, now, deadline); !status.ok()) return status;
    absl::MutexLock lock(&mutex_);
    const auto entry = FindLive(key, now);
    if (entry == entries_.end()) return absl::NotFoundError(absl::StrCat("no value ", Quoted(key)));
    return entry->second.value;
  }

  absl::Status Put(std::string_view key, std::string_view value, absl::Time expires_at,
                   absl::Time deadline) override {
    const absl::Time now = options_.clock();
    if (absl::Status status = Check(key, now, deadline); !status.ok()) return status;
    absl::MutexLock lock(&mutex_);
    return Set(key, value, now, expires_at);
  }

  absl::Status CompareAndSet(std::string_view key, std::optional<std::string_view> expected,
                             std::string_view value, absl::Time expires_at,
                             absl::Time deadline) override {
    const absl::Time now = options_.clock();
    if (absl::Status status = Check(key, now, deadline); !status.ok()) return status;
    absl::MutexLock lock(&mutex_);
    const auto entry = FindLive(key, now);
    const bool present = entry != entries_.end();
    if (present != expected.has_value() || (present && entry->second.value != *expected)) {
      return absl::AbortedError(
          absl::StrCat("the value ", Quoted(key), " is not the expected one"));
    }
    return Set(key, value, now, expires_at);
  }

  absl::StatusOr<std::vector<std::string>> List(std::string_view prefix, std::string_view after,
                                                size_t limit, absl::Time deadline) override {
    const absl::Time now = options_.clock();
    if (absl::Status status = CheckDeadline(now, deadline); !status.ok()) return status;
    std::vector<std::string> keys;
    absl::MutexLock lock(&mutex_);
    auto entry = after >= prefix ? entries_.upper_bound(after) : entries_.lower_bound(prefix);
    for (; entry != entries_.end() && keys.size() < limit; ++entry) {
      if (entry->first.compare(0, prefix.size(), prefix) != 0) break;
      if (entry->second.expires_at > now) keys.push_back(entry->first);
    }
    return keys;
  }

  absl::Status Delete(std::string_view key, absl::Time deadline) override {
    if (absl::Status status = Check(key, options_.clock(), deadline); !status.ok()) return status;
    absl::MutexLock lock(&mutex_);
    const auto entry = entries_.find(key);
    if (entry != entries_.end()) Erase(entry);
    return absl::OkStatus();
  }

  absl::Status Notify(std::string_view topic, absl::Time) override {
    notifier_.Notify(topic);
    return absl::OkStatus();
  }

  std::unique_ptr<StoreWatch> Watch(std::string_view topic,
                                    std::function<void()> on_notified) override {
    return notifier_.Watch(topic, std::move(on_notified));
  }

 private:
  struct Value {
    std::string value;
    absl::Time expires_at;
  };
  using Entries = std::map<std::string, Value, std::less<>>;

  static absl::Status CheckDeadline(absl::Time now, absl::Time deadline) {
    if (now < deadline) return absl::OkStatus();
    return absl::DeadlineExceededError("the deadline passed before the store was asked");
  }

  static absl::Status Check(std::string_view key, absl::Time now, absl::Time deadline) {
    if (key.empty() || key.size() > kMaxKeyBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("a key has 1 to ", kMaxKeyBytes, " bytes, this one ", key.size()));
    }
    return CheckDeadline(now, deadline);
  }

  Entries::iterator FindLive(std::string_view key, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto entry = entries_.find(key);
    if (entry == entries_.end() || entry->second.expires_at > now) return entry;
    Erase(entry);
    return entries_.end();
  }

  void Erase(Entries::iterator entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bytes_ -= entry->first.size() + entry->second.value.size();
    entries_.erase(entry);
  }

  absl::Status Set(std::string_view key, std::string_view value, absl::Time now,
                   absl::Time expires_at) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (value.size() > options_.max_value_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("the value ", Quoted(key), " has ",
                                                       value.size(), " bytes; at most ",
                                                       options_.max_value_bytes, " are allowed"));
    }
    const auto present = entries_.find(key);
    const size_t freed = present == entries_.end() ? 0 : key.size() + present->second.value.size();
    const size_t needed = key.size() + value.size();
    if (bytes_ - freed + needed > options_.max_total_bytes) {
      for (auto entry = entries_.begin(); entry != entries_.end();) {
        const auto next = std::next(entry);
        if (entry->second.expires_at <= now && entry != present) Erase(entry);
        entry = next;
      }
    }
    if (bytes_ - freed + needed > options_.max_total_bytes) {
      return absl::ResourceExhaustedError(absl::StrCat("the store holds ", bytes_, " of at most ",
                                                       options_.max_total_bytes, " bytes"));
    }
    bytes_ += needed - freed;
    entries_.insert_or_assign(std::string(key), Value{std::string(value), expires_at});
    return absl::OkStatus();
  }

  const MemoryStoreOptions options_;
  LocalNotifier notifier_;
  absl::Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  size_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

std::unique_ptr<Store> MakeMemoryStore(MemoryStoreOptions options) {
  return std::make_unique<MemoryStore>(std::move(options));
}

}  // namespace octogate

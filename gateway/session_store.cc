#include "gateway/session_store.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// Of another gateway's clock.
constexpr absl::Duration kMaxClockSkew = absl::Minutes(1);
constexpr size_t kMaxNodeBytes = 256;

// Names may have any bytes: their lengths tell where they end.
std::string KeyOf(std::string_view tenant, std::string_view session, std::string_view router) {
  return absl::StrCat(tenant.size(), ":", ToAbsl(tenant), session.size(), ":", ToAbsl(session),
                      ToAbsl(router));
}

// The server sees no names of tenants and sessions.
std::string SharedKeyOf(const std::string& key) { return "session/" + Sha256Hex(key); }

struct Word {
  std::string node;
  absl::Time used;
};

std::string Write(const Word& word) {
  return absl::StrCat(absl::ToUnixMillis(word.used), " ", word.node);
}

std::optional<Word> Read(std::string_view value) {
  const size_t space = value.find(' ');
  int64_t milliseconds = 0;
  if (space == std::string_view::npos || space + 1 == value.size() ||
      value.size() - space > kMaxNodeBytes ||
      !absl::SimpleAtoi(ToAbsl(value.substr(0, space)), &milliseconds)) {
    return std::nullopt;
  }
  return Word{.node = std::string(value.substr(space + 1)),
              .used = absl::FromUnixMillis(milliseconds)};
}

}  // namespace

SessionStore::SessionStore(SessionStoreOptions options, SharedValues* shared)
    : options_(std::move(options)), shared_(shared) {}

SessionStore::Entry* SessionStore::Look(const std::string& key, absl::Time now) {
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  const auto entry = found->second;
  if (now < entry->used + options_.kept_for) return &*entry;
  by_key_.erase(found);
  entries_.erase(entry);
  return nullptr;
}

SessionStore::Entry& SessionStore::Place(std::string key, std::string_view node, absl::Time used,
                                         absl::Time now) {
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
  } else {
    entries_.push_front({.key = key, .node = {}, .used = used, .checked = now});
    by_key_.emplace(std::move(key), entries_.begin());
  }
  Entry& placed = entries_.front();
  placed.node = std::string(node);
  placed.used = used;
  placed.checked = now;
  // Nearly in order of use, so that what has expired is at the end.
  while (entries_.size() > 1 && (entries_.size() > options_.max_entries ||
                                 now >= entries_.back().used + options_.kept_for)) {
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
  return placed;
}

std::string SessionStore::Find(std::string_view tenant, std::string_view session,
                               std::string_view router) {
  const std::string key = KeyOf(tenant, session, router);
  const absl::Time now = options_.clock();
  absl::MutexLock lock(&mutex_);
  const Entry* const entry = Look(key, now);
  return entry == nullptr ? std::string() : entry->node;
}

void SessionStore::Find(std::string_view tenant, std::string_view session, std::string_view router,
                        std::function<void(std::string node)> done) {
  std::string key = KeyOf(tenant, session, router);
  const absl::Time now = options_.clock();
  std::string node;
  bool ask = shared_ != nullptr;
  {
    absl::MutexLock lock(&mutex_);
    if (const Entry* const entry = Look(key, now); entry != nullptr) {
      node = entry->node;
      // A clock that was set back makes nothing believed for longer.
      ask = ask && (now >= entry->checked + options_.believed_for || now < entry->checked);
    }
  }
  if (!ask) {
    done(std::move(node));
    return;
  }
  std::string shared_key = SharedKeyOf(key);
  shared_->Get({std::move(shared_key)},
               [this, key = std::move(key), done = std::move(done)](SharedValues::Values values) {
                 done(OnShared(key, values.front()));
               });
}

std::string SessionStore::OnShared(const std::string& key,
                                   const absl::StatusOr<std::string>& value) {
  const absl::Time now = options_.clock();
  const std::optional<Word> word = value.ok() ? Read(*value) : std::nullopt;
  // A word from the future would hold against every other.
  const bool damaged = value.ok() && (!word.has_value() || word->used > now + kMaxClockSkew);
  if (damaged) shared_->CountRefused();
  absl::MutexLock lock(&mutex_);
  Entry* const entry = Look(key, now);
  const bool usable = word.has_value() && !damaged && now < word->used + options_.kept_for;
  if (usable && (entry == nullptr || word->used > entry->used)) {
    Place(key, word->node, word->used, now).told = word->used;
    return word->node;
  }
  if (entry == nullptr) return "";
  if (usable || absl::IsNotFound(value.status())) entry->checked = now;
  // The server has lost what it was told, or holds another's older word.
  if (!usable || word->node != entry->node) entry->told = absl::InfinitePast();
  return entry->node;
}

void SessionStore::Set(std::string_view tenant, std::string_view session, std::string_view router,
                       std::string_view node) {
  std::string key = KeyOf(tenant, session, router);
  const absl::Time now = options_.clock();
  std::string shared_key;
  {
    absl::MutexLock lock(&mutex_);
    const Entry* const before = Look(key, now);
    const bool tell =
        shared_ != nullptr && (before == nullptr || before->node != node ||
                               now >= before->told + options_.renewed_after || now < before->told);
    if (tell) shared_key = SharedKeyOf(key);
    Entry& entry = Place(std::move(key), node, now, now);
    if (!tell) return;
    entry.told = now;
  }
  shared_->Put(std::move(shared_key), Write({.node = std::string(node), .used = now}),
               options_.kept_for);
}

}  // namespace octogate::gateway

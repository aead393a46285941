#include "gateway/session_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// Names may have any bytes: their lengths tell where they end.
std::string KeyOf(std::string_view tenant, std::string_view session, std::string_view router) {
  return absl::StrCat(tenant.size(), ":", ToAbsl(tenant), session.size(), ":", ToAbsl(session),
                      ToAbsl(router));
}

}  // namespace

SessionStore::SessionStore(SessionStoreOptions options) : options_(std::move(options)) {}

std::string SessionStore::Find(std::string_view tenant, std::string_view session,
                               std::string_view router) {
  const std::string key = KeyOf(tenant, session, router);
  const absl::Time now = options_.clock();
  absl::MutexLock lock(&mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return "";
  const auto entry = found->second;
  if (now >= entry->used + options_.kept_for) {
    by_key_.erase(found);
    entries_.erase(entry);
    return "";
  }
  return entry->node;
}

void SessionStore::Set(std::string_view tenant, std::string_view session, std::string_view router,
                       std::string_view node) {
  std::string key = KeyOf(tenant, session, router);
  const absl::Time now = options_.clock();
  absl::MutexLock lock(&mutex_);
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    entries_.front().node = std::string(node);
    entries_.front().used = now;
    return;
  }
  entries_.push_front({.key = key, .node = std::string(node), .used = now});
  by_key_.emplace(std::move(key), entries_.begin());
  // In order of use, so that what has expired is at the end.
  while (entries_.size() > options_.max_entries ||
         now >= entries_.back().used + options_.kept_for) {
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
    if (entries_.empty()) break;
  }
}

}  // namespace octogate::gateway

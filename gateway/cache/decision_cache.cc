#include "gateway/cache/decision_cache.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"
#include "common/strings.h"

namespace octogate::gateway {
namespace {

// Fewer entries than that are not worth a shard.
constexpr size_t kLeastPerShard = 64;

size_t ShardsFor(size_t max_entries) {
  return std::clamp<size_t>(max_entries / kLeastPerShard, 1, DecisionCache::kShards);
}

}  // namespace

DecisionCache::DecisionCache(size_t max_entries, size_t max_bytes)
    : max_entries_(max_entries),
      shards_(ShardsFor(max_entries)),
      entries_per_shard_(max_entries / shards_),
      bytes_per_shard_(max_bytes / shards_),
      shard_(std::make_unique<Shard[]>(shards_)) {}

std::string DecisionCache::KeyOf(std::string_view tenant, std::string_view router,
                                 std::string_view query, const router::RouteOptions& options,
                                 bool reads_session) {
  // Every part but the last has its length before it.
  std::string key = absl::StrCat(tenant.size(), ":", ToAbsl(tenant), router.size(), ":",
                                 ToAbsl(router), options.excluded.size(), ";");
  for (const std::string& name : options.excluded) absl::StrAppend(&key, name.size(), ":", name);
  if (reads_session && !options.session_node.empty()) {
    absl::StrAppend(&key, options.stay ? "stay" : "near", options.session_node.size(), ":",
                    options.session_node);
  } else {
    key.push_back('-');
  }
  absl::StrAppend(&key, ToAbsl(query));
  return key;
}

DecisionCache::Shard& DecisionCache::ShardOf(std::string_view key) const {
  return shard_[absl::HashOf(key) % shards_];
}

std::optional<v1::Decision> DecisionCache::Find(const std::string& key) {
  std::optional<v1::Decision> decision;
  Shard& shard = ShardOf(key);
  absl::MutexLock lock(&shard.mutex);
  ++shard.counts.lookups;
  const auto found = shard.by_key.find(key);
  if (found == shard.by_key.end()) return decision;
  ++shard.counts.hits;
  shard.entries.splice(shard.entries.begin(), shard.entries, found->second);
  decision.emplace();
  decision->ParseFromString(found->second->decision);
  return decision;
}

std::optional<v1::Decision> DecisionCache::Peek(const std::string& key) const {
  std::optional<v1::Decision> decision;
  const Shard& shard = ShardOf(key);
  absl::MutexLock lock(&shard.mutex);
  const auto found = shard.by_key.find(key);
  if (found == shard.by_key.end()) return decision;
  decision.emplace();
  decision->ParseFromString(found->second->decision);
  return decision;
}

v1::Decision DecisionCache::AsKept(v1::Decision decision) {
  decision.set_cached(true);
  decision.clear_usage();
  decision.clear_duration_us();
  for (v1::HeadScore& head : *decision.mutable_heads()) head.clear_duration_us();
  return decision;
}

void DecisionCache::Put(std::string_view tenant, std::string key, const v1::Decision& decision,
                        uint64_t epoch) {
  if (!router::IsRepeatable(decision)) return;
  Entry entry{.key = std::move(key),
              .tenant = std::string(tenant),
              .decision = decision.SerializeAsString()};
  const auto bytes = static_cast<int64_t>(entry.bytes());
  const auto most = static_cast<int64_t>(bytes_per_shard_);
  if (entry.bytes() > kMaxEntryBytes || bytes > most || entries_per_shard_ == 0) return;
  Shard& shard = ShardOf(entry.key);
  absl::MutexLock lock(&shard.mutex);
  // A flush that is not seen here comes after, and finds the entry.
  if (epoch != epoch_.load()) return;
  // A follower that had not the time to wait made the same decision.
  if (shard.by_key.contains(entry.key)) return;
  while (shard.entries.size() >= entries_per_shard_ || shard.counts.bytes + bytes > most) {
    const Entry& last = shard.entries.back();
    shard.counts.bytes -= static_cast<int64_t>(last.bytes());
    ++shard.counts.evictions;
    shard.by_key.erase(last.key);
    shard.entries.pop_back();
  }
  shard.entries.push_front(std::move(entry));
  shard.by_key.emplace(shard.entries.front().key, shard.entries.begin());
  shard.counts.bytes += bytes;
  ++shard.counts.writes;
}

CacheCounts DecisionCache::Flush(std::string_view tenant) {
  CacheCounts flushed;
  epoch_.fetch_add(1);
  for (size_t i = 0; i < shards_; ++i) {
    Shard& shard = shard_[i];
    absl::MutexLock lock(&shard.mutex);
    for (auto entry = shard.entries.begin(); entry != shard.entries.end();) {
      if (!tenant.empty() && entry->tenant != tenant) {
        ++entry;
        continue;
      }
      const auto bytes = static_cast<int64_t>(entry->bytes());
      ++flushed.entries;
      flushed.bytes += bytes;
      shard.counts.bytes -= bytes;
      shard.by_key.erase(entry->key);
      entry = shard.entries.erase(entry);
    }
  }
  return flushed;
}

CacheCounts DecisionCache::Counts(std::string_view tenant) const {
  CacheCounts sum;
  for (size_t i = 0; i < shards_; ++i) {
    const Shard& shard = shard_[i];
    absl::MutexLock lock(&shard.mutex);
    sum.lookups += shard.counts.lookups;
    sum.hits += shard.counts.hits;
    sum.writes += shard.counts.writes;
    sum.evictions += shard.counts.evictions;
    if (tenant.empty()) {
      sum.entries += static_cast<int64_t>(shard.entries.size());
      sum.bytes += shard.counts.bytes;
      continue;
    }
    for (const Entry& entry : shard.entries) {
      if (entry.tenant != tenant) continue;
      ++sum.entries;
      sum.bytes += static_cast<int64_t>(entry.bytes());
    }
  }
  return sum;
}

}  // namespace octogate::gateway

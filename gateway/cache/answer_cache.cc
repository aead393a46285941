#include "gateway/cache/answer_cache.h"

#include <algorithm>
#include <utility>

#include "retrieval/dot_product.h"

namespace octogate::gateway {

size_t AnswerCache::BytesOf(const Entry& entry) {
  const size_t floats = entry.vector == nullptr ? 0 : entry.vector->size();
  return sizeof(Entry) + 192 + entry.key.size() + 2 * entry.rest.size() + entry.tenant.size() +
         entry.answer->bytes() + floats * sizeof(float);
}

AnswerCache::AnswerCache(const v1::AnswerCache& settings, size_t max_bytes, Clock clock)
    : settings_(settings), max_bytes_(static_cast<int64_t>(max_bytes)), clock_(std::move(clock)) {}

bool AnswerCache::IsExpired(const KeptAnswer& answer) const {
  const absl::Duration age = clock_() - answer.given_at;
  // A clock that was set back makes nothing good for longer.
  return age < -absl::Minutes(1) || age >= absl::Milliseconds(settings_.expires_after_ms());
}

std::shared_ptr<const KeptAnswer> AnswerCache::Find(const AnswerKey& key) {
  const std::string whole = key.Whole();
  absl::MutexLock lock(&mutex_);
  ++counts_.lookups;
  const auto found = by_key_.find(whole);
  if (found == by_key_.end()) return nullptr;
  const auto entry = found->second;
  if (IsExpired(*entry->answer)) {
    Remove(entry);
    return nullptr;
  }
  ++counts_.hits;
  entries_.splice(entries_.begin(), entries_, entry);
  return entry->answer;
}

void AnswerCache::CountLookup() {
  absl::MutexLock lock(&mutex_);
  ++counts_.lookups;
}

std::shared_ptr<const KeptAnswer> AnswerCache::Peek(const AnswerKey& key) const {
  const std::string whole = key.Whole();
  absl::MutexLock lock(&mutex_);
  const auto found = by_key_.find(whole);
  if (found == by_key_.end() || IsExpired(*found->second->answer)) return nullptr;
  return found->second->answer;
}

AnswerCache::Alike AnswerCache::FindAlike(const AnswerKey& key,
                                          const std::vector<float>& vector) const {
  struct Candidate {
    std::shared_ptr<const KeptAnswer> answer;
    std::shared_ptr<const std::vector<float>> vector;
  };
  std::vector<Candidate> candidates;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = by_rest_.find(key.marks + key.rest);
    if (found == by_rest_.end()) return {};
    candidates.reserve(std::min(found->second.size(), kMaxCompared));
    for (const Entry* const entry : found->second) {
      if (candidates.size() == kMaxCompared) break;
      if (!IsExpired(*entry->answer)) candidates.push_back({entry->answer, entry->vector});
    }
  }
  static const retrieval::DotProductFunction kDotProduct = retrieval::FindDotProduct();
  Alike best;
  for (Candidate& candidate : candidates) {
    if (candidate.vector->size() != vector.size()) continue;
    const double similarity = kDotProduct(candidate.vector->data(), vector.data(), vector.size());
    // Not-a-numbers are not at least anything.
    if (!(similarity >= settings_.threshold())) continue;
    const bool better =
        best.answer == nullptr || similarity > best.similarity ||
        (similarity == best.similarity && candidate.answer->given_at > best.answer->given_at);
    if (better) best = {std::move(candidate.answer), similarity};
  }
  best.similarity = std::min(best.similarity, 1.0);
  return best;
}

void AnswerCache::CountUse(const AnswerKey& key, const KeptAnswer& answer) {
  const AnswerKey kept{
      .tenant = key.tenant, .rest = key.rest, .query = answer.query, .marks = key.marks};
  const std::string whole = kept.Whole();
  absl::MutexLock lock(&mutex_);
  ++counts_.hits;
  const auto found = by_key_.find(whole);
  if (found != by_key_.end()) entries_.splice(entries_.begin(), entries_, found->second);
}

bool AnswerCache::Put(const AnswerKey& key, std::shared_ptr<const KeptAnswer> answer,
                      std::vector<float> vector, uint64_t epoch) {
  Entry entry;
  entry.key = key.Whole();
  entry.tenant = key.tenant;
  entry.rest = key.marks + key.rest;
  entry.answer = std::move(answer);
  if (!vector.empty()) {
    entry.vector = std::make_shared<const std::vector<float>>(std::move(vector));
  }
  const size_t size = BytesOf(entry);
  const auto bytes = entry.bytes = static_cast<int64_t>(size);
  if (!enabled() || size > kMaxEntryBytes || bytes > max_bytes_) return false;
  absl::MutexLock lock(&mutex_);
  // A flush that is not seen here comes after, and finds the entry.
  if (epoch != epoch_.load()) return false;
  if (const auto found = by_key_.find(entry.key); found != by_key_.end()) Remove(found->second);
  while (entries_.size() >= static_cast<size_t>(settings_.max_entries()) ||
         counts_.bytes + bytes > max_bytes_) {
    Remove(std::prev(entries_.end()));
    ++counts_.evictions;
  }
  entries_.push_front(std::move(entry));
  const auto added = entries_.begin();
  by_key_.emplace(added->key, added);
  if (added->vector != nullptr) {
    std::list<const Entry*>& same = by_rest_[added->rest];
    added->place = same.insert(same.begin(), &*added);
  }
  counts_.bytes += bytes;
  ++counts_.writes;
  return true;
}

void AnswerCache::Remove(Entries::iterator entry) {
  counts_.bytes -= entry->bytes;
  by_key_.erase(entry->key);
  if (entry->vector != nullptr) {
    const auto same = by_rest_.find(entry->rest);
    same->second.erase(entry->place);
    if (same->second.empty()) by_rest_.erase(same);
  }
  entries_.erase(entry);
}

CacheCounts AnswerCache::Flush(std::string_view tenant) {
  CacheCounts flushed;
  epoch_.fetch_add(1);
  absl::MutexLock lock(&mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    if (tenant.empty() || entry->tenant == tenant) {
      ++flushed.entries;
      flushed.bytes += entry->bytes;
      Remove(entry);
    }
    entry = next;
  }
  return flushed;
}

CacheCounts AnswerCache::Counts(std::string_view tenant) const {
  absl::MutexLock lock(&mutex_);
  CacheCounts counts = counts_;
  counts.entries = static_cast<int64_t>(entries_.size());
  if (tenant.empty()) return counts;
  counts.entries = counts.bytes = 0;
  for (const Entry& entry : entries_) {
    if (entry.tenant != tenant) continue;
    ++counts.entries;
    counts.bytes += entry.bytes;
  }
  return counts;
}

}  // namespace octogate::gateway

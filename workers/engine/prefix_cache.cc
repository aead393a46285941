#include "workers/engine/prefix_cache.h"

#include <algorithm>
#include <cassert>

namespace octogate::workers {

uint64_t ChainHash(uint64_t parent, std::span<const int32_t> tokens) {
  uint64_t hash = parent;
  for (int32_t token : tokens) {
    // The finaliser of SplitMix64 (Steele, Lea and Flood 2014), with the state as its input.
    hash = (hash ^ static_cast<uint32_t>(token)) + 0x9e3779b97f4a7c15;
    hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
    hash ^= hash >> 31;
  }
  return hash;
}

uint64_t ContextHash(std::string_view context) {
  const std::vector<int32_t> bytes(context.begin(), context.end());
  return ChainHash(bytes.size(), bytes);
}

PrefixCache::PrefixCache(int pages, Hash hash)
    : hash_(hash),
      entries_(static_cast<size_t>(pages)),
      stamps_(std::make_shared<PageStamps>(pages)) {}

uint64_t PrefixCache::HashOf(std::string_view context, int32_t parent,
                             std::span<const int32_t> tokens) const {
  if (parent == kNone) return hash_(ContextHash(context), tokens);
  assert(contains(parent));
  return hash_(entries_[static_cast<size_t>(parent)].hash, tokens);
}

bool PrefixCache::Matches(const Entry& entry, std::string_view context, int32_t parent,
                          std::span<const int32_t> tokens) const {
  return entry.parent == parent && (parent != kNone || entry.context == context) &&
         std::equal(tokens.begin(), tokens.end(), entry.tokens.begin(), entry.tokens.end());
}

int32_t PrefixCache::Find(std::string_view context, int32_t parent,
                          std::span<const int32_t> tokens) const {
  const auto place = pages_by_hash_.find(HashOf(context, parent, tokens));
  if (place == pages_by_hash_.end()) return kNone;
  const Entry& entry = entries_[static_cast<size_t>(place->second)];
  return Matches(entry, context, parent, tokens) ? place->second : kNone;
}

int32_t PrefixCache::Insert(std::string_view context, int32_t parent,
                            std::span<const int32_t> tokens, int32_t page) {
  assert(!contains(page));
  const uint64_t hash = HashOf(context, parent, tokens);
  const auto [place, inserted] = pages_by_hash_.try_emplace(hash, page);
  if (!inserted) {
    const Entry& entry = entries_[static_cast<size_t>(place->second)];
    return Matches(entry, context, parent, tokens) ? place->second : kNone;
  }
  Entry& entry = entries_[static_cast<size_t>(page)];
  entry.entered = true;
  entry.hash = hash;
  entry.parent = parent;
  entry.tokens.assign(tokens.begin(), tokens.end());
  if (parent == kNone) {
    entry.context = context;
  } else {
    ++entries_[static_cast<size_t>(parent)].children;
  }
  return page;
}

void PrefixCache::Forget(int32_t page) {
  Entry& entry = entries_[static_cast<size_t>(page)];
  if (!entry.entered) return;
  assert(entry.children == 0);
  if (entry.parent != kNone) --entries_[static_cast<size_t>(entry.parent)].children;
  Remove(page);
}

std::vector<int32_t> PrefixCache::ForgetContexts(const ContextFilter& includes) {
  enum class Found : uint8_t { kUnknown, kIncluded, kNot };
  std::vector<Found> found(entries_.size(), Found::kUnknown);
  std::vector<int32_t> pages;
  std::vector<size_t> path;
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].entered) continue;
    // Up to the first page of the chain, or one that it is known of.
    path.clear();
    size_t at = i;
    while (found[at] == Found::kUnknown && entries_[at].parent != kNone) {
      path.push_back(at);
      at = static_cast<size_t>(entries_[at].parent);
    }
    if (found[at] == Found::kUnknown) {
      found[at] = includes(entries_[at].context) ? Found::kIncluded : Found::kNot;
    }
    for (const size_t page : path) found[page] = found[at];
    if (found[i] == Found::kIncluded) pages.push_back(static_cast<int32_t>(i));
  }
  for (const int32_t page : pages) {
    entries_[static_cast<size_t>(page)].children = 0;
    Remove(page);
  }
  return pages;
}

void PrefixCache::Remove(int32_t page) {
  Entry& entry = entries_[static_cast<size_t>(page)];
  stamps_->Change(page);
  pages_by_hash_.erase(entry.hash);
  entry.entered = false;
  entry.parent = kNone;
  entry.context.clear();
}

}  // namespace octogate::workers

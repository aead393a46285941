#include "workers/server/served_prefixes.h"

#include <algorithm>
#include <utility>

namespace octogate::workers {
namespace {

// Of prompts that wait to be entered; of each there are a few pages, as many as its text takes.
constexpr size_t kMaxWaitingBlocks = 4 * PromptBlocks::kMaxSummaryBlocks;
constexpr size_t kMaxWaitingPrompts = 4096;

}  // namespace

ServedPrefixes::ServedPrefixes(std::shared_ptr<const PageStamps> stamps, int page_size)
    : stamps_(std::move(stamps)), page_size_(page_size) {}

void ServedPrefixes::Add(std::shared_ptr<const PromptBlocks> prompt, int tokens,
                         std::span<const StampedPage> pages) {
  if (!wanted() || prompt->hashes.empty() || pages.empty() || tokens <= 0) return;
  Prompt added{std::move(prompt), tokens, {pages.begin(), pages.end()}};
  const size_t blocks = added.blocks->hashes.size();
  std::deque<Prompt> forgotten;  // freed without the lock
  absl::MutexLock lock(&waiting_mutex_);
  waiting_.push_back(std::move(added));
  waiting_blocks_ += blocks;
  while (waiting_.size() > kMaxWaitingPrompts || waiting_blocks_ > kMaxWaitingBlocks) {
    waiting_blocks_ -= waiting_.front().blocks->hashes.size();
    forgotten.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void ServedPrefixes::Enter(const Prompt& prompt) {
  // In 64 bits: a prompt has at most 2^20 bytes or so, and as many tokens.
  const int64_t bytes = std::max<int64_t>(prompt.blocks->bytes, 1);
  const uint64_t number = ++prompts_;
  const std::vector<uint32_t>& hashes = prompt.blocks->hashes;
  for (size_t i = 0; i < hashes.size(); ++i) {
    const auto end = static_cast<int64_t>((i + 1) * PromptBlocks::kBlockBytes);
    const int64_t tokens = (end * prompt.tokens + bytes - 1) / bytes;
    const auto page = static_cast<size_t>(std::max<int64_t>(tokens - 1, 0) / page_size_);
    if (page >= prompt.pages.size()) break;
    blocks_[hashes[i]] = {.page = prompt.pages[page],
                          .used = number * PromptBlocks::kMaxBlocks + (hashes.size() - i)};
  }
}

void ServedPrefixes::RemoveLeastUsed() {
  if (blocks_.size() <= PromptBlocks::kMaxSummaryBlocks) return;
  std::vector<uint64_t> used;
  used.reserve(blocks_.size());
  for (const auto& [hash, block] : blocks_) used.push_back(block.used);
  const auto last = used.end() - static_cast<ptrdiff_t>(PromptBlocks::kMaxSummaryBlocks);
  std::nth_element(used.begin(), last, used.end());
  // No two are equal.
  absl::erase_if(blocks_, [least = *last](const auto& entry) { return entry.second.used < least; });
}

v1::PrefixSummary ServedPrefixes::Summary() {
  wanted_.store(true, std::memory_order_relaxed);
  v1::PrefixSummary summary;
  summary.set_block_bytes(static_cast<int32_t>(PromptBlocks::kBlockBytes));
  absl::MutexLock lock(&mutex_);
  std::deque<Prompt> waiting;
  {
    absl::MutexLock waiting_lock(&waiting_mutex_);
    waiting.swap(waiting_);
    waiting_blocks_ = 0;
  }
  for (const Prompt& prompt : waiting) Enter(prompt);
  absl::erase_if(blocks_, [this](const auto& entry) { return !stamps_->Holds(entry.second.page); });
  RemoveLeastUsed();
  auto& hashes = *summary.mutable_blocks();
  hashes.Reserve(static_cast<int>(blocks_.size()));
  for (const auto& [hash, block] : blocks_) hashes.Add(hash);
  std::sort(hashes.begin(), hashes.end());
  return summary;
}

}  // namespace octogate::workers

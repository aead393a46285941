#include "gateway/replica_prefixes.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "workers/server/prompt_blocks.h"

namespace octogate::gateway {

using workers::PromptBlocks;

absl::StatusOr<ReplicaPrefixes::Blocks> ReplicaPrefixes::Parse(const v1::PrefixSummary& summary) {
  if (summary.block_bytes() != static_cast<int32_t>(PromptBlocks::kBlockBytes)) {
    return absl::InvalidArgumentError(absl::StrCat("a summary of prefixes has blocks of ",
                                                   summary.block_bytes(), " bytes; this gateway's ",
                                                   "have ", PromptBlocks::kBlockBytes));
  }
  const auto& blocks = summary.blocks();
  if (blocks.size() > static_cast<int>(PromptBlocks::kMaxSummaryBlocks)) {
    return absl::InvalidArgumentError(absl::StrCat("a summary of prefixes has ", blocks.size(),
                                                   " blocks; at most ",
                                                   PromptBlocks::kMaxSummaryBlocks, " are taken"));
  }
  if (!std::is_sorted(blocks.begin(), blocks.end())) {
    return absl::InvalidArgumentError("a summary of prefixes is not in ascending order");
  }
  return Blocks(blocks.begin(), blocks.end());
}

void ReplicaPrefixes::SetSummary(Blocks blocks) {
  known_ = true;
  summary_ = std::move(blocks);
  sent_before_ = std::exchange(sent_, {});
}

void ReplicaPrefixes::OnSent(std::span<const uint32_t> blocks) {
  if (sent_.size() + blocks.size() > PromptBlocks::kMaxSummaryBlocks) {
    sent_before_ = std::exchange(sent_, {});
  }
  sent_.insert(blocks.begin(), blocks.end());
}

void ReplicaPrefixes::OnRefused(std::span<const uint32_t> blocks) {
  for (const uint32_t block : blocks) {
    sent_.erase(block);
    sent_before_.erase(block);
  }
}

void ReplicaPrefixes::Clear() {
  known_ = false;
  summary_ = {};
  sent_ = {};
  sent_before_ = {};
}

size_t ReplicaPrefixes::Matched(std::span<const uint32_t> blocks) const {
  if (!known_ || blocks.empty() || !Holds(blocks[0])) return 0;
  // blocks[held - 1] is held; blocks[missing] is not, or is behind the end.
  size_t held = 1;
  size_t missing = blocks.size();
  for (size_t step = 1; held + step <= blocks.size(); step *= 2) {
    if (!Holds(blocks[held + step - 1])) {
      missing = held + step - 1;
      break;
    }
    held += step;
  }
  while (held < missing) {
    const size_t middle = held + (missing - held) / 2;
    if (Holds(blocks[middle])) {
      held = middle + 1;
    } else {
      missing = middle;
    }
  }
  return held;
}

}  // namespace octogate::gateway

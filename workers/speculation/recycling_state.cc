#include "workers/speculation/recycling_state.h"

#include <algorithm>
#include <vector>

namespace octogate::workers {
namespace {

uint64_t KeyOf(const RecyclingContext& context) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(context.previous)) << 32) |
         static_cast<uint32_t>(context.token);
}

}  // namespace

void RecyclingState::Untold::Add(const RecyclingContext& context) {
  if (contexts.insert(KeyOf(context)).second) order.push_back(context);
}

absl::Status RecyclingState::Merge(std::string_view bytes, Untold& untold) {
  std::vector<RecyclingContext> changed;
  const absl::StatusOr<int> merged = table_.Merge(bytes, &changed);
  if (!merged.ok()) return merged.status();
  changes_ += changed.size();
  for (const RecyclingContext& context : changed) untold.Add(context);
  // Pairs that the table has dropped meanwhile are not let pile up.
  const size_t most = 2 * table_.rows();
  while (untold.order.size() > most) {
    untold.contexts.erase(KeyOf(untold.order.front()));
    untold.order.pop_front();
  }
  return absl::OkStatus();
}

std::string RecyclingState::Take(size_t max_bytes, Untold& untold) const {
  const size_t most = std::max<size_t>(max_bytes / RecyclingTable::RowBytes(table_.row_size()), 1);
  std::vector<RecyclingContext> taken;
  while (taken.size() < most && !untold.order.empty()) {
    const RecyclingContext context = untold.order.front();
    untold.order.pop_front();
    untold.contexts.erase(KeyOf(context));
    if (table_.Has(context)) taken.push_back(context);
  }
  return taken.empty() ? std::string() : table_.ExportRows(taken);
}

void RecyclingState::DrafterForgot() {
  for (const RecyclingContext& context : table_.Contexts()) for_drafter_.Add(context);
}

}  // namespace octogate::workers

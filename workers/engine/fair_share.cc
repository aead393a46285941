#include "workers/engine/fair_share.h"

#include <algorithm>
#include <cassert>
#include <limits>

namespace octogate::workers {

FairShare::Account* FairShare::Enter(const std::string& tenant) {
  const auto [place, created] = accounts_.try_emplace(tenant);
  Account& account = place->second;
  if (account.sequences++ > 0) return &account;
  if (!created) --idle_;
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const auto& [name, other] : accounts_) {
    if (&other != &account && other.sequences > 0) least = std::min(least, other.rows);
  }
  if (least != std::numeric_limits<int64_t>::max()) floor_ = std::max(floor_, least);
  account.rows = std::max(account.rows, floor_);
  return &account;
}

void FairShare::Leave(const std::string& tenant) {
  const auto place = accounts_.find(tenant);
  assert(place != accounts_.end() && place->second.sequences > 0);
  if (--place->second.sequences > 0) return;
  ++idle_;
  // The last to leave had the machine for itself: that is not held against it.
  if (idle_ == accounts_.size()) floor_ = std::max(floor_, place->second.rows);
  if (place->second.rows <= floor_) {  // Enter would raise it anyway
    accounts_.erase(place);
    --idle_;
  }
  if (idle_ <= kMaxIdle) return;
  for (auto account = accounts_.begin(); account != accounts_.end();) {
    account = account->second.sequences == 0 ? accounts_.erase(account) : std::next(account);
  }
  idle_ = 0;
}

}  // namespace octogate::workers

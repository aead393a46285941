#include "workers/speculation/draft_keeper.h"

#include <algorithm>
#include <chrono>

namespace octogate::workers {
namespace {

// Whether its drafter has let go of it.
bool IsClosed(const std::shared_ptr<KeptScope>& scope) { return scope.use_count() == 1; }

}  // namespace

DraftKeeper::DraftKeeper(DraftKeeperOptions options)
    : options_(std::move(options)), thread_([this] { Run(); }) {}

DraftKeeper::~DraftKeeper() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  wake_.Set();
  thread_.join();
}

std::shared_ptr<KeptScope> DraftKeeper::Open(std::string_view drafter, std::string_view scope,
                                             std::unique_ptr<LearnedState> state) {
  auto opened = std::make_shared<KeptScope>(DraftOwner{
      .model = options_.model, .drafter = std::string(drafter), .scope = std::string(scope)});
  opened->state_ = std::move(state);
  {
    absl::MutexLock lock(&mutex_);
    const auto [found, is_new] =
        scopes_.try_emplace(std::pair(opened->owner_.drafter, opened->owner_.scope), opened);
    if (!is_new) {
      found->second->forgotten_ = true;
      wake_.Set();
      return found->second;
    }
    const auto closed = std::count_if(scopes_.begin(), scopes_.end(),
                                      [](const auto& entry) { return IsClosed(entry.second); });
    if (scopes_.size() > options_.max_scopes ||
        static_cast<size_t>(closed) >= options_.max_closed_scopes) {
      scopes_.erase(found);
      return nullptr;
    }
  }
  wake_.Set();
  opened->loaded_.WaitFor(options_.load_wait);
  return opened;
}

DraftKeeper::Stats DraftKeeper::stats() const {
  absl::MutexLock lock(&mutex_);
  return stats_;
}

void DraftKeeper::Run() {
  while (true) {
    wake_.WaitFor(options_.interval);
    if (Stopping()) return LastTurn();
    Turn();
  }
}

bool DraftKeeper::Stopping() const {
  absl::MutexLock lock(&mutex_);
  return stop_;
}

void DraftKeeper::LoadNew() {
  std::vector<KeptScope*> scopes;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [_, scope] : scopes_) {
      if (!scope->is_loaded_) scopes.push_back(scope.get());
    }
  }
  for (KeptScope* const scope : scopes) {
    for (const auto& place : options_.places) place->Load(scope->owner_, *scope->state_);
    TellDrafter(*scope);
    scope->is_loaded_ = true;
    scope->loaded_.Set();
  }
}

void DraftKeeper::Turn() {
  std::vector<KeptScope*> open;
  std::vector<KeptScope*> closed;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [_, scope] : scopes_) {
      (IsClosed(scope) ? closed : open).push_back(scope.get());
    }
  }
  // Whoever has opened one waits for it.
  LoadNew();
  for (KeptScope* const scope : open) {
    if (Stopping()) return;
    Sync(*scope, /*last=*/false);
    LoadNew();
  }
  for (KeptScope* const scope : closed) {
    if (Stopping()) return;
    Sync(*scope, /*last=*/true);
    LoadNew();
    std::shared_ptr<KeptScope> done;  // what may be large is freed without the lock
    absl::MutexLock lock(&mutex_);
    const auto found = scopes_.find({scope->owner_.drafter, scope->owner_.scope});
    // Opened again meanwhile, it goes on: what it knows is in no place that Open would have read.
    if (!IsClosed(found->second)) continue;
    done = std::move(found->second);
    scopes_.erase(found);
  }
}

void DraftKeeper::LastTurn() {
  const auto until =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(options_.last_turn);
  std::vector<KeptScope*> scopes;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [_, scope] : scopes_) scopes.push_back(scope.get());
  }
  for (KeptScope* const scope : scopes) TakeLearned(*scope);
  for (const auto& place : options_.places) {
    for (KeptScope* const scope : scopes) {
      if (std::chrono::steady_clock::now() >= until) return;
      SyncAt(*place, *scope, /*last=*/true);
    }
  }
}

void DraftKeeper::TakeLearned(KeptScope& scope) {
  LearnedState& state = *scope.state_;
  // The drafter's own exports fit its own state.
  if (const auto learned = scope.learned_.Take()) {
    for (const std::string& part : *learned) state.Learned(part).IgnoreError();
  }
  if (scope.forgotten_.exchange(false)) state.DrafterForgot();
}

void DraftKeeper::SyncAt(DraftPlace& place, KeptScope& scope, bool last) {
  const absl::Status status = place.Sync(scope.owner_, last, *scope.state_);
  absl::MutexLock lock(&mutex_);
  ++stats_.turns;
  if (status.ok()) return;
  ++stats_.failures;
  stats_.last_failure = status;
}

void DraftKeeper::Sync(KeptScope& scope, bool last) {
  TakeLearned(scope);
  for (const auto& place : options_.places) SyncAt(*place, scope, last);
  if (!last) TellDrafter(scope);
}

void DraftKeeper::TellDrafter(KeptScope& scope) const {
  // What is not taken yet stays; more of it waits in the state, whose size is bounded.
  if (!scope.heard_.empty()) return;
  std::vector<std::string> heard;
  LearnedState& state = *scope.state_;
  for (std::string part; !(part = state.TakeForDrafter(options_.heard_bytes)).empty();) {
    heard.push_back(std::move(part));
  }
  if (!heard.empty()) scope.heard_.Put(std::move(heard));
}

}  // namespace octogate::workers

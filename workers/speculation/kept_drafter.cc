#include "workers/speculation/kept_drafter.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/strings.h"

namespace octogate::workers {
namespace {

using Steady = std::chrono::steady_clock;

constexpr size_t kOfferedBytes = size_t{64} << 10;  // of an export
// That wait for the keeper, while a sequence runs and when the last has ended. What a drafter has
// learned beyond is exported later.
constexpr size_t kMaxOffers = 8;
constexpr size_t kMaxLastOffers = 256;
constexpr absl::Duration kTaughtBetweenSteps = absl::Microseconds(200);
constexpr absl::Duration kTaughtAtBegin = absl::Milliseconds(5);
// How much longer it then waits than teaching took, however many sequences run.
constexpr int kUntaught = 20;

struct Scope {
  std::string name;
  std::shared_ptr<KeptScope> kept;  // null where the keeper has no room for it
  std::deque<std::string> heard;    // to be taught
  Steady::time_point next_offer;
};

class KeptDrafter;

class KeptSequence : public SequenceDrafter {
 public:
  KeptSequence(std::unique_ptr<SequenceDrafter> sequence, KeptDrafter* drafter,
               std::shared_ptr<Scope> scope)
      : sequence_(std::move(sequence)), drafter_(drafter), scope_(std::move(scope)) {}
  ~KeptSequence() override;
  KeptSequence(const KeptSequence&) = delete;
  KeptSequence& operator=(const KeptSequence&) = delete;

  void Append(std::span<const int32_t> tokens) override;
  void Observe(std::span<const ComputedRow> rows) override { sequence_->Observe(rows); }
  void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
    sequence_->Propose(max_nodes, max_depth, tree);
  }
  uint64_t bytes() const override { return sequence_->bytes(); }

 private:
  std::unique_ptr<SequenceDrafter> sequence_;
  KeptDrafter* const drafter_;
  const std::shared_ptr<Scope> scope_;
};

class KeptDrafter : public Drafter {
 public:
  KeptDrafter(std::unique_ptr<LearningDrafter> drafter, std::shared_ptr<DraftKeeper> keeper)
      : drafter_(std::move(drafter)), keeper_(std::move(keeper)) {}

  ~KeptDrafter() override {
    for (const auto& [_, scope] : scopes_) Offer(*scope, /*all=*/true);
  }
  KeptDrafter(const KeptDrafter&) = delete;
  KeptDrafter& operator=(const KeptDrafter&) = delete;

  std::string_view name() const override { return drafter_->name(); }
  int candidates() const override { return drafter_->candidates(); }
  bool wants_hidden() const override { return drafter_->wants_hidden(); }
  bool has_distribution() const override { return drafter_->has_distribution(); }
  bool is_retrieved() const override { return drafter_->is_retrieved(); }
  uint64_t bytes() const override { return drafter_->bytes(); }

  std::unique_ptr<SequenceDrafter> Begin(std::string_view name) override {
    const bool is_new = !drafter_->Has(name);
    std::unique_ptr<SequenceDrafter> sequence = drafter_->Begin(name);
    const auto found = scopes_.find(ToAbsl(name));
    if (is_new || found == scopes_.end() || found->second->kept == nullptr) {
      // Those that the drafter has dropped meanwhile, and an earlier life of this one.
      absl::erase_if(scopes_, [&](const auto& entry) {
        return (is_new && entry.first == name) || !drafter_->Has(entry.first);
      });
    }
    std::shared_ptr<Scope>& scope = scopes_[std::string(name)];
    if (scope == nullptr) {
      scope = std::make_shared<Scope>();
      scope->name = name;
    }
    if (scope->kept == nullptr) {
      scope->kept = keeper_->Open(drafter_->name(), name, drafter_->MakeState());
    }
    Teach(*scope, kTaughtAtBegin);
    ++running_;
    return std::make_unique<KeptSequence>(std::move(sequence), this, scope);
  }

  void Turn(Scope& scope) {
    const Steady::time_point now = Steady::now();
    if (now >= teach_again_ && Teach(scope, kTaughtBetweenSteps)) {
      teach_again_ = Steady::now() + kUntaught * (Steady::now() - now);
    }
    if (now >= scope.next_offer) Offer(scope, /*all=*/false);
  }

  void Ended(Scope& ended) {
    if (--running_ > 0) return Offer(ended, /*all=*/false);
    // Nobody may step for a long time.
    for (const auto& [_, scope] : scopes_) Offer(*scope, /*all=*/true);
  }

 private:
  // Whether there was anything to teach.
  bool Teach(Scope& scope, absl::Duration time) {
    if (scope.kept == nullptr) return false;
    if (scope.heard.empty()) {
      if (scope.kept->heard().empty()) return false;
      if (const auto heard = scope.kept->heard().Take()) {
        scope.heard.assign(std::make_move_iterator(heard->begin()),
                           std::make_move_iterator(heard->end()));
      }
    }
    const Steady::time_point until = Steady::now() + absl::ToChronoNanoseconds(time);
    while (!scope.heard.empty()) {
      drafter_->Teach(scope.name, scope.heard.front()).IgnoreError();
      scope.heard.pop_front();
      if (Steady::now() >= until) break;
    }
    return true;
  }

  void Offer(Scope& scope, bool all) {
    if (scope.kept == nullptr) return;
    scope.next_offer = Steady::now() + absl::ToChronoNanoseconds(keeper_->interval());
    // What the keeper has not taken yet is offered together with what is new.
    std::vector<std::string> offers;
    if (const auto left = scope.kept->learned().Take()) offers = std::move(*left);
    while (offers.size() < (all ? kMaxLastOffers : kMaxOffers)) {
      std::string bytes = drafter_->TakeLearned(scope.name, kOfferedBytes);
      if (bytes.empty()) break;
      offers.push_back(std::move(bytes));
      if (!all) break;
    }
    if (!offers.empty()) scope.kept->learned().Put(std::move(offers));
  }

  const std::unique_ptr<LearningDrafter> drafter_;
  const std::shared_ptr<DraftKeeper> keeper_;
  absl::flat_hash_map<std::string, std::shared_ptr<Scope>> scopes_;
  int running_ = 0;  // sequences
  Steady::time_point teach_again_;
};

KeptSequence::~KeptSequence() {
  sequence_.reset();  // which may learn from its end
  drafter_->Ended(*scope_);
}

void KeptSequence::Append(std::span<const int32_t> tokens) {
  sequence_->Append(tokens);
  drafter_->Turn(*scope_);
}

}  // namespace

std::unique_ptr<Drafter> KeepDrafter(std::unique_ptr<LearningDrafter> drafter,
                                     std::shared_ptr<DraftKeeper> keeper) {
  return std::make_unique<KeptDrafter>(std::move(drafter), std::move(keeper));
}

}  // namespace octogate::workers

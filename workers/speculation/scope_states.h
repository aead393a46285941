// What a drafter has learned, kept apart by scope.
//
// Of the scopes that no running sequence uses, only the most recently begun are kept: when one
// begins, all together are at most `max_scopes`, and take `max_bytes` at most, those in use not
// counted upon. To begin one asks those in use for their bytes, and no others. Thread safety: as
// the drafter's.
#ifndef OCTOGATE_WORKERS_SPECULATION_SCOPE_STATES_H_
#define OCTOGATE_WORKERS_SPECULATION_SCOPE_STATES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace octogate::workers {

inline constexpr int kMostScopes = 1024;  // of a drafter, as a rule

// A State has bytes(), which change only while somebody else than this has a copy of it.
template <typename State>
class ScopeStates {
 public:
  ScopeStates(int max_scopes, uint64_t max_bytes)
      : max_scopes_(static_cast<size_t>(std::max(max_scopes, 1))), max_bytes_(max_bytes) {}

  // The state of a scope, made with `make` (a unique_ptr or shared_ptr) where there is none. It is
  // in use, and kept, as long as a copy of the result lives.
  template <typename Make>
  std::shared_ptr<State> Use(std::string_view scope, const Make& make) {
    const auto found = places_.find(Key(scope));
    if (found != places_.end()) {
      scopes_.splice(scopes_.begin(), scopes_, found->second);
    } else {
      scopes_.push_front({.name = std::string(scope), .state = make()});
      places_.emplace(std::string(scope), scopes_.begin());
    }
    std::shared_ptr<State> state = HandOut(scopes_.begin());
    Trim();
    return state;
  }

  // Null where nothing has been learned. Does not count as use once the result is gone.
  std::shared_ptr<State> Find(std::string_view scope) {
    const auto found = places_.find(Key(scope));
    return found == places_.end() ? nullptr : HandOut(found->second);
  }
  bool Has(std::string_view scope) const { return places_.contains(Key(scope)); }

  size_t size() const { return scopes_.size(); }

  uint64_t bytes() const {
    uint64_t bytes = settled_bytes_;
    for (const Place& scope : handed_out_) bytes += BytesOf(*scope);
    return bytes;
  }

 private:
  struct Scope {
    std::string name;
    std::shared_ptr<State> state;
    bool handed_out = false;
    uint64_t bytes = 0;  // where it is not
  };
  using Place = typename std::list<Scope>::iterator;

  static uint64_t BytesOf(const Scope& scope) {
    return 2 * scope.name.capacity() + scope.state->bytes();
  }
  static absl::string_view Key(std::string_view scope) { return {scope.data(), scope.size()}; }

  std::shared_ptr<State> HandOut(Place scope) {
    if (!std::exchange(scope->handed_out, true)) {
      settled_bytes_ -= std::exchange(scope->bytes, 0);
      handed_out_.push_back(scope);
    }
    return scope->state;
  }

  // Counts those that nobody has any more.
  void Settle() {
    std::erase_if(handed_out_, [this](Place scope) {
      if (scope->state.use_count() > 1) return false;
      scope->handed_out = false;
      scope->bytes = BytesOf(*scope);
      settled_bytes_ += scope->bytes;
      return true;
    });
  }

  void Trim() {
    Settle();
    uint64_t bytes = this->bytes();
    for (auto scope = scopes_.end();
         (scopes_.size() > max_scopes_ || bytes > max_bytes_) && scope != scopes_.begin();) {
      --scope;
      if (scope->handed_out) continue;
      bytes -= scope->bytes;
      settled_bytes_ -= scope->bytes;
      places_.erase(scope->name);
      scope = scopes_.erase(scope);
    }
  }

  size_t max_scopes_;
  uint64_t max_bytes_;
  std::list<Scope> scopes_;  // the most recently begun first
  absl::flat_hash_map<std::string, Place> places_;
  std::vector<Place> handed_out_;  // that somebody may have, or has had since the last Settle
  uint64_t settled_bytes_ = 0;     // of all others
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_SCOPE_STATES_H_

// What a drafter has learned, kept apart by scope.
//
// Of the scopes that no running sequence uses, only the most recently begun are kept: when one
// begins, all together are at most `max_scopes`, and take `max_bytes` at most, those in use not
// counted upon. Bytes are what is to bound them; their number bounds the time that it takes to
// begin one, which asks all of them for their bytes. Thread safety: as the drafter's.
#ifndef OCTOGATE_WORKERS_SPECULATION_SCOPE_STATES_H_
#define OCTOGATE_WORKERS_SPECULATION_SCOPE_STATES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace octogate::workers {

inline constexpr int kMostScopes = 1024;  // of a drafter, as a rule

// A State has bytes().
template <typename State>
class ScopeStates {
 public:
  ScopeStates(int max_scopes, uint64_t max_bytes)
      : max_scopes_(static_cast<size_t>(std::max(max_scopes, 1))), max_bytes_(max_bytes) {}

  // The state of a scope, made with `make` (a unique_ptr or shared_ptr) where there is none. It is
  // in use, and kept, as long as a copy of the result lives.
  template <typename Make>
  std::shared_ptr<State> Use(std::string_view scope, const Make& make) {
    std::shared_ptr<State> state;
    if (const auto found = places_.find(Key(scope)); found != places_.end()) {
      scopes_.splice(scopes_.begin(), scopes_, found->second);
      state = scopes_.front().second;
    } else {
      state = make();
      scopes_.emplace_front(std::string(scope), state);
      places_.emplace(std::string(scope), scopes_.begin());
    }
    Trim();
    return state;
  }

  // Null where nothing has been learned. Does not count as use.
  std::shared_ptr<State> Find(std::string_view scope) const {
    const auto found = places_.find(Key(scope));
    return found == places_.end() ? nullptr : found->second->second;
  }

  size_t size() const { return scopes_.size(); }

  uint64_t bytes() const {
    uint64_t bytes = 0;
    for (const auto& scope : scopes_) bytes += BytesOf(scope);
    return bytes;
  }

 private:
  using Scopes = std::list<std::pair<std::string, std::shared_ptr<State>>>;

  static uint64_t BytesOf(const typename Scopes::value_type& scope) {
    return 2 * scope.first.capacity() + scope.second->bytes();
  }
  static absl::string_view Key(std::string_view scope) { return {scope.data(), scope.size()}; }

  void Trim() {
    uint64_t bytes = this->bytes();
    for (auto scope = scopes_.end();
         (scopes_.size() > max_scopes_ || bytes > max_bytes_) && scope != scopes_.begin();) {
      --scope;
      if (scope->second.use_count() > 1) continue;
      bytes -= BytesOf(*scope);
      places_.erase(scope->first);
      scope = scopes_.erase(scope);
    }
  }

  size_t max_scopes_;
  uint64_t max_bytes_;
  Scopes scopes_;  // the most recently begun first
  absl::flat_hash_map<std::string, typename Scopes::iterator> places_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SPECULATION_SCOPE_STATES_H_

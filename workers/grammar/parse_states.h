// An Earley parser (Earley 1970; predictions of empty rules as in Aycock and Horspool, 2002) over a
// RuleNetwork, as an automaton that is determinised while it runs.
//
// A state is an Earley set: what may come next after some text. Equal sets are one state, however
// they came about, and a state remembers where each byte leads, so that text like that seen before
// costs one look-up per byte. Ambiguity and recursion of every kind cost states, never ways.
//
// The states' memory is bounded: Collect drops those that nobody needs, and past the limit new ones
// are refused.
//
// Not thread-safe.
#ifndef OCTOGATE_WORKERS_GRAMMAR_PARSE_STATES_H_
#define OCTOGATE_WORKERS_GRAMMAR_PARSE_STATES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/grammar/rule_network.h"

namespace octogate::workers {

using StateId = uint32_t;

class ParseStates {
 public:
  // The text so far cannot be completed.
  static constexpr StateId kDead = 0;
  // In the place of an item's origin: nothing is known of what follows its rule.
  static constexpr StateId kBottom = 1;
  // A limit was reached: see status().
  static constexpr StateId kFailed = UINT32_MAX;

  // A state of the network, and the state in which its rule began.
  struct Item {
    uint32_t place = 0;
    StateId origin = 0;
    bool operator==(const Item&) const = default;
    auto operator<=>(const Item&) const = default;
  };

  // `network` must outlive this. States take at most about `max_bytes`.
  ParseStates(const RuleNetwork* network, size_t max_bytes);

  // Before any text.
  StateId start() const { return start_; }
  // A text of which only a rest from `place` to the end of its rule matters: Complete is the end of
  // the rule, and nothing follows it.
  StateId Suffix(uint32_t place) { return Intern({{place, kBottom}}); }
  // What may come after a text of `rule` that began in `origin`; kDead for kBottom.
  StateId After(uint32_t rule, StateId origin);

  // After one more byte.
  StateId Next(StateId state, uint8_t byte) {
    return NextOfClass(state, network_->class_of_byte[byte]);
  }
  StateId NextOfClass(StateId state, uint8_t byte_class) {
    const StateId next = next_[state * class_count_ + byte_class];
    return next != kUnknown ? next : ComputeNext(state, byte_class);
  }

  // Whether the text so far is a whole one.
  bool Complete(StateId state) const { return sets_[state].complete; }
  // Items that began before this state; their kind and number decide everything else.
  std::span<const Item> Kernel(StateId state) const {
    return std::span(sets_[state].items).first(sets_[state].kernel);
  }
  // One of the shortest texts that complete the text so far; RESOURCE_EXHAUSTED where they have
  // more than kMaxCompletionBytes. `state` is not kDead.
  static constexpr size_t kMaxCompletionBytes = size_t{1} << 20;
  absl::StatusOr<std::string> ShortestCompletion(StateId state) const;

  // OK, or why a call returned kFailed; until BeginWork.
  const absl::Status& status() const { return status_; }
  // From here on new states may take this much work (items handled), and no more: a call that needs
  // more returns kFailed. Also the only call under which states are dropped, where they have become
  // too many: all but the start, those that `pins` counts, and what these depend on.
  // True where any was dropped.
  bool BeginWork(uint64_t max_work, std::span<const uint32_t> pins);
  // Counts the work of a caller too; false, with a status, where it was too much.
  bool Spend(uint64_t work);
  // Work done since BeginWork.
  uint64_t work() const { return work_; }

  size_t bytes() const { return bytes_; }
  size_t state_count() const { return sets_.size() - free_.size(); }
  // Ids are below this.
  size_t id_bound() const { return sets_.size(); }

 private:
  static constexpr StateId kUnknown = UINT32_MAX - 1;
  static constexpr size_t kMaxItems = 1 << 14;  // of one state

  // An item that waits for the end of `rule`, and where it goes on then.
  struct Waiting {
    uint32_t rule = 0;
    Item item;
    bool operator==(const Waiting&) const = default;
    auto operator<=>(const Waiting&) const = default;
  };
  struct Set {
    std::vector<Item> items;  // those that began before, then those that begin here
    size_t kernel = 0;
    std::vector<Waiting> waiting;  // sorted
    bool complete = false;
  };

  // The state of some items and all that follows from them.
  StateId Intern(std::vector<Item> seed);
  StateId Fail(absl::Status status);
  StateId FailForMemory();
  StateId ComputeNext(StateId state, uint8_t byte_class);
  // Adds the items that begin in a state, and what waits in it. False, with a status, where that
  // takes too much work, or more than a quarter of the memory.
  bool Predict(Set& set, StateId id);
  std::span<const Waiting> WaitingFor(StateId state, uint32_t rule) const;
  size_t BytesOf(const Set& set) const;
  void Collect(std::span<const uint32_t> pins);

  const RuleNetwork* const network_;
  const size_t class_count_;
  const size_t max_bytes_;
  std::vector<Set> sets_;
  std::vector<StateId> next_;  // [state][class]
  std::vector<StateId> free_;
  absl::flat_hash_map<std::vector<uint64_t>, StateId> ids_;  // by kernel and completeness
  absl::flat_hash_map<uint64_t, StateId> after_;             // by rule and origin
  StateId start_ = kDead;
  size_t bytes_ = 0;
  size_t collect_at_ = 0;
  uint64_t work_ = 0;
  uint64_t max_work_ = UINT64_MAX;
  absl::Status status_;
  // Scratch.
  absl::flat_hash_set<uint64_t> seen_;
  std::vector<uint32_t> predicted_;  // by rule: the last state that predicted it
  uint32_t prediction_ = 0;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_PARSE_STATES_H_

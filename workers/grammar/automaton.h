// Finite automata over bytes and calls of rules: what the right side of a rule is turned into.
//
// Not thread-safe; plain data.
#ifndef OCTOGATE_WORKERS_GRAMMAR_AUTOMATON_H_
#define OCTOGATE_WORKERS_GRAMMAR_AUTOMATON_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace octogate::workers {

// What an edge reads. Below `kFirstRule` a byte, or an interval of bytes that the grammar never
// tells apart; from there on a whole text of the rule `symbol - kFirstRule`.
using Symbol = uint32_t;
inline constexpr Symbol kFirstRule = 256;
inline bool IsRule(Symbol symbol) { return symbol >= kFirstRule; }

struct AutomatonEdge {
  Symbol symbol = 0;
  uint32_t target = 0;
  bool operator==(const AutomatonEdge&) const = default;
  auto operator<=>(const AutomatonEdge&) const = default;
};

// State 0 is where it starts.
struct Automaton {
  std::vector<std::vector<AutomatonEdge>> edges;  // by state; sorted
  std::vector<bool> final;

  uint32_t size() const { return static_cast<uint32_t>(edges.size()); }
};

// Work that all builders of a grammar together may do, in states and edges handled: 100 million are
// some tenths of a second.
struct AutomatonBudget {
  uint64_t determinising = 64'000'000;  // when it is used up, automata stay nondeterministic
  uint64_t building = 32'000'000;       // when it is used up, building fails
};

// Under construction: nondeterministic, with edges that read nothing.
class AutomatonBuilder {
 public:
  // `max_states` bounds what is built, determinised or not. `budget` must outlive the builder.
  AutomatonBuilder(size_t max_states, AutomatonBudget* budget)
      : max_states_(max_states), budget_(budget) {}

  uint32_t AddState();
  void AddEdge(uint32_t from, Symbol symbol, uint32_t to) { edges_[from].push_back({symbol, to}); }
  void AddEmpty(uint32_t from, uint32_t to) { empty_[from].push_back(to); }
  // A copy of `part` that begins at `from` and ends at `to`.
  void AddAutomaton(uint32_t from, const Automaton& part, uint32_t to);
  bool full() const { return edges_.size() > max_states_; }
  size_t size() const { return edges_.size(); }

  // The least deterministic automaton of the same language; where that would be too large, the
  // nondeterministic one without empty edges. States from which `final` cannot be reached are
  // left out. RESOURCE_EXHAUSTED past `max_states` or the budget.
  absl::StatusOr<Automaton> Build(uint32_t start, uint32_t final);

 private:
  // Adds everything that empty edges reach; sorts.
  void Close(std::vector<uint32_t>& states);
  absl::StatusOr<Automaton> WithoutEmptyEdges(uint32_t start, uint32_t final);

  bool Spend(uint64_t work);

  const size_t max_states_;
  AutomatonBudget* const budget_;
  std::vector<std::vector<AutomatonEdge>> edges_;
  std::vector<std::vector<uint32_t>> empty_;
  std::vector<uint32_t> mark_;  // of Close: the last round in which a state was seen
  uint32_t round_ = 0;
};

// Removes states that the start does not reach or that reach no final state; the start stays.
void Trim(Automaton& automaton);

// The least automaton with the language of a deterministic one that is trimmed (Valmari, "Fast
// brief practical DFA minimization", 2012).
Automaton Minimize(const Automaton& automaton);

// Where the rule `self` calls itself only first or only last on some way, that call becomes a loop:
// A -> A x | y is y x*, and A -> x A | y is x* y. Same language.
absl::StatusOr<Automaton> LoopInsteadOfRecursion(Automaton automaton, Symbol self,
                                                 size_t max_states, AutomatonBudget* budget);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_AUTOMATON_H_

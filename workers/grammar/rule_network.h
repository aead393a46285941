// A grammar as automata that call each other: what the parser runs.
#ifndef OCTOGATE_WORKERS_GRAMMAR_RULE_NETWORK_H_
#define OCTOGATE_WORKERS_GRAMMAR_RULE_NETWORK_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/grammar/grammar.h"

namespace octogate::workers {

// Immutable once built. Every state can be reached from the root's start, and from every state the
// end of its rule can be reached: what can be read can be completed.
//
// Bytes that no state tells apart form a class; edges are over classes.
struct RuleNetwork {
  static constexpr size_t kMaxStates = 200'000;  // of a rule, and of all rules together

  struct ByteEdge {
    uint8_t byte_class = 0;
    uint32_t target = 0;
  };
  struct Call {
    uint32_t rule = 0;
    uint32_t target = 0;
  };
  struct State {
    uint32_t rule = 0;
    bool final = false;  // the rule may end here
    // Fewest bytes to the end of the rule, and the edge that begins such a way: an index among
    // the byte edges, or behind those, the calls.
    uint32_t distance = 0;
    uint32_t shortest = 0;
    uint32_t first_byte_edge = 0;
    uint32_t first_call = 0;
  };
  struct Rule {
    std::string name;  // in the grammar; "$name" for a word list
    uint32_t start = 0;
    bool nullable = false;
  };

  std::vector<State> states;  // and one more, for where the edges of the last end
  std::vector<ByteEdge> byte_edges;
  std::vector<Call> calls;
  std::vector<Rule> rules;
  uint32_t root = 0;
  std::array<uint8_t, 256> class_of_byte{};
  std::vector<uint8_t> class_bytes;  // one byte of each class

  // Names of rules that the root does not reach, and of those that match no text at all (because
  // they call themselves without end, or for want of words). Such rules were left out.
  std::vector<std::string> unreachable;
  std::vector<std::string> unproductive;

  uint32_t state_count() const { return static_cast<uint32_t>(states.size() - 1); }
  size_t class_count() const { return class_bytes.size(); }
  // Of memory, about.
  size_t bytes() const {
    return states.size() * sizeof(State) + byte_edges.size() * sizeof(ByteEdge) +
           calls.size() * sizeof(Call) + rules.size() * sizeof(Rule);
  }
  std::span<const ByteEdge> byte_edges_of(uint32_t state) const {
    return std::span(byte_edges)
        .subspan(states[state].first_byte_edge,
                 states[state + 1].first_byte_edge - states[state].first_byte_edge);
  }
  std::span<const Call> calls_of(uint32_t state) const {
    return std::span(calls).subspan(states[state].first_call,
                                    states[state + 1].first_call - states[state].first_call);
  }
};

// INVALID_ARGUMENT where the root matches no text; RESOURCE_EXHAUSTED where the automata would be
// too large.
absl::StatusOr<RuleNetwork> BuildRuleNetwork(const Grammar& grammar);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_GRAMMAR_RULE_NETWORK_H_

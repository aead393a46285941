#include "workers/grammar/rule_network.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/grammar/automaton.h"
#include "workers/grammar/utf8_ranges.h"

namespace octogate::workers {
namespace {

using Kind = Grammar::Kind;

// Smaller automata are put in the place of their calls.
constexpr size_t kMaxInlinedStates = 8;

bool IsLetter(uint8_t byte) { return (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z'; }

// Bytes that the grammar treats alike form intervals, which are the symbols of the automata.
class ByteIntervals {
 public:
  explicit ByteIntervals(const Grammar& grammar) {
    for (const Grammar::Node& node : grammar.nodes) {
      if (node.kind == Kind::kLiteral) AddText(node.text, node.ignore_case);
      std::vector<ByteSequence> sequences;
      for (const auto& [first, last] : node.ranges) AppendByteSequences(first, last, &sequences);
      for (const ByteSequence& sequence : sequences) {
        for (int i = 0; i < sequence.length; ++i) Add(sequence.low[i], sequence.high[i]);
      }
    }
    for (const WordList& list : grammar.words) {
      for (const std::string& word : list.words) AddText(word, list.ignore_case);
    }
    Symbol symbol = 0;
    for (size_t byte = 0; byte < 256; ++byte) {
      if (byte > 0 && begins_[byte]) ++symbol;
      symbol_[byte] = symbol;
    }
  }

  Symbol Of(uint8_t byte) const { return symbol_[byte]; }

 private:
  void Add(uint8_t low, uint8_t high) {
    begins_[low] = true;
    begins_[size_t{high} + 1] = true;
  }
  void AddText(std::string_view text, bool ignore_case) {
    for (const char c : text) {
      const auto byte = static_cast<uint8_t>(c);
      Add(byte, byte);
      if (ignore_case && IsLetter(byte)) Add(byte ^ 0x20, byte ^ 0x20);
    }
  }

  std::array<bool, 257> begins_{};
  std::array<Symbol, 256> symbol_{};
};

// The rules of a grammar, its word lists behind them, each as an automaton.
class NetworkBuilder {
 public:
  explicit NetworkBuilder(const Grammar& grammar)
      : grammar_(grammar),
        intervals_(grammar),
        automata_(grammar.rules.size() + grammar.words.size()),
        built_(automata_.size()) {}

  absl::StatusOr<RuleNetwork> Build() {
    for (const uint32_t rule : CalleesFirst()) {
      OCTOGATE_RETURN_IF_ERROR(BuildRule(rule));
    }
    FindDistances();
    if (distance_[first_state_[grammar_.root]] == kInfinite) {
      return absl::InvalidArgumentError(absl::StrCat(
          "no text matches the grammar: its rule \"", Name(grammar_.root), "\" cannot be completed",
          automata_.size() > grammar_.rules.size() ? ", perhaps for want of words for a $name"
                                                   : "; give its recursion a way out"));
    }
    return Assemble();
  }

 private:
  static constexpr uint32_t kInfinite = std::numeric_limits<uint32_t>::max();

  std::string Name(uint32_t rule) const {
    if (rule < grammar_.rules.size()) return grammar_.rules[rule].name;
    return absl::StrCat("$", rule - grammar_.rules.size());
  }
  uint32_t WordRule(uint32_t list) const {
    return static_cast<uint32_t>(grammar_.rules.size()) + list;
  }

  // The rules that `node` calls.
  void CollectCalls(uint32_t node_index, std::vector<uint32_t>* calls) const {
    const Grammar::Node& node = grammar_.nodes[node_index];
    if (node.kind == Kind::kRule) calls->push_back(node.index);
    if (node.kind == Kind::kWords) calls->push_back(WordRule(node.index));
    for (const uint32_t child : node.children) CollectCalls(child, calls);
  }

  // The rules that the root reaches, each behind those that it calls as far as they are not
  // recursive.
  std::vector<uint32_t> CalleesFirst() const {
    std::vector<uint32_t> order;
    std::vector<bool> seen(automata_.size());
    struct Visit {
      uint32_t rule;
      std::vector<uint32_t> calls;
      size_t next = 0;
    };
    std::vector<Visit> stack;
    const auto enter = [&](uint32_t rule) {
      seen[rule] = true;
      stack.push_back({.rule = rule});
      if (rule < grammar_.rules.size()) {
        CollectCalls(grammar_.rules[rule].node, &stack.back().calls);
      }
    };
    enter(grammar_.root);
    while (!stack.empty()) {
      Visit& visit = stack.back();
      if (visit.next == visit.calls.size()) {
        order.push_back(visit.rule);
        stack.pop_back();
        continue;
      }
      const uint32_t callee = visit.calls[visit.next++];
      if (!seen[callee]) enter(callee);
    }
    return order;
  }

  absl::Status BuildRule(uint32_t rule) {
    AutomatonBuilder builder(RuleNetwork::kMaxStates, &budget_);
    const uint32_t start = builder.AddState();
    const uint32_t end = builder.AddState();
    if (rule < grammar_.rules.size()) {
      AddNode(grammar_.rules[rule].node, start, end, builder);
    } else {
      const WordList& list = grammar_.words[rule - grammar_.rules.size()];
      for (const std::string& word : list.words) {
        AddText(word, list.ignore_case, start, end, builder);
      }
    }
    OCTOGATE_ASSIGN_OR_RETURN(Automaton automaton, builder.Build(start, end));
    OCTOGATE_ASSIGN_OR_RETURN(automata_[rule],
                              LoopInsteadOfRecursion(std::move(automaton), kFirstRule + rule,
                                                     RuleNetwork::kMaxStates, &budget_));
    built_[rule] = true;
    total_states_ += automata_[rule].size();
    if (total_states_ > RuleNetwork::kMaxStates) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the rules of the grammar need more than ", RuleNetwork::kMaxStates,
                       " states; use smaller repetitions or fewer words"));
    }
    return absl::OkStatus();
  }

  void AddText(std::string_view text, bool ignore_case, uint32_t from, uint32_t to,
               AutomatonBuilder& builder) const {
    for (const char c : text) {
      const uint32_t next = builder.AddState();
      const auto byte = static_cast<uint8_t>(c);
      builder.AddEdge(from, intervals_.Of(byte), next);
      if (ignore_case && IsLetter(byte)) builder.AddEdge(from, intervals_.Of(byte ^ 0x20), next);
      from = next;
    }
    builder.AddEmpty(from, to);
  }

  void AddClass(const Grammar::Node& node, uint32_t from, uint32_t to,
                AutomatonBuilder& builder) const {
    std::vector<ByteSequence> sequences;
    for (const auto& [first, last] : node.ranges) AppendByteSequences(first, last, &sequences);
    for (const ByteSequence& sequence : sequences) {
      uint32_t at = from;
      for (int i = 0; i < sequence.length; ++i) {
        const uint32_t next = i + 1 == sequence.length ? to : builder.AddState();
        const Symbol last = intervals_.Of(sequence.high[i]);
        for (Symbol symbol = intervals_.Of(sequence.low[i]); symbol <= last; ++symbol) {
          builder.AddEdge(at, symbol, next);
        }
        at = next;
      }
    }
  }

  void AddCall(uint32_t rule, uint32_t from, uint32_t to, AutomatonBuilder& builder) const {
    if (built_[rule] && automata_[rule].size() <= kMaxInlinedStates) {
      builder.AddAutomaton(from, automata_[rule], to);
    } else {
      builder.AddEdge(from, kFirstRule + rule, to);
    }
  }

  // What `node` matches, between two states. Stops early in a builder that is full, which Build
  // reports.
  void AddNode(uint32_t node_index, uint32_t from, uint32_t to, AutomatonBuilder& builder) const {
    if (builder.full()) return;
    const Grammar::Node& node = grammar_.nodes[node_index];
    switch (node.kind) {
      case Kind::kLiteral:
        AddText(node.text, node.ignore_case, from, to, builder);
        return;
      case Kind::kClass:
        AddClass(node, from, to, builder);
        return;
      case Kind::kRule:
        AddCall(node.index, from, to, builder);
        return;
      case Kind::kWords:
        AddCall(WordRule(node.index), from, to, builder);
        return;
      case Kind::kSequence:
        for (const uint32_t child : node.children) {
          const uint32_t next = builder.AddState();
          AddNode(child, from, next, builder);
          from = next;
        }
        builder.AddEmpty(from, to);
        return;
      case Kind::kAlternation:
        for (const uint32_t child : node.children) {
          // A state of its own, so that the loops of one alternative are not open to the others.
          const uint32_t begin = builder.AddState();
          builder.AddEmpty(from, begin);
          AddNode(child, begin, to, builder);
        }
        return;
      case Kind::kRepetition:
        AddRepetition(node, from, to, builder);
        return;
    }
  }

  void AddRepetition(const Grammar::Node& node, uint32_t from, uint32_t to,
                     AutomatonBuilder& builder) const {
    const auto once = [&](uint32_t begin) {
      const uint32_t next = builder.AddState();
      AddNode(node.children[0], begin, next, builder);
      return next;
    };
    for (uint32_t i = 0; i < node.min && !builder.full(); ++i) from = once(from);
    if (node.max == Grammar::kUnlimited) {
      const uint32_t loop = builder.AddState();
      builder.AddEmpty(from, loop);
      builder.AddEmpty(once(loop), loop);
      builder.AddEmpty(loop, to);
      return;
    }
    for (uint32_t i = node.min; i < node.max && !builder.full(); ++i) {
      const uint32_t begin = builder.AddState();
      builder.AddEmpty(from, begin);
      builder.AddEmpty(from, to);
      from = once(begin);
    }
    builder.AddEmpty(from, to);
  }

  // Shortest ways to the end of each rule from each state: Knuth, "A generalization of Dijkstra's
  // algorithm", 1977. Infinite where there is none.
  void FindDistances() {
    uint32_t count = 0;
    for (const Automaton& automaton : automata_) {
      first_state_.push_back(count);
      count += automaton.size();
    }
    first_state_.push_back(count);
    distance_.assign(count, kInfinite);
    shortest_.assign(count, 0);
    struct Incoming {
      uint32_t source;
      uint32_t edge;   // among its source's
      uint32_t other;  // of a call: the target, for the lists by rule
    };
    std::vector<std::vector<Incoming>> by_target(count);
    std::vector<std::vector<Incoming>> by_rule(automata_.size());
    std::vector<uint32_t> rule_of(count);
    using Entry = std::tuple<uint32_t, uint32_t, uint32_t>;  // distance, state, edge
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    for (uint32_t rule = 0; rule < automata_.size(); ++rule) {
      const Automaton& automaton = automata_[rule];
      for (uint32_t state = 0; state < automaton.size(); ++state) {
        const uint32_t source = first_state_[rule] + state;
        rule_of[source] = rule;
        if (automaton.final[state]) queue.emplace(0, source, 0);
        for (uint32_t i = 0; i < automaton.edges[state].size(); ++i) {
          const AutomatonEdge& edge = automaton.edges[state][i];
          const uint32_t target = first_state_[rule] + edge.target;
          by_target[target].push_back({source, i, target});
          if (IsRule(edge.symbol)) {
            by_rule[edge.symbol - kFirstRule].push_back({source, i, target});
          }
        }
      }
    }
    const auto cost = [&](const Incoming& incoming) -> uint32_t {
      const uint32_t rule = rule_of[incoming.source];
      const uint32_t state = incoming.source - first_state_[rule];
      const Symbol symbol = automata_[rule].edges[state][incoming.edge].symbol;
      if (!IsRule(symbol)) return 1;
      const uint32_t callee = symbol - kFirstRule;
      return built_[callee] ? distance_[first_state_[callee]] : kInfinite;
    };
    const auto relax = [&](const Incoming& incoming) {
      const uint32_t step = cost(incoming);
      const uint32_t rest = distance_[incoming.other];
      if (step == kInfinite || rest == kInfinite || distance_[incoming.source] != kInfinite) return;
      const uint64_t sum = std::min<uint64_t>(uint64_t{step} + rest, kInfinite - 1);
      queue.emplace(static_cast<uint32_t>(sum), incoming.source, incoming.edge);
    };
    while (!queue.empty()) {
      const auto [distance, state, edge] = queue.top();
      queue.pop();
      if (distance_[state] != kInfinite) continue;
      distance_[state] = distance;
      shortest_[state] = edge;
      for (const Incoming& incoming : by_target[state]) relax(incoming);
      const uint32_t rule = rule_of[state];
      if (state == first_state_[rule]) {
        for (const Incoming& call : by_rule[rule]) relax(call);
      }
    }
  }

  bool Productive(uint32_t rule) const {
    return built_[rule] && distance_[first_state_[rule]] != kInfinite;
  }
  // Whether an edge of a state of `rule` lies on some way to the rule's end.
  bool Useful(uint32_t rule, const AutomatonEdge& edge) const {
    return distance_[first_state_[rule] + edge.target] != kInfinite &&
           (!IsRule(edge.symbol) || Productive(edge.symbol - kFirstRule));
  }

  // The edge that begins a shortest way. Joining the byte edges of one class keeps neither their
  // order nor their number, so one of those is known by its target.
  struct Shortest {
    bool is_call = false;
    uint32_t number = kInfinite;  // of the call among the state's, or the target
  };

  RuleNetwork Assemble() const {
    RuleNetwork network;
    // States and rules in the order in which the root reaches them.
    std::vector<uint32_t> state_index(distance_.size(), UINT32_MAX);
    std::vector<uint32_t> rule_index(automata_.size(), UINT32_MAX);
    std::vector<std::pair<uint32_t, uint32_t>> states;  // rule, state
    const auto add_state = [&](uint32_t rule, uint32_t state) {
      uint32_t& index = state_index[first_state_[rule] + state];
      if (index == UINT32_MAX) {
        index = static_cast<uint32_t>(states.size());
        states.emplace_back(rule, state);
      }
      return index;
    };
    const auto add_rule = [&](uint32_t rule) {
      if (rule_index[rule] == UINT32_MAX) {
        rule_index[rule] = static_cast<uint32_t>(network.rules.size());
        network.rules.push_back({.name = Name(rule),
                                 .start = add_state(rule, 0),
                                 .nullable = distance_[first_state_[rule]] == 0});
      }
      return rule_index[rule];
    };
    network.root = add_rule(grammar_.root);
    std::vector<std::vector<std::pair<uint32_t, uint32_t>>> columns(256);  // by symbol
    struct Edge {
      uint32_t source;
      Symbol symbol;
      uint32_t target;
    };
    std::vector<Edge> byte_edges;
    std::vector<Shortest> shortest;  // by state
    for (uint32_t i = 0; i < states.size(); ++i) {
      const auto [rule, state] = states[i];
      const uint32_t own = first_state_[rule] + state;
      const std::vector<AutomatonEdge>& edges = automata_[rule].edges[state];
      RuleNetwork::State out{.rule = rule_index[rule],
                             .final = automata_[rule].final[state],
                             .distance = distance_[own],
                             .first_call = static_cast<uint32_t>(network.calls.size())};
      uint32_t calls = 0;
      shortest.emplace_back();
      for (uint32_t e = 0; e < edges.size(); ++e) {
        if (!Useful(rule, edges[e])) continue;
        const uint32_t target = add_state(rule, edges[e].target);
        if (IsRule(edges[e].symbol)) {
          if (e == shortest_[own]) shortest.back() = {.is_call = true, .number = calls};
          ++calls;
          network.calls.push_back({add_rule(edges[e].symbol - kFirstRule), target});
        } else {
          byte_edges.push_back({i, edges[e].symbol, target});
          columns[edges[e].symbol].emplace_back(i, target);
          if (e == shortest_[own]) shortest.back() = {.is_call = false, .number = target};
        }
      }
      network.states.push_back(out);
    }

    absl::flat_hash_map<std::vector<std::pair<uint32_t, uint32_t>>, uint8_t> classes;
    std::array<uint8_t, 256> class_of_symbol{};
    for (size_t byte = 0; byte < 256; ++byte) {
      const Symbol symbol = intervals_.Of(static_cast<uint8_t>(byte));
      const auto [entry, added] =
          classes.try_emplace(columns[symbol], static_cast<uint8_t>(network.class_bytes.size()));
      if (added) network.class_bytes.push_back(static_cast<uint8_t>(byte));
      class_of_symbol[symbol] = entry->second;
      network.class_of_byte[byte] = entry->second;
    }
    size_t next = 0;
    for (uint32_t i = 0; i < network.states.size(); ++i) {
      RuleNetwork::State& state = network.states[i];
      state.first_byte_edge = static_cast<uint32_t>(network.byte_edges.size());
      std::vector<std::pair<uint8_t, uint32_t>> own;
      for (; next < byte_edges.size() && byte_edges[next].source == i; ++next) {
        own.emplace_back(class_of_symbol[byte_edges[next].symbol], byte_edges[next].target);
      }
      std::sort(own.begin(), own.end());
      own.erase(std::unique(own.begin(), own.end()), own.end());
      for (const auto& [byte_class, target] : own) {
        network.byte_edges.push_back({byte_class, target});
      }
      const Shortest& way = shortest[i];
      if (way.is_call) {
        state.shortest = static_cast<uint32_t>(own.size()) + way.number;
      } else {
        const auto edge = std::find_if(
            own.begin(), own.end(), [&](const auto& other) { return other.second == way.number; });
        state.shortest = static_cast<uint32_t>(edge - own.begin());
      }
    }
    network.states.push_back({.first_byte_edge = static_cast<uint32_t>(network.byte_edges.size()),
                              .first_call = static_cast<uint32_t>(network.calls.size())});
    for (uint32_t rule = 0; rule < grammar_.rules.size(); ++rule) {
      if (!built_[rule]) {
        network.unreachable.push_back(Name(rule));
      } else if (!Productive(rule)) {
        network.unproductive.push_back(Name(rule));
      }
    }
    return network;
  }

  const Grammar& grammar_;
  AutomatonBudget budget_;
  const ByteIntervals intervals_;
  std::vector<Automaton> automata_;
  std::vector<bool> built_;
  size_t total_states_ = 0;
  // Of all automata's states, numbered through.
  std::vector<uint32_t> first_state_;
  std::vector<uint32_t> distance_;
  std::vector<uint32_t> shortest_;
};

}  // namespace

absl::StatusOr<RuleNetwork> BuildRuleNetwork(const Grammar& grammar) {
  return NetworkBuilder(grammar).Build();
}

}  // namespace octogate::workers

#include "workers/grammar/automaton.h"

#include <algorithm>
#include <numeric>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace octogate::workers {
namespace {

absl::Status TooLarge(size_t max_states) {
  return absl::ResourceExhaustedError(
      absl::StrCat("a rule of the grammar needs more than ", max_states,
                   " states; use smaller repetitions or fewer words"));
}

absl::Status TooMuchWork() {
  return absl::ResourceExhaustedError(
      "the rules of the grammar take too much work; use fewer or smaller repetitions");
}

// A partition of 0 … size-1 that is refined by splitting off marked elements.
class Partition {
 public:
  explicit Partition(size_t size) : elements_(size), place_(size), set_of_(size, 0) {
    std::iota(elements_.begin(), elements_.end(), 0u);
    std::iota(place_.begin(), place_.end(), 0u);
    if (size > 0) sets_.push_back({0, static_cast<uint32_t>(size), 0});
  }

  // Sets of equal key, for elements of all one set so far.
  template <typename Key>
  void SplitBy(const Key& key) {
    if (elements_.empty()) return;
    std::sort(elements_.begin(), elements_.end(),
              [&](uint32_t a, uint32_t b) { return key(a) < key(b); });
    sets_.clear();
    for (uint32_t i = 0; i < elements_.size(); ++i) {
      if (i == 0 || key(elements_[i - 1]) < key(elements_[i])) sets_.push_back({i, i, 0});
      sets_.back().end = i + 1;
      place_[elements_[i]] = i;
      set_of_[elements_[i]] = static_cast<uint32_t>(sets_.size() - 1);
    }
  }

  void Mark(uint32_t element) {
    Set& set = sets_[set_of_[element]];
    const uint32_t at = place_[element];
    const uint32_t border = set.begin + set.marked;
    if (at < border) return;
    if (set.marked++ == 0) touched_.push_back(set_of_[element]);
    std::swap(elements_[at], elements_[border]);
    place_[elements_[at]] = at;
    place_[elements_[border]] = border;
  }

  // Splits every set with marked and unmarked elements; the smaller part is the new set.
  void Split() {
    for (const uint32_t index : touched_) {
      Set& set = sets_[index];
      const uint32_t border = set.begin + set.marked;
      const bool whole = border == set.end;
      const bool marked_is_smaller = 2 * set.marked <= set.end - set.begin;
      set.marked = 0;
      if (whole) continue;
      Set fresh{border, set.end, 0};
      if (marked_is_smaller) {
        fresh = {set.begin, border, 0};
        set.begin = border;
      } else {
        set.end = border;
      }
      for (uint32_t i = fresh.begin; i < fresh.end; ++i) {
        set_of_[elements_[i]] = static_cast<uint32_t>(sets_.size());
      }
      sets_.push_back(fresh);
    }
    touched_.clear();
  }

  size_t count() const { return sets_.size(); }
  uint32_t set_of(uint32_t element) const { return set_of_[element]; }
  template <typename Function>
  void ForEach(size_t set, const Function& function) const {
    for (uint32_t i = sets_[set].begin; i < sets_[set].end; ++i) function(elements_[i]);
  }

 private:
  struct Set {
    uint32_t begin;
    uint32_t end;
    uint32_t marked;
  };
  std::vector<uint32_t> elements_;  // those of a set side by side, marked ones first
  std::vector<uint32_t> place_;
  std::vector<uint32_t> set_of_;
  std::vector<Set> sets_;
  std::vector<uint32_t> touched_;
};

}  // namespace

uint32_t AutomatonBuilder::AddState() {
  edges_.emplace_back();
  empty_.emplace_back();
  return static_cast<uint32_t>(edges_.size() - 1);
}

bool AutomatonBuilder::Spend(uint64_t work) {
  if (work > budget_->building) return false;
  budget_->building -= work;
  return true;
}

void AutomatonBuilder::AddAutomaton(uint32_t from, const Automaton& part, uint32_t to) {
  const auto offset = static_cast<uint32_t>(edges_.size());
  for (uint32_t state = 0; state < part.size(); ++state) {
    AddState();
    for (const AutomatonEdge& edge : part.edges[state]) {
      AddEdge(offset + state, edge.symbol, offset + edge.target);
    }
    if (part.final[state]) AddEmpty(offset + state, to);
  }
  AddEmpty(from, offset);
}

void AutomatonBuilder::Close(std::vector<uint32_t>& states) {
  mark_.resize(edges_.size(), 0);
  ++round_;
  for (const uint32_t state : states) mark_[state] = round_;
  for (size_t i = 0; i < states.size(); ++i) {
    for (const uint32_t next : empty_[states[i]]) {
      if (mark_[next] == round_) continue;
      mark_[next] = round_;
      states.push_back(next);
    }
  }
  std::sort(states.begin(), states.end());
}

absl::StatusOr<Automaton> AutomatonBuilder::WithoutEmptyEdges(uint32_t start, uint32_t final) {
  // The start may not be state 0 yet.
  Automaton result;
  std::vector<uint32_t> index(edges_.size(), UINT32_MAX);
  std::vector<uint32_t> order;
  const auto number = [&](uint32_t state) {
    if (index[state] == UINT32_MAX) {
      index[state] = static_cast<uint32_t>(order.size());
      order.push_back(state);
    }
    return index[state];
  };
  number(start);
  size_t edge_count = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    std::vector<uint32_t> closure = {order[i]};
    Close(closure);
    std::vector<AutomatonEdge> edges;
    for (const uint32_t state : closure) {
      for (const AutomatonEdge& edge : edges_[state]) {
        edges.push_back({edge.symbol, number(edge.target)});
      }
    }
    std::sort(edges.begin(), edges.end());
    edges.erase(std::unique(edges.begin(), edges.end()), edges.end());
    edge_count += edges.size() + closure.size();
    if (edge_count > 32 * max_states_) return TooLarge(max_states_);
    if (!Spend(edges.size() + closure.size())) return TooMuchWork();
    result.edges.push_back(std::move(edges));
    result.final.push_back(std::binary_search(closure.begin(), closure.end(), final));
  }
  Trim(result);
  return result;
}

absl::StatusOr<Automaton> AutomatonBuilder::Build(uint32_t start, uint32_t final) {
  if (full()) return TooLarge(max_states_);
  if (!Spend(edges_.size())) return TooMuchWork();
  Automaton result;
  absl::flat_hash_map<std::vector<uint32_t>, uint32_t> index;
  std::vector<std::vector<uint32_t>> sets;
  const auto number = [&](std::vector<uint32_t> set) {
    const auto [entry, added] = index.try_emplace(set, static_cast<uint32_t>(sets.size()));
    if (added) sets.push_back(std::move(set));
    return entry->second;
  };
  std::vector<uint32_t> first = {start};
  Close(first);
  number(std::move(first));
  // Determinising may take exponential time; then the nondeterministic automaton has to do.
  size_t work = 0;
  const size_t max_work = std::min<uint64_t>(
      budget_->determinising, std::clamp<size_t>(256 * edges_.size(), 1'000'000, 32 * max_states_));
  std::vector<std::pair<Symbol, uint32_t>> steps;
  for (size_t i = 0; i < sets.size(); ++i) {
    const std::vector<uint32_t> set = sets[i];
    steps.clear();
    for (const uint32_t state : set) {
      for (const AutomatonEdge& edge : edges_[state]) steps.emplace_back(edge.symbol, edge.target);
    }
    std::sort(steps.begin(), steps.end());
    steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
    work += set.size() + steps.size();
    if (work > max_work) {
      budget_->determinising -= max_work;
      return WithoutEmptyEdges(start, final);
    }
    std::vector<AutomatonEdge> edges;
    for (size_t begin = 0; begin < steps.size();) {
      size_t end = begin;
      std::vector<uint32_t> targets;
      for (; end < steps.size() && steps[end].first == steps[begin].first; ++end) {
        targets.push_back(steps[end].second);
      }
      Close(targets);
      work += targets.size();
      edges.push_back({steps[begin].first, number(std::move(targets))});
      begin = end;
    }
    result.edges.push_back(std::move(edges));
    result.final.push_back(std::binary_search(set.begin(), set.end(), final));
  }
  budget_->determinising -= std::min<uint64_t>(budget_->determinising, work);
  Trim(result);
  return Minimize(result);
}

void Trim(Automaton& automaton) {
  const uint32_t size = automaton.size();
  std::vector<std::vector<uint32_t>> sources(size);
  std::vector<bool> reached(size);
  std::vector<uint32_t> queue = {0};
  reached[0] = true;
  for (size_t i = 0; i < queue.size(); ++i) {
    for (const AutomatonEdge& edge : automaton.edges[queue[i]]) {
      sources[edge.target].push_back(queue[i]);
      if (!reached[edge.target]) {
        reached[edge.target] = true;
        queue.push_back(edge.target);
      }
    }
  }
  std::vector<bool> useful(size);
  std::vector<uint32_t> back;
  for (uint32_t state = 0; state < size; ++state) {
    if (reached[state] && automaton.final[state]) {
      useful[state] = true;
      back.push_back(state);
    }
  }
  for (size_t i = 0; i < back.size(); ++i) {
    for (const uint32_t source : sources[back[i]]) {
      if (!useful[source]) {
        useful[source] = true;
        back.push_back(source);
      }
    }
  }
  useful[0] = true;
  std::vector<uint32_t> index(size, UINT32_MAX);
  Automaton kept;
  for (uint32_t state = 0; state < size; ++state) {
    if (!useful[state]) continue;
    index[state] = kept.size();
    kept.edges.emplace_back();
    kept.final.push_back(automaton.final[state]);
  }
  for (uint32_t state = 0; state < size; ++state) {
    if (!useful[state]) continue;
    for (const AutomatonEdge& edge : automaton.edges[state]) {
      if (useful[edge.target])
        kept.edges[index[state]].push_back({edge.symbol, index[edge.target]});
    }
    std::sort(kept.edges[index[state]].begin(), kept.edges[index[state]].end());
  }
  automaton = std::move(kept);
}

Automaton Minimize(const Automaton& automaton) {
  struct Edge {
    uint32_t source;
    Symbol symbol;
    uint32_t target;
  };
  const uint32_t size = automaton.size();
  std::vector<Edge> edges;
  for (uint32_t state = 0; state < size; ++state) {
    for (const AutomatonEdge& edge : automaton.edges[state]) {
      edges.push_back({state, edge.symbol, edge.target});
    }
  }
  std::vector<std::vector<uint32_t>> incoming(size);
  for (uint32_t i = 0; i < edges.size(); ++i) incoming[edges[i].target].push_back(i);

  Partition states(size);
  states.SplitBy([&](uint32_t state) { return static_cast<bool>(automaton.final[state]); });
  Partition groups(edges.size());
  groups.SplitBy([&](uint32_t edge) { return edges[edge].symbol; });
  // Every group of edges splits the states they come from; every new set of states but one splits
  // the edges that lead to it.
  size_t next_states = 1;
  for (size_t group = 0; group < groups.count(); ++group) {
    groups.ForEach(group, [&](uint32_t edge) { states.Mark(edges[edge].source); });
    states.Split();
    for (; next_states < states.count(); ++next_states) {
      states.ForEach(next_states, [&](uint32_t state) {
        for (const uint32_t edge : incoming[state]) groups.Mark(edge);
      });
      groups.Split();
    }
  }

  // Set 0 is the start's.
  std::vector<uint32_t> index(states.count(), UINT32_MAX);
  std::vector<uint32_t> member;
  for (uint32_t state = 0; state < size; ++state) {
    uint32_t& number = index[states.set_of(state)];
    if (number == UINT32_MAX) {
      number = static_cast<uint32_t>(member.size());
      member.push_back(state);
    }
  }
  Automaton result;
  for (const uint32_t state : member) {
    std::vector<AutomatonEdge> out;
    for (const AutomatonEdge& edge : automaton.edges[state]) {
      out.push_back({edge.symbol, index[states.set_of(edge.target)]});
    }
    result.edges.push_back(std::move(out));
    result.final.push_back(automaton.final[state]);
  }
  return result;
}

absl::StatusOr<Automaton> LoopInsteadOfRecursion(Automaton automaton, Symbol self,
                                                 size_t max_states, AutomatonBudget* budget) {
  const auto is_self = [self](const AutomatonEdge& edge) { return edge.symbol == self; };
  // What follows a call at the beginning.
  std::vector<uint32_t> after_first;
  for (const AutomatonEdge& edge : automaton.edges[0]) {
    if (is_self(edge)) after_first.push_back(edge.target);
  }
  const auto ends = [&](uint32_t state) {
    return automaton.final[state] && automaton.edges[state].empty();
  };
  AutomatonBuilder builder(max_states, budget);
  const uint32_t start = builder.AddState();
  const uint32_t final = builder.AddState();
  const uint32_t offset = 2;
  bool changed = !after_first.empty();
  for (uint32_t state = 0; state < automaton.size(); ++state) builder.AddState();
  for (uint32_t state = 0; state < automaton.size(); ++state) {
    if (automaton.final[state]) builder.AddEmpty(offset + state, final);
    for (const AutomatonEdge& edge : automaton.edges[state]) {
      if (is_self(edge) && ends(edge.target)) {
        builder.AddEmpty(offset + state, start);
        changed = true;
      } else {
        builder.AddEdge(offset + state, edge.symbol, offset + edge.target);
      }
    }
  }
  if (!changed) return automaton;
  // The start is a copy of state 0, which loops may come back to, without its own calls.
  for (const AutomatonEdge& edge : automaton.edges[0]) {
    if (!is_self(edge)) builder.AddEdge(start, edge.symbol, offset + edge.target);
  }
  if (automaton.final[0]) builder.AddEmpty(start, final);
  for (const uint32_t state : after_first) builder.AddEmpty(final, offset + state);
  return builder.Build(start, final);
}

}  // namespace octogate::workers

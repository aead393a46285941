#include "workers/speculation/suffix_automaton.h"

namespace octogate::workers {

SuffixAutomaton::SuffixAutomaton(int counted_contexts) : counted_contexts_(counted_contexts) {
  AddState({});
}

int32_t SuffixAutomaton::AddState(const State& state) {
  states_.push_back(state);
  return static_cast<int32_t>(states_.size()) - 1;
}

void SuffixAutomaton::AddTransition(int32_t state, int32_t token, int32_t target) {
  const auto place = static_cast<int32_t>(transitions_.size());
  transitions_.push_back({token, target, At(state).first});
  At(state).first = place;
  places_.emplace(Key(state, token), place);
}

int32_t SuffixAutomaton::Next(int32_t state, int32_t token) const {
  // Most states have one transition, and most that are asked for are the newest.
  const int32_t first = First(state);
  if (first < 0) return -1;
  const Transition& newest = transition(first);
  if (newest.token == token) return newest.target;
  if (newest.next < 0) return -1;
  const auto found = places_.find(Key(state, token));
  return found == places_.end() ? -1 : transitions_[static_cast<size_t>(found->second)].target;
}

int32_t SuffixAutomaton::Clone(int32_t state, int32_t token, int32_t whole) {
  State clone = At(whole);
  const int32_t first = clone.first;
  clone.length = Length(state) + 1;
  clone.first = -1;
  const int32_t added = AddState(clone);
  for (int32_t place = first; place >= 0;) {
    const Transition transition = transitions_[static_cast<size_t>(place)];
    AddTransition(added, transition.token, transition.target);
    place = transition.next;
  }
  At(whole).link = added;
  for (int32_t shorter = state; shorter >= 0; shorter = Link(shorter)) {
    const auto found = places_.find(Key(shorter, token));
    if (found == places_.end()) break;
    Transition& transition = transitions_[static_cast<size_t>(found->second)];
    if (transition.target != whole) break;
    transition.target = added;
  }
  return added;
}

void SuffixAutomaton::Append(int32_t token) {
  int32_t current = Next(last_, token);
  if (current >= 0) {
    // Only at the beginning of a text: an earlier one had the same.
    if (Length(current) != Length(last_) + 1) current = Clone(last_, token, current);
  } else {
    current = AddState({.link = 0, .length = Length(last_) + 1});
    int32_t state = last_;
    int32_t whole = -1;
    for (; state >= 0; state = Link(state)) {
      whole = Next(state, token);
      if (whole >= 0) break;
      AddTransition(state, token, current);
    }
    if (state >= 0) {
      const int32_t link = Length(whole) == Length(state) + 1 ? whole : Clone(state, token, whole);
      At(current).link = link;
    }
  }
  last_ = current;
  ++tokens_;
  int counted = 0;
  for (int32_t state = current; state > 0 && counted < counted_contexts_; ++counted) {
    ++At(state).count;
    state = Link(state);
  }
}

uint64_t SuffixAutomaton::bytes() const {
  // A slot of the hash table has a byte beside its value.
  return sizeof(*this) + states_.capacity() * sizeof(State) +
         transitions_.capacity() * sizeof(Transition) +
         places_.capacity() * (sizeof(std::pair<const uint64_t, int32_t>) + 1);
}

void SuffixMatch::Normalize(const SuffixAutomaton& automaton) {
  while (state > 0 && length <= automaton.Length(automaton.Link(state))) {
    state = automaton.Link(state);
  }
}

void SuffixMatch::Advance(const SuffixAutomaton& automaton, int32_t token, int max_links) {
  Normalize(automaton);
  int32_t next = automaton.Next(state, token);
  for (int links = 0; next < 0 && state > 0; ++links) {
    state = links < max_links ? automaton.Link(state) : 0;
    length = automaton.Length(state);
    next = automaton.Next(state, token);
  }
  if (next < 0) return;
  state = next;
  ++length;
  Normalize(automaton);
}

}  // namespace octogate::workers

#include "workers/grammar/parse_states.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace octogate::workers {
namespace {

uint64_t Pack(uint32_t high, uint32_t low) { return uint64_t{high} << 32 | low; }

}  // namespace

ParseStates::ParseStates(const RuleNetwork* network, size_t max_bytes)
    : network_(network),
      class_count_(network->class_count()),
      max_bytes_(max_bytes),
      sets_(2),
      predicted_(network->rules.size(), 0) {
  next_.assign(2 * class_count_, kDead);
  start_ = Suffix(network->rules[network->root].start);
}

StateId ParseStates::Fail(absl::Status status) {
  status_ = std::move(status);
  return kFailed;
}

StateId ParseStates::FailForMemory() {
  return Fail(absl::ResourceExhaustedError(
      absl::StrCat("the parser's states take more than ", max_bytes_,
                   " bytes; use a grammar with less nesting, or fewer sequences at a time")));
}

std::span<const ParseStates::Waiting> ParseStates::WaitingFor(StateId state, uint32_t rule) const {
  const std::vector<Waiting>& waiting = sets_[state].waiting;
  const auto begin = std::lower_bound(waiting.begin(), waiting.end(), Waiting{rule, {0, 0}});
  auto end = begin;
  while (end != waiting.end() && end->rule == rule) ++end;
  return std::span(waiting.data() + (begin - waiting.begin()), static_cast<size_t>(end - begin));
}

bool ParseStates::Spend(uint64_t work) {
  work_ += work;
  if (work_ <= max_work_) return true;
  status_ = absl::ResourceExhaustedError(
      "the grammar takes too much work per token; make its rules exclude each other");
  return false;
}

size_t ParseStates::BytesOf(const Set& set) const {
  // Twice the kernel, for its key.
  return sizeof(Set) + set.items.size() * sizeof(Item) + set.kernel * sizeof(uint64_t) + 64 +
         set.waiting.size() * sizeof(Waiting) + class_count_ * sizeof(StateId);
}

StateId ParseStates::Intern(std::vector<Item> seed) {
  // Where a rule ends, the items that waited for it go on; so do those that wait for a rule that
  // may be empty.
  std::vector<Item>& items = seed;
  seen_.clear();
  size_t kept = 0;
  for (const Item& item : items) {
    if (seen_.insert(Pack(item.place, item.origin)).second) items[kept++] = item;
  }
  items.resize(kept);
  const auto add = [&](const Item& item) {
    if (seen_.insert(Pack(item.place, item.origin)).second) items.push_back(item);
  };
  bool complete = false;
  for (size_t i = 0; i < items.size(); ++i) {
    const Item item = items[i];
    const RuleNetwork::State& place = network_->states[item.place];
    if (place.final) {
      if (item.origin == kBottom) {
        complete = true;
      } else {
        const std::span<const Waiting> waiting = WaitingFor(item.origin, place.rule);
        work_ += waiting.size();
        for (const Waiting& next : waiting) add(next.item);
      }
    }
    const std::span<const RuleNetwork::Call> calls = network_->calls_of(item.place);
    for (const RuleNetwork::Call& call : calls) {
      if (network_->rules[call.rule].nullable) add({call.target, item.origin});
    }
    if (items.size() > kMaxItems) {
      return Fail(absl::ResourceExhaustedError(
          "the grammar is too ambiguous: there are too many ways to read the text so far; make its "
          "rules exclude each other"));
    }
    if (!Spend(1 + calls.size())) return kFailed;
  }
  // Items at a dead end have done their work.
  std::erase_if(items, [&](const Item& item) {
    return network_->byte_edges_of(item.place).empty() && network_->calls_of(item.place).empty();
  });
  if (items.empty() && !complete) return kDead;
  std::sort(items.begin(), items.end());

  std::vector<uint64_t> key;
  key.reserve(items.size() + 1);
  for (const Item& item : items) key.push_back(Pack(item.place, item.origin));
  key.push_back(complete ? 1 : 0);
  const auto known = ids_.find(key);
  if (known != ids_.end()) return known->second;

  if (bytes_ > max_bytes_) {
    // What is refused does not make it grow, so that nothing would ever be dropped.
    collect_at_ = 0;
    return FailForMemory();
  }
  StateId id;
  if (free_.empty()) {
    id = static_cast<StateId>(sets_.size());
    sets_.emplace_back();
    next_.resize(sets_.size() * class_count_);
  } else {
    id = free_.back();
    free_.pop_back();
  }
  std::fill_n(next_.begin() + static_cast<ptrdiff_t>(id * class_count_), class_count_, kUnknown);
  Set set;
  set.kernel = items.size();
  set.items = std::move(items);
  set.complete = complete;
  if (!Predict(set, id)) {
    free_.push_back(id);
    return kFailed;
  }
  bytes_ += BytesOf(set);
  sets_[id] = std::move(set);
  ids_.emplace(std::move(key), id);
  return id;
}

bool ParseStates::Predict(Set& set, StateId id) {
  ++prediction_;
  if (prediction_ == 0) {  // wrapped around
    std::fill(predicted_.begin(), predicted_.end(), 0);
    ++prediction_;
  }
  seen_.clear();  // of items that begin here, which all have the same origin
  const auto add = [&](uint32_t place) {
    if (seen_.insert(place).second) set.items.push_back({place, id});
  };
  for (size_t i = 0; i < set.items.size(); ++i) {
    const Item item = set.items[i];
    const std::span<const RuleNetwork::Call> calls = network_->calls_of(item.place);
    if (!Spend(1 + calls.size())) return false;
    if ((set.waiting.size() + calls.size()) * sizeof(Waiting) > max_bytes_ / 4) {
      FailForMemory();
      return false;
    }
    for (const RuleNetwork::Call& call : calls) {
      const RuleNetwork::Rule& rule = network_->rules[call.rule];
      set.waiting.push_back({call.rule, {call.target, item.origin}});
      if (predicted_[call.rule] != prediction_) {
        predicted_[call.rule] = prediction_;
        add(rule.start);
      }
      // For items that began before, Intern has done so.
      if (rule.nullable && item.origin == id) add(call.target);
    }
  }
  std::sort(set.waiting.begin(), set.waiting.end());
  set.waiting.erase(std::unique(set.waiting.begin(), set.waiting.end()), set.waiting.end());
  return true;
}

StateId ParseStates::ComputeNext(StateId state, uint8_t byte_class) {
  std::vector<Item> items;
  uint64_t edges = sets_[state].items.size();
  for (const Item& item : sets_[state].items) {
    const std::span<const RuleNetwork::ByteEdge> edges_of = network_->byte_edges_of(item.place);
    edges += edges_of.size();
    for (const RuleNetwork::ByteEdge& edge : edges_of) {
      if (edge.byte_class == byte_class) items.push_back({edge.target, item.origin});
    }
  }
  if (!Spend(edges / 4)) return kFailed;
  const StateId next = Intern(std::move(items));
  if (next != kFailed) next_[state * class_count_ + byte_class] = next;
  return next;
}

StateId ParseStates::After(uint32_t rule, StateId origin) {
  if (origin == kBottom) return kDead;
  const uint64_t key = Pack(rule, origin);
  const auto known = after_.find(key);
  if (known != after_.end()) return known->second;
  std::vector<Item> items;
  for (const Waiting& waiting : WaitingFor(origin, rule)) items.push_back(waiting.item);
  if (!Spend(1 + items.size())) return kFailed;
  const StateId state = Intern(std::move(items));
  if (state != kFailed) {
    after_.emplace(key, state);
    bytes_ += 32;
  }
  return state;
}

bool ParseStates::BeginWork(uint64_t max_work, std::span<const uint32_t> pins) {
  status_ = absl::OkStatus();
  work_ = 0;
  max_work_ = max_work;
  if (bytes_ <= std::max(max_bytes_ / 2, collect_at_)) return false;
  Collect(pins);
  // Where much is needed, the next time is not before a part of the rest is used.
  collect_at_ = bytes_ + (max_bytes_ - std::min(bytes_, max_bytes_)) / 4;
  return true;
}

void ParseStates::Collect(std::span<const uint32_t> pins) {
  std::vector<bool> needed(sets_.size());
  std::vector<StateId> queue = {kDead, kBottom, start_};
  for (StateId id = 0; id < pins.size(); ++id) {
    if (pins[id] > 0) queue.push_back(id);
  }
  for (const StateId id : queue) needed[id] = true;
  for (size_t i = 0; i < queue.size(); ++i) {
    for (const Item& item : Kernel(queue[i])) {
      if (needed[item.origin]) continue;
      needed[item.origin] = true;
      queue.push_back(item.origin);
    }
  }
  absl::erase_if(ids_, [&](const auto& entry) { return !needed[entry.second]; });
  after_.clear();
  free_.clear();
  bytes_ = 0;
  for (StateId id = 0; id < sets_.size(); ++id) {
    if (needed[id]) {
      bytes_ += BytesOf(sets_[id]);
    } else {
      sets_[id] = Set();
      free_.push_back(id);
    }
  }
  for (StateId& next : next_) {
    if (next < kUnknown && !needed[next]) next = kUnknown;
  }
}

absl::StatusOr<std::string> ParseStates::ShortestCompletion(StateId state) const {
  // The cost of what follows a rule, by rule and the state in which it began. Those that a state
  // waits with began in it or before it; within one state, costs are lowered until none changes.
  constexpr uint64_t kInfinite = std::numeric_limits<uint64_t>::max();
  struct Rest {
    uint64_t cost = kInfinite;
    Item next;
  };
  absl::flat_hash_map<uint64_t, Rest> rests;
  const auto rest_of = [&](uint32_t rule, StateId origin) -> uint64_t {
    if (origin == kBottom) return 0;
    const auto known = rests.find(Pack(rule, origin));
    return known == rests.end() ? kInfinite : known->second.cost;
  };
  // The states that matter. One that depends on another may have a smaller id, since ids are used
  // again: so the order is that of a search, backwards.
  std::vector<StateId> order;
  std::vector<std::pair<StateId, size_t>> stack = {{state, 0}};
  absl::flat_hash_set<StateId> entered = {state};
  while (!stack.empty()) {
    auto& [id, at] = stack.back();
    if (at == sets_[id].kernel) {
      order.push_back(id);
      stack.pop_back();
      continue;
    }
    const StateId origin = sets_[id].items[at++].origin;
    if (origin != kBottom && entered.insert(origin).second) stack.push_back({origin, 0});
  }
  for (const StateId id : order) {
    for (bool changed = true; changed;) {
      changed = false;
      for (const Waiting& waiting : sets_[id].waiting) {
        const RuleNetwork::State& place = network_->states[waiting.item.place];
        const uint64_t after = rest_of(place.rule, waiting.item.origin);
        if (after == kInfinite) continue;
        Rest& rest = rests[Pack(waiting.rule, id)];
        if (place.distance + after < rest.cost) {
          rest = {place.distance + after, waiting.item};
          changed = true;
        }
      }
    }
  }
  std::string text;
  if (Complete(state)) return text;
  Item item;
  uint64_t best = kInfinite;
  for (const Item& candidate : Kernel(state)) {
    const RuleNetwork::State& place = network_->states[candidate.place];
    const uint64_t after = rest_of(place.rule, candidate.origin);
    if (after != kInfinite && place.distance + after < best) {
      best = place.distance + after;
      item = candidate;
    }
  }
  if (best > kMaxCompletionBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the shortest way to complete the text has more than ", kMaxCompletionBytes, " bytes"));
  }
  for (;;) {
    // To the end of the item's rule; what is still to come after calls is stacked.
    std::vector<uint32_t> places = {item.place};
    while (!places.empty()) {
      const uint32_t at = places.back();
      places.pop_back();
      const RuleNetwork::State& place = network_->states[at];
      if (place.final) continue;
      const auto byte_edges = network_->byte_edges_of(at);
      if (place.shortest < byte_edges.size()) {
        const RuleNetwork::ByteEdge& edge = byte_edges[place.shortest];
        text.push_back(static_cast<char>(network_->class_bytes[edge.byte_class]));
        places.push_back(edge.target);
      } else {
        const RuleNetwork::Call& call = network_->calls_of(at)[place.shortest - byte_edges.size()];
        places.push_back(call.target);
        places.push_back(network_->rules[call.rule].start);
      }
    }
    if (item.origin == kBottom) break;
    item = rests[Pack(network_->states[item.place].rule, item.origin)].next;
  }
  return text;
}

}  // namespace octogate::workers

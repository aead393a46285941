#include "workers/grammar/token_masks.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/status_macros.h"

namespace octogate::workers {

TokenMasks::TokenMasks(const RuleNetwork* network, const TokenTrie* trie, ParseStates* states,
                       size_t max_bytes)
    : network_(network),
      trie_(trie),
      states_(states),
      word_count_((static_cast<size_t>(trie->vocab_size()) + 63) / 64),
      max_bytes_(max_bytes),
      place_masks_(network->state_count()),
      path_(static_cast<size_t>(trie->max_depth()) + 1),
      place_words_(word_count_) {}

TokenMasks::Tokens TokenMasks::Store(std::span<const uint64_t> words) const {
  size_t count = 0;
  for (const uint64_t word : words) count += static_cast<size_t>(std::popcount(word));
  Tokens tokens;
  if (count * sizeof(int32_t) >= words.size_bytes()) {
    tokens.words.assign(words.begin(), words.end());
    return tokens;
  }
  tokens.list.reserve(count);
  for (size_t i = 0; i < words.size(); ++i) {
    for (uint64_t word = words[i]; word != 0; word &= word - 1) {
      tokens.list.push_back(static_cast<int32_t>(64 * i) + std::countr_zero(word));
    }
  }
  return tokens;
}

void TokenMasks::Add(const Tokens& tokens, std::span<uint64_t> words) {
  for (const int32_t id : tokens.list)
    words[static_cast<size_t>(id) / 64] |= uint64_t{1} << id % 64;
  for (size_t i = 0; i < tokens.words.size(); ++i) words[i] |= tokens.words[i];
}

absl::Status TokenMasks::Walk(uint32_t node, StateId state, std::span<uint64_t> words,
                              std::vector<uint32_t>* exits) {
  const std::span<const TokenTrie::Node> nodes = trie_->nodes();
  const uint32_t end = nodes[node].skip;
  path_[nodes[node].depth] = state;
  uint64_t steps = 0;
  for (uint32_t i = node + 1; i < end;) {
    const TokenTrie::Node& child = nodes[i];
    ++steps;
    const StateId next = states_->Next(path_[child.depth - 1], child.byte);
    if (next == ParseStates::kDead) {
      i = child.skip;
      continue;
    }
    if (next == ParseStates::kFailed) return states_->status();
    path_[child.depth] = next;
    for (uint32_t t = child.first_token; t < nodes[i + 1].first_token; ++t) {
      const auto id = static_cast<size_t>(trie_->token(t));
      words[id / 64] |= uint64_t{1} << id % 64;
    }
    if (exits != nullptr && states_->Complete(next) && trie_->has_children(i)) {
      exits->push_back(i);
    }
    ++i;
  }
  return states_->Spend(steps) ? absl::OkStatus() : states_->status();
}

absl::Status TokenMasks::Prepare(uint32_t place) {
  if (place_masks_[place] != nullptr) return absl::OkStatus();
  const StateId state = states_->Suffix(place);
  if (state == ParseStates::kFailed) return states_->status();
  auto mask = std::make_unique<PlaceMask>();
  std::fill(place_words_.begin(), place_words_.end(), 0);
  OCTOGATE_RETURN_IF_ERROR(Walk(0, state, place_words_, &mask->exits));
  mask->allowed = Store(place_words_);
  mask->exits.shrink_to_fit();
  bytes_ += sizeof(PlaceMask) + mask->allowed.list.size() * sizeof(int32_t) +
            mask->allowed.words.size() * sizeof(uint64_t) + mask->exits.size() * sizeof(uint32_t);
  place_masks_[place] = std::move(mask);
  ++place_count_;
  return absl::OkStatus();
}

absl::Status TokenMasks::Fill(StateId state, std::span<uint64_t> words) {
  std::fill(words.begin(), words.end(), 0);
  const auto known = state_masks_.find(state);
  if (known != state_masks_.end()) {
    Add(known->second, words);
    return absl::OkStatus();
  }
  MakeRoom();
  for (const ParseStates::Item& item : states_->Kernel(state)) {
    OCTOGATE_RETURN_IF_ERROR(Prepare(item.place));
    const PlaceMask& mask = *place_masks_[item.place];
    Add(mask.allowed, words);
    if (!states_->Spend(1 + (mask.allowed.list.size() + mask.allowed.words.size()) / 8)) {
      return states_->status();
    }
    if (mask.exits.empty()) continue;
    const StateId after = states_->After(network_->states[item.place].rule, item.origin);
    if (after == ParseStates::kFailed) return states_->status();
    if (after == ParseStates::kDead) continue;
    for (const uint32_t node : mask.exits) {
      OCTOGATE_RETURN_IF_ERROR(Walk(node, after, words, nullptr));
    }
  }
  if (states_->Complete(state)) {
    for (const int32_t id : trie_->end_ids()) {
      words[static_cast<size_t>(id) / 64] |= uint64_t{1} << id % 64;
    }
  }
  Tokens tokens = Store(words);
  const size_t bytes = 2 * sizeof(Tokens) + tokens.list.size() * sizeof(int32_t) +
                       tokens.words.size() * sizeof(uint64_t);
  bytes_ += bytes;
  state_bytes_ += bytes;
  state_masks_.emplace(state, std::move(tokens));
  return absl::OkStatus();
}

void TokenMasks::ForgetStates() {
  state_masks_.clear();
  bytes_ -= state_bytes_;
  state_bytes_ = 0;
}

void TokenMasks::MakeRoom() {
  if (bytes_ <= max_bytes_) return;
  ForgetStates();
  if (bytes_ <= max_bytes_ / 2) return;
  for (auto& mask : place_masks_) mask.reset();
  place_count_ = 0;
  bytes_ = 0;
}

}  // namespace octogate::workers

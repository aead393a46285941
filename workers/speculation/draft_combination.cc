#include "workers/speculation/draft_combination.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace octogate::workers {
namespace {

// Kinds of more than two drafters that are told apart; what comes beyond is taken as it is.
constexpr size_t kMostKinds = 4096;
// Nodes of a kind that are remembered, and evidence below which drafters are believed.
constexpr double kMemory = 512;
constexpr double kPrior = 1;

// Of probability that siblings of the best one have together, however sure its drafter is.
constexpr float kLeastLeft = 0.02F;

constexpr std::array<float, 6> kOwnSteps = {0.03F, 0.1F, 0.25F, 0.45F, 0.7F, 0.9F};
constexpr std::array<float, 4> kBesideSteps = {0.1F, 0.3F, 0.6F, 0.85F};

// 0: the drafter says nothing of the siblings. They are its own from 1 on, beside it from 8 on.
uint32_t OwnKind(float probability) {
  uint32_t kind = 1;
  for (const float step : kOwnSteps) kind += probability >= step ? 1 : 0;
  return kind;
}
uint32_t BesideKind(float best) {
  uint32_t kind = 8;
  for (const float step : kBesideSteps) kind += best >= step ? 1 : 0;
  return kind;
}

constexpr uint32_t kDrafterBits = 4;
constexpr uint32_t kDrafterMask = 15;
static_assert(kDrafterBits * kMaxDrafters <= 32);

}  // namespace

const DraftCombination::Learned* DraftCombination::Find(uint32_t kind) const {
  if (kind < of_two_.size()) return &of_two_[kind];
  const auto found = others_.find(kind);
  return found == others_.end() ? nullptr : &found->second;
}

DraftCombination::Learned* DraftCombination::Make(uint32_t kind) {
  if (kind < of_two_.size()) return &of_two_[kind];
  const auto found = others_.find(kind);
  if (found != others_.end()) return &found->second;
  if (others_.size() >= kMostKinds) return nullptr;
  return &others_.emplace(kind, Learned{}).first->second;
}

void DraftCombination::Combine(std::span<const DraftTree> proposals, CombinedDraft& draft) const {
  std::vector<DraftNode>& nodes = draft.tree.nodes;
  nodes.clear();
  draft.kinds.clear();
  size_t count = 0;
  for (const DraftTree& proposal : proposals) count += proposal.nodes.size();
  nodes.reserve(count);
  draft.kinds.reserve(count);
  // The children of each node, as lists, and what drafters say of them at best, as kinds; [0] is
  // the root.
  std::vector<int32_t> first(count + 1, -1);
  std::vector<int32_t> next(count, -1);
  std::vector<uint32_t> beside(count + 1, 0);
  // Of the tokens of the children, by some of their bits: most others differ in these.
  std::vector<uint64_t> tokens(count + 1, 0);
  std::vector<int32_t> places;
  for (size_t d = 0; d < proposals.size(); ++d) {
    const auto shift = static_cast<uint32_t>(d) * kDrafterBits;
    places.clear();
    for (const DraftNode& node : proposals[d].nodes) {
      const int32_t parent = node.parent < 0 ? -1 : places[static_cast<size_t>(node.parent)];
      const auto list = static_cast<size_t>(parent + 1);
      const uint64_t bit = uint64_t{1} << (static_cast<uint32_t>(node.token) % 64);
      int32_t place = (tokens[list] & bit) == 0 ? -1 : first[list];
      tokens[list] |= bit;
      while (place >= 0 && nodes[static_cast<size_t>(place)].token != node.token) {
        place = next[static_cast<size_t>(place)];
      }
      if (place < 0) {
        place = static_cast<int32_t>(nodes.size());
        next[nodes.size()] = first[list];
        first[list] = place;
        nodes.push_back(node);
        nodes.back().parent = parent;
        draft.kinds.push_back(0);
      } else {
        DraftNode& merged = nodes[static_cast<size_t>(place)];
        merged.probability = std::max(merged.probability, node.probability);
        merged.drafters |= node.drafters;
        merged.rank = std::min(merged.rank, node.rank);
      }
      draft.kinds[static_cast<size_t>(place)] |= OwnKind(node.probability) << shift;
      const uint32_t here = (beside[list] >> shift) & kDrafterMask;
      const uint32_t best = std::max(here, BesideKind(node.probability));
      beside[list] = (beside[list] & ~(kDrafterMask << shift)) | (best << shift);
      places.push_back(place);
    }
  }
  if (proposals.size() > 1) {
    std::vector<float> best(count + 1, 0);  // of the children, likewise
    for (const DraftNode& node : nodes) {
      float& probability = best[static_cast<size_t>(node.parent + 1)];
      probability = std::max(probability, node.probability);
    }
    for (DraftNode& node : nodes) {
      const float sibling = best[static_cast<size_t>(node.parent + 1)];
      if (node.probability == sibling) continue;
      node.probability = std::min(node.probability, std::max(1 - sibling, kLeastLeft));
    }
  }
  draft.said.clear();
  for (const DraftNode& node : nodes) draft.said.push_back(node.probability);
  if (proposals.size() < 2) return;
  for (size_t i = 0; i < nodes.size(); ++i) {
    uint32_t& kind = draft.kinds[i];
    const uint32_t others = beside[static_cast<size_t>(nodes[i].parent + 1)];
    for (size_t d = 0; d < proposals.size(); ++d) {
      const uint32_t mask = kDrafterMask << (static_cast<uint32_t>(d) * kDrafterBits);
      if ((kind & mask) == 0) kind |= others & mask;
    }
    const Learned* const learned = Find(kind);
    if (learned == nullptr) continue;
    const double expected = double{nodes[i].probability} * learned->factor;
    nodes[i].probability = static_cast<float>(std::clamp(expected, 0.0, 1.0));
  }
}

void DraftCombination::Record(const CombinedDraft& draft, std::span<const int32_t> chosen) {
  const std::vector<DraftNode>& nodes = draft.tree.nodes;
  int32_t parent = -1;
  for (const int32_t token : chosen) {
    int32_t right = -1;
    for (auto i = static_cast<size_t>(parent + 1); i < nodes.size(); ++i) {
      if (nodes[i].parent != parent) continue;
      const bool accepted = nodes[i].token == token;
      if (accepted) right = static_cast<int32_t>(i);
      Learned* const learned = Make(draft.kinds[i]);
      if (learned == nullptr) continue;
      AddTested(double{draft.said[i]}, accepted, kMemory, learned->sums);
      learned->factor = learned->sums.Factor(kPrior);
    }
    if (right < 0) return;
    parent = right;
  }
}

}  // namespace octogate::workers

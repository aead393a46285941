#include "workers/speculation/recycling.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "workers/speculation/best_first.h"
#include "workers/speculation/hit_rates.h"
#include "workers/speculation/recycling_state.h"

namespace octogate::workers {
namespace {

// What a candidate is from: a token's row where its pair has none, a token's row behind that of its
// pair, and rows of pairs with 1, 2, 3 and more tokens.
constexpr int kSources = 6;
// First candidates in a row before it, up to 3.
constexpr int kStreaks = 4;
// Depths that are told apart for plans; the last stands for all behind it.
constexpr int kPlannedDepths = 8;
constexpr int kReplanned = 512;  // tokens

constexpr float kScopeWeight = 32;  // of the scope's rate, in tries of the sequence
constexpr float kPriorWeight = 8;

struct Candidate {
  int32_t token = 0;
  int source = 0;
  int rank = 0;  // in its row
};
// Of a pair's and a token's row.
using Candidates = std::array<Candidate, 2 * static_cast<size_t>(kMaxRecyclingRow)>;

std::span<const Candidate> FindCandidates(const RecyclingTable& table, int32_t previous,
                                          int32_t token, Candidates& candidates) {
  size_t count = 0;
  const std::span<const int32_t> of_pair = table.After(previous, token);
  const int pair_source = 1 + std::min(static_cast<int>(of_pair.size()), 4);
  const auto bit_of = [](int32_t next) {
    return uint64_t{1} << (static_cast<uint32_t>(next) % 64);
  };
  uint64_t bits = 0;  // of the pair's tokens: most others have others
  for (int32_t next : of_pair) {
    candidates[count] = {next, pair_source, static_cast<int>(count)};
    bits |= bit_of(next);
    ++count;
  }
  int rank = 0;
  for (int32_t next : table.After(token)) {
    if ((bits & bit_of(next)) == 0 ||
        std::find(of_pair.begin(), of_pair.end(), next) == of_pair.end()) {
      candidates[count++] = {next, of_pair.empty() ? 0 : 1, rank};
    }
    ++rank;
  }
  return {candidates.data(), count};
}

size_t Kind(const Candidate& candidate, int streak) {
  return static_cast<size_t>((streak * kSources + candidate.source) * kMaxRecyclingRow +
                             candidate.rank);
}
constexpr size_t kKinds = static_cast<size_t>(kStreaks * kSources * kMaxRecyclingRow);

size_t PlannedKind(int depth, int rank) {
  return static_cast<size_t>(depth * 2 * kMaxRecyclingRow + rank);
}
constexpr size_t kPlannedKinds = static_cast<size_t>(kPlannedDepths * 2 * kMaxRecyclingRow);

float Prior(const Candidate& candidate) {
  constexpr std::array<float, kSources> kFirst = {0.3F, 0.1F, 0.6F, 0.5F, 0.4F, 0.4F};
  return kFirst[static_cast<size_t>(candidate.source)] / static_cast<float>(1 + 2 * candidate.rank);
}

int NextStreak(int streak, bool first) { return first ? std::min(streak + 1, kStreaks - 1) : 0; }

}  // namespace

class RecyclingScope {
 public:
  explicit RecyclingScope(const RecyclingTableOptions& options)
      : table(options), rates(kKinds), planned_rates(kPlannedKinds) {}

  uint64_t bytes() const {
    return sizeof(*this) + table.bytes() + 2 * sizeof(float) * (kKinds + kPlannedKinds) +
           plan.capacity() * sizeof(RankNode);
  }

  // For at most this many nodes.
  const RankTree& Plan(int nodes) {
    if (nodes == plan_nodes && tokens < plan_tokens + kReplanned) return plan;
    plan_nodes = nodes;
    plan_tokens = tokens;
    std::vector<std::vector<float>> by_depth(kPlannedDepths);
    for (int depth = 0; depth < kPlannedDepths; ++depth) {
      for (int rank = 0; rank < table.row_size(); ++rank) {
        const float shallower =
            depth == 0 ? 0.4F / static_cast<float>(1 + 2 * rank)
                       : by_depth[static_cast<size_t>(depth) - 1][static_cast<size_t>(rank)];
        by_depth[static_cast<size_t>(depth)].push_back(
            planned_rates.Rate(PlannedKind(depth, rank), shallower, kPriorWeight));
      }
    }
    plan = PlanRankTree(by_depth, nodes);
    return plan;
  }

  RecyclingTable table;
  HitRates rates;
  HitRates planned_rates;
  uint64_t tokens = 0;  // that were not of prompts

 private:
  RankTree plan;
  int plan_nodes = -1;
  uint64_t plan_tokens = 0;
};

namespace {

class RecyclingSequence : public SequenceDrafter {
 public:
  RecyclingSequence(const RecyclingOptions& options, std::shared_ptr<RecyclingScope> scope)
      : options_(options), scope_(std::move(scope)), rates_(kKinds) {}

  void Append(std::span<const int32_t> tokens) override {
    for (size_t i = 0; i < tokens.size(); ++i) {
      const int32_t next = tokens[i];
      if (is_begun_) CountHit(next, static_cast<int>(i));
      // Until the row's candidates are observed, and for good where there are none.
      scope_->table.Prepend(previous_, last_, next);
      previous_ = last_;
      last_ = scope_->table.IsToken(next) ? next : -1;
    }
    is_begun_ = is_begun_ || !tokens.empty();
  }

  void Observe(std::span<const ComputedRow> rows) override {
    RecyclingTable& table = scope_->table;
    // What is set later stays.
    for (auto row = rows.rbegin(); row != rows.rend(); ++row) {
      if (!row->kept) table.Set(row->previous, row->token, row->candidates);
    }
    for (const ComputedRow& row : rows) {
      if (row.kept) table.Set(row.previous, row.token, row.candidates);
    }
  }

  void Propose(int max_nodes, int max_depth, DraftTree& tree) override {
    max_nodes = std::min(max_nodes, kMaxDraftNodes);
    if (max_nodes <= 0 || max_depth <= 0 || last_ < 0) return;
    switch (options_.shape) {
      case RecyclingOptions::Shape::kBestFirst:
        return ProposeBestFirst(max_nodes, max_depth, tree);
      case RecyclingOptions::Shape::kPlanned:
        return ProposeRanks(scope_->Plan(max_nodes), max_nodes, max_depth, tree);
      case RecyclingOptions::Shape::kFixed:
        return ProposeRanks(options_.tree, max_nodes, max_depth, tree);
    }
  }

  uint64_t bytes() const override { return sizeof(*this) + 2 * sizeof(float) * rates_.kinds(); }

 private:
  float Probability(const Candidate& candidate, int streak) const {
    const size_t kind = Kind(candidate, streak);
    return rates_.Rate(kind, scope_->rates.Rate(kind, Prior(candidate), kPriorWeight),
                       kScopeWeight);
  }

  // `next` follows as the token of this depth of a step.
  void CountHit(int32_t next, int depth) {
    Candidates buffer;
    const auto candidates = FindCandidates(scope_->table, previous_, last_, buffer);
    bool is_first = false;
    for (size_t i = 0; i < candidates.size(); ++i) {
      const bool hit = candidates[i].token == next;
      const size_t kind = Kind(candidates[i], streak_);
      rates_.Count(kind, hit);
      scope_->rates.Count(kind, hit);
      scope_->planned_rates.Count(
          PlannedKind(std::min(depth, kPlannedDepths - 1), static_cast<int>(i)), hit);
      is_first = is_first || (hit && i == 0);
    }
    streak_ = NextStreak(streak_, is_first);
    ++scope_->tokens;
  }

  void ProposeBestFirst(int max_nodes, int max_depth, DraftTree& tree) const {
    // A parent's candidate, the best of those that are not in the tree.
    struct Open {
      int32_t children = 0;   // the parent's, by number
      int32_t candidate = 0;  // of these
    };
    struct Children {
      int32_t parent = -1;
      int32_t token = 0;  // of the parent
      float path = 1;     // to the parent
      int streak = 0;     // behind the parent
      size_t begin = 0;   // in `probable`, the most probable first
      size_t count = 0;
      int32_t first = 0;  // the first candidate's token
    };
    struct Probable {
      float probability = 0;
      int32_t token = 0;
    };
    BestFirst<Open> open(max_nodes);
    std::vector<Children> all;
    all.reserve(static_cast<size_t>(max_nodes) + 1);
    std::vector<Probable> probable;
    probable.reserve(static_cast<size_t>(max_nodes) * 8);
    KnownRates<kKinds> rates;
    DraftTreeBuilder builder(tree);
    const auto add = [&](int32_t parent, int32_t previous, int32_t token, float path, int streak) {
      Candidates buffer;
      const auto candidates = FindCandidates(scope_->table, previous, token, buffer);
      if (candidates.empty()) return;
      const size_t begin = probable.size();
      for (const Candidate& candidate : candidates) {
        const float probability =
            rates.Get(Kind(candidate, streak), [&] { return Probability(candidate, streak); });
        // They hardly ever have to move, and equal ones never.
        probable.emplace_back();
        size_t place = probable.size() - 1;
        for (; place > begin && probable[place - 1].probability < probability; --place) {
          probable[place] = probable[place - 1];
        }
        probable[place] = {probability, candidate.token};
      }
      open.Offer(path * probable[begin].probability, {static_cast<int32_t>(all.size()), 0});
      all.push_back({parent, token, path, streak, begin, candidates.size(), candidates[0].token});
    };
    add(-1, previous_, last_, 1, streak_);
    while (tree.size() < max_nodes && !open.empty()) {
      const auto [path, best] = open.Take();
      const Children& children = all[static_cast<size_t>(best.children)];
      const size_t place = children.begin + static_cast<size_t>(best.candidate);
      const auto [probability, token] = probable[place];
      const int node = builder.Add(children.parent, token, probability, 1);
      if (tree.size() == max_nodes) break;
      if (best.candidate + 1 < static_cast<int32_t>(children.count)) {
        open.Offer(children.path * probable[place + 1].probability,
                   {best.children, best.candidate + 1});
      }
      if (tree.nodes[static_cast<size_t>(node)].depth < max_depth) {
        add(node, children.token, token, path,
            NextStreak(children.streak, token == children.first));
      }
    }
  }

  void ProposeRanks(const RankTree& ranks, int max_nodes, int max_depth, DraftTree& tree) const {
    struct Place {
      int node = -1;
      int streak = 0;
    };
    std::vector<Place> places;  // of the nodes of `ranks`; -1: not drafted
    places.reserve(ranks.size());
    for (size_t i = 0; i < ranks.size(); ++i) {
      places.push_back({});
      if (tree.size() >= max_nodes) break;
      Place parent{-1, streak_};
      int32_t previous = previous_;
      int32_t token = last_;
      int depth = 1;
      if (ranks[i].parent >= 0) {
        if (static_cast<size_t>(ranks[i].parent) >= i) continue;
        parent = places[static_cast<size_t>(ranks[i].parent)];
        if (parent.node < 0) continue;
        const DraftNode& node = tree.nodes[static_cast<size_t>(parent.node)];
        previous = node.parent < 0 ? last_ : tree.nodes[static_cast<size_t>(node.parent)].token;
        token = node.token;
        depth = node.depth + 1;
      }
      if (depth > max_depth) continue;
      Candidates buffer;
      const auto candidates = FindCandidates(scope_->table, previous, token, buffer);
      if (ranks[i].rank < 0 || static_cast<size_t>(ranks[i].rank) >= candidates.size()) continue;
      const Candidate& candidate = candidates[static_cast<size_t>(ranks[i].rank)];
      places[i].node =
          tree.Add(parent.node, candidate.token, Probability(candidate, parent.streak), 1);
      places[i].streak = NextStreak(parent.streak, ranks[i].rank == 0);
    }
  }

  const RecyclingOptions& options_;
  const std::shared_ptr<RecyclingScope> scope_;
  HitRates rates_;
  bool is_begun_ = false;  // the prompt is there
  int32_t previous_ = -1;
  int32_t last_ = -1;
  int streak_ = 0;
  // Pairs whose candidates were observed in this step.
};

}  // namespace

RecyclingDrafter::RecyclingDrafter(const RecyclingOptions& options)
    : options_(options), scopes_(options.max_scopes, options.max_bytes) {
  options_.table.row_size = std::clamp(options_.table.row_size, 1, kMaxRecyclingRow);
}

std::shared_ptr<RecyclingScope> RecyclingDrafter::Use(std::string_view scope) {
  return scopes_.Use(scope, [this] { return std::make_shared<RecyclingScope>(options_.table); });
}

std::unique_ptr<SequenceDrafter> RecyclingDrafter::Begin(std::string_view scope) {
  return std::make_unique<RecyclingSequence>(options_, Use(scope));
}

uint64_t RecyclingDrafter::bytes() const { return scopes_.bytes(); }

std::unique_ptr<LearnedState> RecyclingDrafter::MakeState() const {
  return std::make_unique<RecyclingState>(options_.table);
}

std::string RecyclingDrafter::TakeLearned(std::string_view scope, size_t max_bytes) {
  const std::shared_ptr<RecyclingScope> found = scopes_.Find(scope);
  if (found == nullptr) return "";
  return found->table.TakeChanged(max_bytes / RecyclingTable::RowBytes(options_.table.row_size));
}

absl::Status RecyclingDrafter::Teach(std::string_view scope, std::string_view bytes) {
  return Use(scope)->table.Merge(bytes).status();
}

}  // namespace octogate::workers

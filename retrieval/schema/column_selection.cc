#include "retrieval/schema/column_selection.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "retrieval/schema/key_closure.h"

namespace octogate::schema {
namespace {

// Columns that score below this share of the best are not needed for room's sake alone.
constexpr float kLeastShare = 0.08F;
// Parts of a longer primary key are worth less than the columns they displace.
constexpr size_t kMaxKeyColumns = 3;
// Tables may be joined in many ways (a match has eleven home players): the best keys are kept.
constexpr size_t kMaxEdgesPerPair = 3;

LinkReason ReasonOf(const ScoreParts& parts) {
  const float lexical = parts.bm25 + parts.character + parts.name;
  if (parts.value > lexical && parts.value > parts.dense) return LinkReason::kValue;
  return parts.dense > lexical ? LinkReason::kDense : LinkReason::kLexical;
}

class Selector {
 public:
  Selector(const LinkIndex& index, const Ranking& ranking,
           const std::function<bool(ColumnId)>& visible, const std::vector<uint32_t>& tables)
      : index_(index), ranking_(ranking), visible_(visible), wanted_(tables) {
    for (size_t i = 0; i < ranking.columns.size(); ++i) {
      ranked_.emplace(Key(ranking.columns[i].id), static_cast<int>(i));
    }
  }

  ColumnSelection Select(size_t best) const {
    ColumnSelection selection;
    absl::flat_hash_set<uint64_t> kept;
    std::vector<uint32_t> tables;
    const auto add = [&](ColumnId id, LinkReason reason) {
      if (!visible_(id) || !kept.insert(Key(id)).second) return;
      const auto found = ranked_.find(Key(id));
      selection.columns.push_back(
          {.id = id, .reason = reason, .ranked = found == ranked_.end() ? -1 : found->second});
    };
    for (size_t i = 0; i < best; ++i) {
      const RankedColumn& column = ranking_.columns[i];
      add(column.id, ReasonOf(column.parts));
      if (std::find(tables.begin(), tables.end(), column.id.entry) == tables.end()) {
        tables.push_back(column.id.entry);
        AddPrimaryKey(column.id.entry, add);
      }
    }
    for (const uint32_t entry : wanted_) {
      if (std::find(tables.begin(), tables.end(), entry) != tables.end()) continue;
      tables.push_back(entry);
      const size_t before = selection.columns.size();
      AddPrimaryKey(entry, add);
      // One without a key that is kept has another column, or it would not be shown.
      const size_t columns = index_.catalog().entries()[entry]->columns.size();
      for (uint32_t c = 0; selection.columns.size() == before && c < columns; ++c) {
        add({entry, c}, LinkReason::kForced);
      }
    }
    KeyClosure closure = CloseKeys(index_, tables, visible_);
    for (const uint32_t entry : closure.entries) {
      if (std::find(tables.begin(), tables.end(), entry) == tables.end()) AddPrimaryKey(entry, add);
    }
    for (const uint32_t edge : BestEdges(closure.edges)) {
      const KeyEdge& key = index_.catalog().edges()[edge];
      add(key.from, LinkReason::kClosure);
      add(key.to, LinkReason::kClosure);
      selection.edges.push_back(edge);
    }
    // Keys of a table to itself are worth telling, but no column more.
    const auto is_kept = [&](ColumnId id) { return kept.contains(Key(id)); };
    for (const uint32_t entry : closure.entries) {
      for (const uint32_t edge : index_.EdgesAt(entry)) {
        const KeyEdge& key = index_.catalog().edges()[edge];
        if (key.from.entry == key.to.entry && index_.catalog().IsUsable(key, is_kept)) {
          selection.edges.push_back(edge);
        }
      }
    }
    selection.disconnected = std::move(closure.disconnected);
    return selection;
  }

 private:
  static uint64_t Key(ColumnId id) { return uint64_t{id.entry} << 32 | id.column; }

  template <typename Add>
  void AddPrimaryKey(uint32_t entry, const Add& add) const {
    const Table& table = *index_.catalog().entries()[entry];
    size_t parts = 0;
    for (uint32_t c = 0; c < table.columns.size(); ++c) {
      parts += table.columns[c].primary_key && visible_({entry, c}) ? 1 : 0;
    }
    if (parts > kMaxKeyColumns) return;
    for (uint32_t c = 0; c < table.columns.size(); ++c) {
      if (table.columns[c].primary_key) add({entry, c}, LinkReason::kKey);
    }
  }

  float ScoreOf(ColumnId id) const {
    const auto found = ranked_.find(Key(id));
    if (found == ranked_.end()) return 0;
    const RankedColumn& column = ranking_.columns[static_cast<size_t>(found->second)];
    return column.likelihood > 0 ? column.likelihood : column.score;
  }

  // Of each pair of tables the keys whose columns score best; keys of several columns whole.
  std::vector<uint32_t> BestEdges(const std::vector<uint32_t>& edges) const {
    struct Candidate {
      uint32_t low, high;
      float score;
      uint32_t edge;
    };
    std::vector<Candidate> candidates;
    for (const uint32_t edge : edges) {
      const KeyEdge& key = index_.catalog().edges()[edge];
      candidates.push_back({std::min(key.from.entry, key.to.entry),
                            std::max(key.from.entry, key.to.entry),
                            key.group != 0 ? 1e9F : ScoreOf(key.from) + ScoreOf(key.to), edge});
    }
    std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
      if (a.low != b.low) return a.low < b.low;
      if (a.high != b.high) return a.high < b.high;
      return a.score != b.score ? a.score > b.score : a.edge < b.edge;
    });
    std::vector<uint32_t> best;
    size_t of_pair = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      const bool same = i > 0 && candidates[i].low == candidates[i - 1].low &&
                        candidates[i].high == candidates[i - 1].high;
      of_pair = same ? of_pair + 1 : 1;
      const bool grouped = candidates[i].score >= 1e9F;
      if (of_pair <= kMaxEdgesPerPair || grouped) best.push_back(candidates[i].edge);
    }
    std::sort(best.begin(), best.end());
    return best;
  }

  const LinkIndex& index_;
  const Ranking& ranking_;
  const std::function<bool(ColumnId)>& visible_;
  const std::vector<uint32_t>& wanted_;
  absl::flat_hash_map<uint64_t, int> ranked_;
};

}  // namespace

ColumnSelection SelectColumns(const LinkIndex& index, const Ranking& ranking, size_t limit,
                              float least_likelihood, const std::function<bool(ColumnId)>& visible,
                              const std::vector<uint32_t>& tables) {
  const Selector selector(index, ranking, visible, tables);
  if (ranking.columns.empty()) return selector.Select(0);
  size_t high = std::min(ranking.columns.size(), std::max<size_t>(limit, 1));
  const bool likelihoods = ranking.columns[0].likelihood > 0;
  const auto weak = [&](const RankedColumn& column) {
    return likelihoods ? column.likelihood < least_likelihood
                       : column.score < kLeastShare * ranking.columns[0].score;
  };
  while (high > 1 && weak(ranking.columns[high - 1])) {
    --high;
  }
  ColumnSelection best = selector.Select(1);
  size_t low = 1;
  while (low < high) {
    const size_t middle = low + (high - low + 1) / 2;
    ColumnSelection selection = selector.Select(middle);
    if (selection.columns.size() <= limit) {
      best = std::move(selection);
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return best;
}

}  // namespace octogate::schema

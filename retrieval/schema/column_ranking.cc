#include "retrieval/schema/column_ranking.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace octogate::schema {
namespace {

// Tables whose columns that do not match are ranked too: those of the best tables may be needed
// for what the question leaves unsaid.
constexpr size_t kTablesInFull = 8;
constexpr size_t kLargestTableInFull = 400;
constexpr float kTablesOfOneSubject = 20;
// Where thousands of tables share their words, what tells the one that has all of the question's
// from those that have some twice is how much it and one of its columns cover together: this share
// of a table's score in a catalog of ten times the above, and none in one of less. The rest is half
// its own words and half its best columns.
constexpr float kCovered = 0.5F;
// Weaker columns are counted, but neither chosen nor listed.
constexpr size_t kMaxRanked = 4096;

// How often SQL reads a column of a table that it reads, whatever the question: by its place
// (measured on the gold queries of Spider's training split).
float PriorOf(uint8_t kind, uint32_t place) {
  if ((kind & kPrimaryKeyColumn) != 0) return 0.54F;
  return 0.75F / (1 + 0.5F * static_cast<float>(std::max<uint32_t>(place, 1)));
}

float CueOf(uint8_t kind, const QuestionCues& cues) {
  const bool number = (kind & kNumberColumn) != 0;
  if (cues.time && (kind & kTimeColumn) != 0) return 1;
  if (cues.name && !number && (kind & kNameColumn) != 0) return 1;
  return cues.number && number && (kind & kPrimaryKeyColumn) == 0 ? 0.5F : 0;
}

// Everything that speaks for a column but its table.
float OwnScore(const ScoreParts& parts) {
  return parts.bm25 + parts.character + parts.dense + parts.value + parts.name;
}

class Ranker {
 public:
  Ranker(const LinkIndex& index, const Visibility& visible, const LexicalMatches& matches,
         const std::vector<DenseColumns::Hit>& dense, const QuestionCues& cues,
         const LinkWeights& weights)
      : catalog_(index.catalog()),
        visible_(visible),
        matches_(matches),
        dense_(dense),
        cues_(cues),
        weights_(weights),
        tables_(index.catalog().entries().size()),
        many_tables_(std::log10(
            std::max(static_cast<float>(visible.num_entries) / kTablesOfOneSubject, 1.0F))) {}

  Ranking Run() {
    FindLargest();
    Collect();
    ScoreTables();
    CountPlaces();
    AddColumnsOfTheBestTables();
    return Best();
  }

 private:
  // A column to be ranked. Its parts are worked out again for the best ones: keeping those of all
  // takes longer.
  struct Candidate {
    ColumnId id;
    float score = 0;  // its own; in the end with what its table and its kind add
    int match = -1;
    int hit = -1;  // in dense_
  };
  struct TableScore {
    std::array<float, 3> best{};  // of its columns
    uint64_t terms = 0;           // of the question, in its own words
    float own = 0;                // of its own words
    float covered = 0;            // weight of the terms that it and one column of it have
    float score = 0;
    bool matches = false;
    bool has_hits = false;
  };

  static uint64_t Key(ColumnId id) { return uint64_t{id.entry} << 32 | id.column; }

  void FindLargest() {
    for (const ColumnMatch& match : matches_.columns) {
      bm25_ = std::max(bm25_, match.bm25);
      character_ = std::max(character_, match.character);
      value_ = std::max(value_, match.value);
    }
    for (const DenseColumns::Hit& hit : dense_) similarity_ = std::max(similarity_, hit.similarity);
  }

  ScoreParts PartsOf(const Candidate& candidate) const {
    ScoreParts parts;
    if (candidate.match >= 0) {
      const ColumnMatch& match = matches_.columns[static_cast<size_t>(candidate.match)];
      parts.bm25 = weights_.bm25 * match.bm25 / bm25_;
      parts.character = weights_.character * match.character / character_;
      // Several values are no better than one; a weak only match is not made a strong one.
      parts.value = weights_.value * match.value / std::max(value_, 1.0F);
      parts.name = weights_.name * std::min(match.name, 1.0F);
    }
    if (candidate.hit >= 0) {
      const float similarity = dense_[static_cast<size_t>(candidate.hit)].similarity;
      parts.dense = weights_.dense * std::max(similarity, 0.0F) / similarity_;
    }
    return parts;
  }

  void Collect() {
    candidates_.reserve(matches_.columns.size() + dense_.size());
    absl::flat_hash_map<uint64_t, int> hits;
    for (size_t i = 0; i < dense_.size(); ++i) {
      hits.emplace(Key(dense_[i].id), static_cast<int>(i));
      tables_[dense_[i].id.entry].has_hits = true;
    }
    for (size_t i = 0; i < matches_.columns.size(); ++i) {
      Candidate candidate{.id = matches_.columns[i].id, .match = static_cast<int>(i)};
      if (tables_[candidate.id.entry].has_hits) {
        const auto hit = hits.find(Key(candidate.id));
        if (hit != hits.end()) {
          candidate.hit = hit->second;
          hits.erase(hit);
        }
      }
      candidate.score = OwnScore(PartsOf(candidate));
      candidates_.push_back(candidate);
    }
    for (size_t i = 0; i < dense_.size(); ++i) {
      if (!hits.contains(Key(dense_[i].id))) continue;
      Candidate candidate{.id = dense_[i].id, .hit = static_cast<int>(i)};
      candidate.score = OwnScore(PartsOf(candidate));
      candidates_.push_back(candidate);
    }
  }

  // What the terms weigh that a text has: half where it only has a similar word.
  float WeightOf(uint64_t terms, uint64_t words) const {
    float weight = 0;
    for (; terms != 0; terms &= terms - 1) {
      const auto term = static_cast<size_t>(__builtin_ctzll(terms));
      weight += matches_.term_weights[term] * ((words >> term & 1) != 0 ? 1.0F : 0.5F);
    }
    return weight;
  }

  void ScoreTables() {
    for (const TableMatch& match : matches_.tables) {
      TableScore& table = tables_[match.entry];
      table.matches = true;
      table.terms = match.terms;
      table.own = match.bm25;
    }
    for (const Candidate& candidate : candidates_) {
      TableScore& table = tables_[candidate.id.entry];
      table.matches = true;
      float score = candidate.score;
      for (float& kept : table.best) {
        if (score > kept) std::swap(score, kept);
      }
      if (candidate.match < 0) continue;
      const ColumnMatch& match = matches_.columns[static_cast<size_t>(candidate.match)];
      table.covered = std::max(table.covered, WeightOf(match.terms & ~table.terms, match.words));
    }
    float own = 1e-6F, by_columns = 1e-6F, covered = 1e-6F;
    const auto evidence = [](const TableScore& table) {
      return table.best[0] + (table.best[0] + table.best[1] + table.best[2]) / 3;
    };
    for (TableScore& table : tables_) {
      if (!table.matches) continue;
      table.covered += WeightOf(table.terms, table.terms);
      own = std::max(own, table.own);
      by_columns = std::max(by_columns, evidence(table));
      covered = std::max(covered, table.covered);
    }
    const float by_cover = kCovered * std::min(many_tables_, 1.0F);
    for (TableScore& table : tables_) {
      if (!table.matches) continue;
      const float share = table.covered / covered;
      table.score = (1 - by_cover) * 0.5F * (table.own / own + evidence(table) / by_columns) +
                    by_cover * share * share;
    }
  }

  // Those that nothing but their table speaks for.
  void AddColumnsOfTheBestTables() {
    std::vector<std::pair<float, uint32_t>> best;
    for (uint32_t e = 0; e < tables_.size(); ++e) {
      if (tables_[e].matches) best.emplace_back(-tables_[e].score, e);
    }
    const size_t full = std::min(kTablesInFull, best.size());
    std::partial_sort(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(full), best.end());
    best.resize(full);
    absl::flat_hash_map<uint32_t, std::vector<uint8_t>> present;
    for (const auto& [score, entry] : best) {
      const size_t size = catalog_.entries()[entry]->columns.size();
      if (size <= kLargestTableInFull) present[entry].assign(size, 0);
    }
    for (const Candidate& candidate : candidates_) {
      const auto found = present.find(candidate.id.entry);
      if (found != present.end()) found->second[candidate.id.column] = 1;
    }
    for (const auto& [score, entry] : best) {
      const auto found = present.find(entry);
      if (found == present.end()) continue;
      for (uint32_t c = 0; c < found->second.size(); ++c) {
        const ColumnId id{entry, c};
        const bool seen = visible_.everything || visible_.columns[catalog_.number(id)] != 0;
        if (found->second[c] == 0 && seen) candidates_.push_back({.id = id});
      }
    }
  }

  // Where a caller may not see everything: as if the rest were not there.
  void CountPlaces() {
    if (visible_.everything) return;
    places_.resize(catalog_.num_columns());
    for (const Entry& entry : catalog_.entries()) {
      uint32_t place = 0;
      for (size_t c = 0; c < entry->columns.size(); ++c) {
        places_[entry.first_column + c] = place;
        place += visible_.columns[entry.first_column + c];
      }
    }
  }

  float CuePart(ColumnId id) const {
    const bool all = visible_.everything;
    const uint8_t kind =
        all ? catalog_.kind(id) : visible_.tables[id.entry]->column_kinds[id.column];
    const uint32_t place = all ? id.column : places_[catalog_.number(id)];
    return (weights_.cue * CueOf(kind, cues_) + weights_.prior * PriorOf(kind, place)) *
           tables_[id.entry].score;
  }

  Ranking Best() {
    // Among many tables the same column names come again and again: the more there are, the more a
    // column's table says beside its own words.
    const float table_weight = weights_.table * (1 + 3 * many_tables_);
    for (Candidate& candidate : candidates_) {
      candidate.score = candidate.score + table_weight * tables_[candidate.id.entry].score +
                        CuePart(candidate.id);
    }
    const auto better = [](const auto& a, const auto& b) {
      return a.score != b.score ? a.score > b.score : a.id < b.id;
    };
    Ranking ranking;
    if (candidates_.size() > kMaxRanked) {
      ranking.num_left_out = candidates_.size() - kMaxRanked;
      std::nth_element(candidates_.begin(),
                       candidates_.begin() + static_cast<std::ptrdiff_t>(kMaxRanked),
                       candidates_.end(), better);
      candidates_.resize(kMaxRanked);
    }
    std::sort(candidates_.begin(), candidates_.end(), better);
    ranking.columns.reserve(candidates_.size());
    for (const Candidate& candidate : candidates_) {
      RankedColumn column{.id = candidate.id,
                          .score = candidate.score,
                          .parts = PartsOf(candidate),
                          .match = candidate.match};
      column.parts.table = table_weight * tables_[candidate.id.entry].score;
      column.parts.cue = CuePart(candidate.id);
      ranking.columns.push_back(column);
    }
    return ranking;
  }

  const Catalog& catalog_;
  const Visibility& visible_;
  const LexicalMatches& matches_;
  const std::vector<DenseColumns::Hit>& dense_;
  const QuestionCues& cues_;
  const LinkWeights& weights_;
  float bm25_ = 1e-6F, character_ = 1e-6F, value_ = 1e-6F, similarity_ = 1e-6F;  // the largest
  std::vector<Candidate> candidates_;
  std::vector<TableScore> tables_;  // by entry
  std::vector<uint32_t> places_;    // by number; of visible columns in their tables
  const float many_tables_;         // 0 for few, 1 for ten times as many, and so on
};

}  // namespace

Ranking RankColumns(const LinkIndex& index, const Visibility& visible,
                    const LexicalMatches& matches, const std::vector<DenseColumns::Hit>& dense,
                    const QuestionCues& cues, const LinkWeights& weights) {
  return Ranker(index, visible, matches, dense, cues, weights).Run();
}

}  // namespace octogate::schema

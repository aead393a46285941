#include "retrieval/schema/column_ranking.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "retrieval/schema/inferred_keys.h"

namespace octogate::schema {
namespace {

// Tables whose columns that do not match are ranked too: those of the best tables may be needed
// for what the question leaves unsaid.
constexpr size_t kTablesInFull = 8;
constexpr size_t kLargestTableInFull = 400;
constexpr float kTablesOfOneSubject = 20;
// Weaker columns are counted, but neither chosen nor listed.
constexpr size_t kMaxRanked = 4096;

float CueOf(const Column& column, const QuestionCues& cues) {
  const TypeClass type = ClassOf(column.type);
  float cue = 0;
  if (cues.time && type == TypeClass::kTime) cue = 1;
  if (cues.number && type == TypeClass::kNumber && !column.primary_key) cue = std::max(cue, 0.5F);
  if (cues.name && type != TypeClass::kNumber) {
    const std::string& name = column.name;
    const bool names = name.size() >= 4 && (name.find("ame") != std::string::npos ||
                                            name.find("itle") != std::string::npos ||
                                            name.find("NAME") != std::string::npos);
    if (names) cue = 1;
  }
  return cue;
}

}  // namespace

Ranking RankColumns(const LinkIndex& index, const Visibility& visible,
                    const LexicalMatches& matches, const std::vector<DenseColumns::Hit>& dense,
                    const QuestionCues& cues, const LinkWeights& weights) {
  Ranking ranking;
  absl::flat_hash_map<uint64_t, uint32_t> positions;
  const auto key = [](ColumnId id) { return uint64_t{id.entry} << 32 | id.column; };
  float bm25 = 1e-6F, character = 1e-6F, value = 1e-6F, similarity = 1e-6F;
  for (const ColumnMatch& match : matches.columns) {
    bm25 = std::max(bm25, match.bm25);
    character = std::max(character, match.character);
    value = std::max(value, match.value);
  }
  for (const DenseColumns::Hit& hit : dense) similarity = std::max(similarity, hit.similarity);
  ranking.columns.reserve(matches.columns.size());
  for (size_t i = 0; i < matches.columns.size(); ++i) {
    const ColumnMatch& match = matches.columns[i];
    RankedColumn column{.id = match.id, .score = 0, .parts = {}, .match = static_cast<int>(i)};
    column.parts.bm25 = weights.bm25 * match.bm25 / bm25;
    column.parts.character = weights.character * match.character / character;
    // Several values are no better than one; a weak only match is not made a strong one.
    column.parts.value = weights.value * match.value / std::max(value, 1.0F);
    column.parts.name = weights.name * std::min(match.name, 1.0F);
    ranking.columns.push_back(column);
  }
  if (!dense.empty()) {
    for (uint32_t i = 0; i < ranking.columns.size(); ++i) {
      positions.emplace(key(ranking.columns[i].id), i);
    }
    for (const DenseColumns::Hit& hit : dense) {
      const auto [at, is_new] =
          positions.emplace(key(hit.id), static_cast<uint32_t>(ranking.columns.size()));
      if (is_new) ranking.columns.push_back({.id = hit.id, .score = 0, .parts = {}});
      ranking.columns[at->second].parts.dense =
          weights.dense * std::max(hit.similarity, 0.0F) / similarity;
    }
  }
  // Tables: own words, and columns.
  absl::flat_hash_map<uint32_t, std::array<float, 3>> best;
  for (const RankedColumn& column : ranking.columns) {
    const ScoreParts& parts = column.parts;
    float score = parts.bm25 + parts.character + parts.dense + parts.value + parts.name;
    std::array<float, 3>& top = best[column.id.entry];
    for (float& kept : top) {
      if (score > kept) std::swap(score, kept);
    }
  }
  float own = 1e-6F, by_columns = 1e-6F;
  for (const TableMatch& table : matches.tables) own = std::max(own, table.bm25);
  const auto evidence = [](const std::array<float, 3>& top) {
    return top[0] + (top[0] + top[1] + top[2]) / 3;
  };
  for (const auto& [entry, top] : best) by_columns = std::max(by_columns, evidence(top));
  for (const auto& [entry, top] : best) {
    ranking.tables[entry] += 0.5F * evidence(top) / by_columns;
  }
  for (const TableMatch& table : matches.tables) {
    ranking.tables[table.entry] += 0.5F * table.bm25 / own;
  }
  // Columns of the best tables that nothing but their table speaks for.
  std::vector<std::pair<float, uint32_t>> tables;
  for (const auto& [entry, score] : ranking.tables) tables.emplace_back(-score, entry);
  const size_t full = std::min(kTablesInFull, tables.size());
  std::partial_sort(tables.begin(), tables.begin() + static_cast<std::ptrdiff_t>(full),
                    tables.end());
  tables.resize(full);
  absl::flat_hash_map<uint32_t, std::vector<uint8_t>> present;
  for (const auto& [score, entry] : tables) {
    const size_t size = index.catalog().entries()[entry]->columns.size();
    if (size <= kLargestTableInFull) present[entry].assign(size, 0);
  }
  for (const RankedColumn& column : ranking.columns) {
    const auto found = present.find(column.id.entry);
    if (found != present.end()) found->second[column.id.column] = 1;
  }
  for (const auto& [score, entry] : tables) {
    const auto found = present.find(entry);
    if (found == present.end()) continue;
    for (uint32_t c = 0; c < found->second.size(); ++c) {
      const ColumnId id{entry, c};
      const bool seen = visible.everything || visible.columns[index.catalog().number(id)] != 0;
      if (found->second[c] == 0 && seen) ranking.columns.push_back({.id = id});
    }
  }
  // Among many tables the same column names come again and again: the more there are, the more a
  // column's table says beside its own words.
  const float tables_count = static_cast<float>(visible.num_entries) / kTablesOfOneSubject;
  const float table_weight = weights.table * (1 + std::log10(std::max(tables_count, 1.0F)));
  for (RankedColumn& column : ranking.columns) {
    ScoreParts& parts = column.parts;
    parts.table = table_weight * ranking.tables[column.id.entry];
    parts.cue = weights.cue * CueOf(index.catalog().column(column.id), cues) *
                ranking.tables[column.id.entry];
    column.score = parts.bm25 + parts.character + parts.dense + parts.value + parts.name +
                   parts.table + parts.cue;
  }
  const auto better = [](const RankedColumn& a, const RankedColumn& b) {
    return a.score != b.score ? a.score > b.score : a.id < b.id;
  };
  if (ranking.columns.size() > kMaxRanked) {
    ranking.num_left_out = ranking.columns.size() - kMaxRanked;
    std::nth_element(ranking.columns.begin(),
                     ranking.columns.begin() + static_cast<std::ptrdiff_t>(kMaxRanked),
                     ranking.columns.end(), better);
    ranking.columns.resize(kMaxRanked);
  }
  std::sort(ranking.columns.begin(), ranking.columns.end(), better);
  return ranking;
}

}  // namespace octogate::schema

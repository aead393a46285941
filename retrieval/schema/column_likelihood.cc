#include "retrieval/schema/column_likelihood.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/ascii.h"
#include "common/strings.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {
namespace {

struct Weights {
  float bias;
  FeatureVector features;
};
constexpr Weights kWords = {-5.025F,
                            {0.251F, 1.379F, 1.471F, 1.619F, 2.236F, 0.407F, 2.645F, -1.075F,
                             0.986F, 0.508F, 1.111F, 1.564F, 0.912F, 0.568F, 0.000F}};
constexpr Weights kWithVectors = {-5.364F,
                                  {0.378F, 1.252F, 1.801F, 1.598F, 1.289F, 0.454F, 2.264F, -1.089F,
                                   0.890F, 0.491F, 0.495F, 1.572F, 0.919F, 0.549F, 1.312F}};

// How often a column is read where its table is, in log odds.
struct Prior {
  float bias, primary_key, refers, referred_to, place, number, time, named_as_table, table_columns,
      several_words;
};
constexpr Prior kPrior = {0.52F, -0.15F, 0.98F, 1.08F, 1.13F, 0.15F, -0.48F, 0.15F, -1.12F, -0.25F};
constexpr std::pair<const char*, float> kLastWords[] = {
    {"address", -0.17F},     {"age", 0.11F},      {"amount", 0.78F}, {"city", 0.37F},
    {"code", 0.09F},         {"country", 0.18F},  {"county", 0.18F}, {"date", -0.07F},
    {"description", -0.08F}, {"details", -0.61F}, {"email", -0.15F}, {"from", -0.22F},
    {"gender", -0.53F},      {"height", -0.02F},  {"id", -0.32F},    {"location", 0.07F},
    {"name", 1.11F},         {"number", -0.31F},  {"phone", -0.10F}, {"price", 0.50F},
    {"rank", 0.04F},         {"sex", -0.07F},     {"state", -0.18F}, {"time", -0.34F},
    {"title", 0.79F},        {"to", -0.10F},      {"type", 0.36F},   {"year", 0.08F}};

// Of a table's score in the order of columns that have one word.
constexpr float kTableShare = 0.4F;
constexpr size_t kManyTerms = 20;

uint64_t Key(ColumnId id) { return uint64_t{id.entry} << 32 | id.column; }

struct Features {
  float own = 0;    // score of everything but its table
  float table = 0;  // score of its table, the best having 1
  float best_for_word = 0, shares_words = 0, covered = 0, place = 0, nearness = 0;
};

class Model {
 public:
  Model(const LinkIndex& index, const Visibility& visible, const LexicalMatches& matches,
        const std::vector<DenseColumns::Hit>& dense, const QuestionCues& cues, Ranking* ranking)
      : catalog_(index.catalog()),
        visible_(visible),
        matches_(matches),
        dense_(dense),
        cues_(cues),
        columns_(ranking->columns) {}

  std::vector<FeatureVector> Run() {
    AddTheOthers();
    features_.resize(columns_.size());
    ScoreTables();
    ScoreWords();
    FindPlaces();
    FindKeys();
    std::vector<FeatureVector> vectors;
    vectors.reserve(columns_.size());
    for (size_t i = 0; i < columns_.size(); ++i) vectors.push_back(VectorOf(i));
    return vectors;
  }

 private:
  bool Sees(ColumnId id) const {
    return visible_.everything || visible_.columns[catalog_.number(id)] != 0;
  }
  const CatalogTable& TableOf(uint32_t entry) const {
    return visible_.everything ? *catalog_.entries()[entry].table : *visible_.tables[entry];
  }

  void AddTheOthers() {
    absl::flat_hash_set<uint64_t> known;
    for (const RankedColumn& column : columns_) known.insert(Key(column.id));
    for (uint32_t e = 0; e < catalog_.entries().size(); ++e) {
      uint32_t place = 0;
      sizes_.push_back(0);
      for (uint32_t c = 0; c < catalog_.entries()[e]->columns.size(); ++c) {
        if (!Sees({e, c})) continue;
        ++sizes_[e];
        places_[Key({e, c})] = place++;  // as if what is not visible were not there
        if (!known.contains(Key({e, c}))) columns_.push_back({.id = {e, c}, .parts = {}});
      }
    }
  }

  void ScoreTables() {
    tables_.assign(sizes_.size(), 0);
    float best = 1e-9F;
    for (const RankedColumn& column : columns_) {
      float& score = tables_[column.id.entry];
      score = std::max(score, column.parts.table);
      best = std::max(best, score);
    }
    std::vector<uint32_t> order;
    for (uint32_t e = 0; e < tables_.size(); ++e) {
      tables_[e] /= best;
      if (sizes_[e] > 0) order.push_back(e);
    }
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      return tables_[a] != tables_[b] ? tables_[a] > tables_[b] : a < b;
    });
    table_places_.assign(tables_.size(), 0);
    for (size_t k = 0; k < order.size(); ++k) {
      table_places_[order[k]] = 1 / (1 + static_cast<float>(k));
    }
    first_table_ = order[0];
    for (size_t i = 0; i < columns_.size(); ++i) {
      const ScoreParts& parts = columns_[i].parts;
      features_[i].own = parts.bm25 + parts.character + parts.dense + parts.value + parts.name;
      features_[i].table = tables_[columns_[i].id.entry];
    }
  }

  // Positions of columns in the order of `better`, ties by id.
  template <typename Score>
  static void Sort(std::vector<size_t>* order, const std::vector<RankedColumn>& columns,
                   const Score& score) {
    std::sort(order->begin(), order->end(), [&](size_t a, size_t b) {
      const float left = score(a);
      const float right = score(b);
      return left != right ? left > right : columns[a].id < columns[b].id;
    });
  }

  void ScoreWords() {
    float all = 1e-6F;
    for (const float weight : matches_.term_weights) all += weight;
    absl::flat_hash_map<uint32_t, uint64_t> of_table;
    for (const TableMatch& table : matches_.tables) of_table[table.entry] = table.terms;
    std::array<std::vector<size_t>, kMaxQueryTerms> columns_of;
    for (size_t i = 0; i < columns_.size(); ++i) {
      if (columns_[i].match < 0) continue;
      const uint64_t terms = matches_.columns[static_cast<size_t>(columns_[i].match)].terms;
      const auto table = of_table.find(columns_[i].id.entry);
      const uint64_t together = terms | (table == of_table.end() ? 0 : table->second);
      for (size_t t = 0; t < matches_.term_weights.size(); ++t) {
        if ((terms >> t & 1) != 0) columns_of[t].push_back(i);
        if ((together >> t & 1) != 0) features_[i].covered += matches_.term_weights[t] / all;
      }
    }
    for (size_t t = 0; t < matches_.term_weights.size(); ++t) {
      Sort(&columns_of[t], columns_,
           [&](size_t i) { return features_[i].own + kTableShare * features_[i].table; });
      for (size_t k = 0; k < columns_of[t].size(); ++k) {
        Features& features = features_[columns_of[t][k]];
        const float share = matches_.term_weights[t] / all / (1 + static_cast<float>(k));
        features.best_for_word = std::max(features.best_for_word, share);
        features.shares_words += share;
      }
    }
  }

  void FindPlaces() {
    std::vector<size_t> order(columns_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    Sort(&order, columns_, [&](size_t i) { return features_[i].own; });
    for (size_t k = 0; k < order.size(); ++k) {
      features_[order[k]].place = 1 / (1 + static_cast<float>(k));
    }
    std::vector<DenseColumns::Hit> hits = dense_;
    std::sort(hits.begin(), hits.end(), [](const auto& a, const auto& b) {
      return a.similarity != b.similarity ? a.similarity > b.similarity : a.id < b.id;
    });
    absl::flat_hash_map<uint64_t, float> nearness;
    for (size_t k = 0; k < hits.size(); ++k) {
      nearness.emplace(Key(hits[k].id), 1 / (1 + static_cast<float>(k) / 3));
    }
    for (size_t i = 0; i < columns_.size(); ++i) {
      const auto found = nearness.find(Key(columns_[i].id));
      if (found != nearness.end()) features_[i].nearness = found->second;
    }
  }

  void FindKeys() {
    joins_first_.assign(sizes_.size(), false);
    for (const KeyEdge& edge : catalog_.edges()) {
      if (!catalog_.IsUsable(edge, [this](ColumnId id) { return Sees(id); })) continue;
      refers_.insert(Key(edge.from));
      referred_to_.insert(Key(edge.to));
      if (edge.from.entry == edge.to.entry) continue;
      if (edge.from.entry == first_table_) joins_first_[edge.to.entry] = true;
      if (edge.to.entry == first_table_) joins_first_[edge.from.entry] = true;
    }
  }

  static float OfLastWord(const std::string& word) {
    static const auto* const known =
        new absl::flat_hash_map<std::string, float>(std::begin(kLastWords), std::end(kLastWords));
    const auto found = known->find(word);
    return found == known->end() ? 0 : found->second;
  }

  static std::vector<std::string> Words(std::string_view text) {
    std::vector<std::string> words = SplitWords(text);
    std::erase_if(words, [](const std::string& word) {
      return absl::ascii_isdigit(static_cast<unsigned char>(word[0]));
    });
    return words;
  }

  float PriorOf(ColumnId id, uint8_t kind) {
    const Table& table = TableOf(id.entry).table;
    const Column& column = table.columns[id.column];
    const std::vector<std::string> words = Words(column.alias.empty() ? column.name : column.alias);
    std::vector<std::string>& of_table = table_words_[id.entry];
    if (of_table.empty()) of_table = Words(table.name);
    float prior = kPrior.bias;
    if (column.primary_key) prior += kPrior.primary_key;
    if (refers_.contains(Key(id))) prior += kPrior.refers;
    if (referred_to_.contains(Key(id))) prior += kPrior.referred_to;
    const uint32_t place = std::max<uint32_t>(places_[Key(id)], 1);
    prior += kPrior.place / (1 + 0.5F * static_cast<float>(place));
    const bool time = (kind & kTimeColumn) != 0;
    if (time) prior += kPrior.time;
    if (!time && (kind & kNumberColumn) != 0) prior += kPrior.number;
    for (const std::string& word : words) {
      if (std::find(of_table.begin(), of_table.end(), word) == of_table.end()) continue;
      prior += kPrior.named_as_table;
      break;
    }
    prior += kPrior.table_columns * std::log(static_cast<float>(sizes_[id.entry]));
    if (words.size() > 1) prior += kPrior.several_words;
    if (!words.empty()) prior += OfLastWord(words.back());
    return prior;
  }

  FeatureVector VectorOf(size_t i) {
    const RankedColumn& column = columns_[i];
    const Features& features = features_[i];
    const uint8_t kind = TableOf(column.id.entry).column_kinds[column.id.column];
    const bool time = (kind & kTimeColumn) != 0;
    const bool name = (kind & kNameColumn) != 0;
    const auto terms = static_cast<float>(std::min(matches_.term_weights.size(), kManyTerms));
    FeatureVector vector{};
    vector[kScoreFeature] = column.score;
    vector[kValueFeature] = column.parts.value;
    vector[kBestForWord] = features.best_for_word;
    vector[kSharesWords] = features.shares_words;
    vector[kCovered] = features.covered;
    vector[kJoinsFirst] = joins_first_[column.id.entry] ? 1 : 0;
    vector[kTablePlace] = table_places_[column.id.entry];
    vector[kTime] = time ? 1 : 0;
    vector[kAskedTime] = time && cues_.time ? 1 : 0;
    vector[kPriorFeature] = PriorOf(column.id, kind);
    vector[kPlace] = features.place;
    vector[kTerms] = terms / 10;
    vector[kNameOfEntity] = name && cues_.entity ? 1 : 0;
    vector[kNameOfFullName] = name && cues_.full_name ? 1 : 0;
    vector[kNearness] = features.nearness;
    return vector;
  }

  const Catalog& catalog_;
  const Visibility& visible_;
  const LexicalMatches& matches_;
  const std::vector<DenseColumns::Hit>& dense_;
  const QuestionCues& cues_;
  std::vector<RankedColumn>& columns_;
  std::vector<Features> features_;                  // of columns_
  std::vector<uint32_t> sizes_;                     // by entry: visible columns
  absl::flat_hash_map<uint64_t, uint32_t> places_;  // of a column among them
  std::vector<float> tables_, table_places_;        // by entry
  std::vector<bool> joins_first_;                   // by entry
  uint32_t first_table_ = 0;
  absl::flat_hash_set<uint64_t> refers_, referred_to_;
  absl::flat_hash_map<uint32_t, std::vector<std::string>> table_words_;
};

}  // namespace

std::vector<FeatureVector> LikelihoodFeatures(const LinkIndex& index, const Visibility& visible,
                                              const LexicalMatches& matches,
                                              const std::vector<DenseColumns::Hit>& dense,
                                              const QuestionCues& cues, Ranking* ranking) {
  return Model(index, visible, matches, dense, cues, ranking).Run();
}

void AddLikelihoods(const LinkIndex& index, const Visibility& visible,
                    const LexicalMatches& matches, const std::vector<DenseColumns::Hit>& dense,
                    const QuestionCues& cues, Ranking* ranking) {
  if (ranking->columns.empty() || visible.num_entries > kLargestFitted ||
      visible.num_columns > kMostColumnsFitted) {
    return;
  }
  const Weights& weights = dense.empty() ? kWords : kWithVectors;
  const std::vector<FeatureVector> vectors =
      LikelihoodFeatures(index, visible, matches, dense, cues, ranking);
  for (size_t i = 0; i < vectors.size(); ++i) {
    float sum = weights.bias;
    for (size_t f = 0; f < kNumFeatures; ++f) sum += weights.features[f] * vectors[i][f];
    ranking->columns[i].likelihood = 1 / (1 + std::exp(-sum));
  }
  std::sort(ranking->columns.begin(), ranking->columns.end(),
            [](const RankedColumn& a, const RankedColumn& b) {
              return a.likelihood != b.likelihood ? a.likelihood > b.likelihood : a.id < b.id;
            });
}

}  // namespace octogate::schema

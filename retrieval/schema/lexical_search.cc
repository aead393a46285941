#include "retrieval/schema/lexical_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "retrieval/schema/trigrams.h"
#include "retrieval/schema/word_senses.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {
namespace {

constexpr size_t kMaxAlikeBytes = 64;  // longer ones are no words
constexpr float kLeastSimilarity = 0.5F;
constexpr float kAbbreviation = 0.6F;
constexpr float kAcronym = 0.8F;
constexpr float kJoined = 0.9F;
constexpr float kSense = 0.45F;
// Values that more columns have say little about any of them.
constexpr size_t kMaxHitsPerColumn = 8;

// A word that is not the query's but stands for some of its terms.
struct Probe {
  std::string stem;
  uint64_t terms;
  float similarity;
};

std::vector<Probe> MakeProbes(const Query& query) {
  std::vector<Probe> probes;
  for (size_t i = 0; i < query.terms.size(); ++i) {
    const uint64_t bit = uint64_t{1} << i;
    for (const std::string& sense : SensesOf(query.terms[i].word)) {
      probes.push_back({sense, bit, kSense});
    }
    // "school name" may be called schoolname; "free throw percentage" ftp.
    std::string joined = query.terms[i].word;
    std::string initials = joined.substr(0, 1);
    uint64_t terms = bit;
    for (size_t k = i + 1; k < query.terms.size() && k < i + 4; ++k) {
      terms |= uint64_t{1} << k;
      joined += query.terms[k].word;
      initials += query.terms[k].word.substr(0, 1);
      if (k == i + 1) probes.push_back({Stem(joined), terms, kJoined});
      probes.push_back({initials, terms, kAcronym});
    }
  }
  return probes;
}

struct Alike {
  uint32_t document;
  uint32_t term;
  float similarity;
};

// What is known of one shard between the two passes.
struct ShardMatches {
  std::array<int, kMaxQueryTerms> terms;
  std::vector<Alike> alike;  // by term; of each term every document once
  // Of candidates that are values or names here, those columns.
  std::vector<std::pair<uint32_t, std::span<const ValuePosting>>> values;
};

class Searcher {
 public:
  Searcher(const LinkIndex& index, const Visibility& visible, const Query& query)
      : index_(index),
        visible_(visible),
        query_(query),
        probes_(MakeProbes(query)),
        probe_counts_(probes_.size(), 0) {
    for (const QueryTerm& term : query.terms) trigrams_.push_back(Trigrams(term.stem));
  }

  LexicalMatches Run() {
    shards_.resize(NumShards());
    for (size_t s = 0; s < shards_.size(); ++s) Count(s);
    for (size_t t = 0; t < query_.terms.size(); ++t) {
      column_idf_[t] = InverseDocumentFrequency(column_counts_[t], visible_.num_columns);
      alike_idf_[t] = InverseDocumentFrequency(alike_counts_[t], visible_.num_columns);
      table_idf_[t] = InverseDocumentFrequency(table_counts_[t], visible_.num_entries);
      // Where it is common it says little, whether in names, texts or tables.
      matches_.term_weights.push_back(std::min({column_idf_[t], alike_idf_[t], table_idf_[t]}));
    }
    CountValues();
    for (size_t s = 0; s < shards_.size(); ++s) Score(s);
    std::sort(matches_.tables.begin(), matches_.tables.end(),
              [](const TableMatch& a, const TableMatch& b) { return a.entry < b.entry; });
    return std::move(matches_);
  }

 private:
  ColumnId IdOf(size_t s, uint32_t document) const {
    const LexicalShard& shard = Shard(s);
    const uint32_t table = shard.table_of(document);
    return {EntryOf(s, table), document - shard.first_document(table)};
  }

  // The last one may be that of the tables that stand for others.
  size_t NumShards() const { return index_.shards().size() + (visible_.others != nullptr ? 1 : 0); }
  const LexicalShard& Shard(size_t s) const {
    return s < index_.shards().size() ? *index_.shards()[s] : *visible_.others;
  }
  uint32_t EntryOf(size_t s, size_t table) const {
    return s < index_.shards().size() ? index_.entry(s, table) : visible_.other_entries[table];
  }

  bool Sees(size_t s, uint32_t document) const {
    return visible_.everything ||
           (SeesTable(s, Shard(s).table_of(document)) &&
            visible_.columns[index_.catalog().number(IdOf(s, document))] != 0);
  }
  bool SeesTable(size_t s, uint32_t table) const {
    return visible_.everything ||
           visible_.tables[EntryOf(s, table)] == Shard(s).tables()[table].get();
  }

  void AddAlike(size_t s, uint32_t vocabulary_term, uint64_t terms, float similarity) {
    for (const Posting& posting : Shard(s).Columns(vocabulary_term)) {
      if (posting.name_weight <= 0 || !Sees(s, posting.document)) continue;
      for (uint64_t left = terms; left != 0; left &= left - 1) {
        const auto term = static_cast<uint32_t>(__builtin_ctzll(left));
        alike_[term].emplace_back(posting.document, similarity);
      }
    }
  }

  void FindAlike(size_t s) {
    const LexicalShard& shard = Shard(s);
    common_.assign(shard.num_terms(), 0);
    std::vector<uint32_t> touched;
    for (uint32_t t = 0; t < query_.terms.size(); ++t) {
      const std::string& stem = query_.terms[t].stem;
      const uint64_t bit = uint64_t{1} << t;
      if (shards_[s].terms[t] >= 0) AddAlike(s, static_cast<uint32_t>(shards_[s].terms[t]), bit, 1);
      if (stem.size() < 3 || stem.size() > kMaxAlikeBytes) continue;
      touched.clear();
      for (const uint32_t trigram : trigrams_[t]) {
        for (const uint32_t name : shard.NamesWithTrigram(trigram)) {
          if (common_[name]++ == 0) touched.push_back(name);
        }
      }
      const auto mine = static_cast<uint32_t>(trigrams_[t].size());
      for (const uint32_t name : touched) {
        const uint32_t common = std::exchange(common_[name], 0);
        if (static_cast<int>(name) == shards_[s].terms[t]) continue;
        const std::string_view other = shard.term(name);
        float similarity = TrigramSimilarity(common, mine, shard.num_trigrams(name));
        const size_t shorter = std::min(other.size(), stem.size());
        const bool contained =
            shorter >= 4 && (other.size() > stem.size() ? other.find(stem) : stem.find(other)) !=
                                std::string_view::npos;
        if (contained) similarity = std::max(similarity, 0.6F);
        if (similarity >= kLeastSimilarity) AddAlike(s, name, bit, similarity);
      }
      for (const uint32_t name : shard.ShortNames(stem[0])) {
        if (Abbreviates(shard.term(name), query_.terms[t].word)) {
          AddAlike(s, name, bit, kAbbreviation);
        }
      }
    }
    for (const Probe& probe : probes_) {
      const int term = shard.FindTerm(probe.stem);
      if (term >= 0) AddAlike(s, static_cast<uint32_t>(term), probe.terms, probe.similarity);
    }
    KeepTheBest(s);
  }

  // Of each document and term the best.
  void KeepTheBest(size_t s) {
    position_.assign(Shard(s).num_documents(), 0);
    std::vector<Alike>& kept = shards_[s].alike;
    for (uint32_t t = 0; t < query_.terms.size(); ++t) {
      const size_t first = kept.size();
      for (const auto& [document, similarity] : alike_[t]) {
        uint32_t& at = position_[document];
        if (at == 0) {
          kept.push_back({document, t, similarity});
          at = static_cast<uint32_t>(kept.size());
        } else {
          kept[at - 1].similarity = std::max(kept[at - 1].similarity, similarity);
        }
      }
      for (size_t i = first; i < kept.size(); ++i) position_[kept[i].document] = 0;
      alike_[t].clear();
    }
  }

  void Count(size_t s) {
    const LexicalShard& shard = Shard(s);
    for (size_t t = 0; t < query_.terms.size(); ++t) {
      const int term = shard.FindTerm(query_.terms[t].stem);
      shards_[s].terms[t] = term;
      if (term < 0) continue;
      const std::span<const Posting> columns = shard.Columns(static_cast<uint32_t>(term));
      const std::span<const Posting> tables = shard.Tables(static_cast<uint32_t>(term));
      if (visible_.everything) {
        column_counts_[t] += columns.size();
        table_counts_[t] += tables.size();
      } else {
        for (const Posting& posting : columns) column_counts_[t] += Sees(s, posting.document);
        for (const Posting& posting : tables) table_counts_[t] += SeesTable(s, posting.document);
      }
    }
    for (size_t p = 0; !query_.with_evidence && p < probes_.size(); ++p) {
      const int term = shard.FindTerm(probes_[p].stem);
      if (term < 0) continue;
      for (const Posting& posting : shard.Tables(static_cast<uint32_t>(term))) {
        probe_counts_[p] += SeesTable(s, posting.document);
      }
    }
    FindAlike(s);
    for (const Alike& alike : shards_[s].alike) ++alike_counts_[alike.term];
  }

  // In how many columns each candidate is a value, or a name.
  void CountValues() {
    for (size_t s = 0; s < shards_.size(); ++s) {
      for (uint32_t c = 0; c < query_.candidates.size(); ++c) {
        const std::span<const ValuePosting> postings = Shard(s).Values(query_.candidates[c].hash);
        if (postings.empty()) continue;
        shards_[s].values.emplace_back(c, postings);
        for (const ValuePosting& posting : postings) {
          if (!Sees(s, posting.document)) continue;
          auto& counts = value_counts_[query_.candidates[c].hash];
          ++(posting.value == ValuePosting::kName ? counts.second : counts.first);
        }
      }
    }
  }

  ColumnMatch& MatchOf(uint32_t document) {
    uint32_t& at = position_[document];
    if (at == 0) {
      shard_matches_.emplace_back();
      documents_.push_back(document);
      at = static_cast<uint32_t>(shard_matches_.size());
    }
    return shard_matches_[at - 1];
  }

  void Score(size_t s) {
    const LexicalShard& shard = Shard(s);
    position_.assign(shard.num_documents(), 0);
    shard_matches_.clear();
    documents_.clear();
    const auto average =
        static_cast<float>(static_cast<double>(visible_.words) /
                           static_cast<double>(std::max<uint64_t>(visible_.num_columns, 1)));
    const auto table_average =
        static_cast<float>(static_cast<double>(visible_.table_words) /
                           static_cast<double>(std::max<uint64_t>(visible_.num_entries, 1)));
    const auto bm25 = [](float idf, float weight, float length, float mean) {
      const float norm = kBm25K1 * (1 - kBm25B + kBm25B * length / std::max(mean, 1e-6F));
      return idf * weight * (kBm25K1 + 1) / (weight + norm);
    };
    std::vector<TableMatch> tables(shard.tables().size());
    for (size_t t = 0; t < query_.terms.size(); ++t) {
      const int term = shards_[s].terms[t];
      if (term < 0) continue;
      const uint64_t bit = uint64_t{1} << t;
      for (const Posting& posting : shard.Columns(static_cast<uint32_t>(term))) {
        if (!Sees(s, posting.document)) continue;
        ColumnMatch& match = MatchOf(posting.document);
        match.bm25 += bm25(column_idf_[t], posting.weight,
                           static_cast<float>(shard.length(posting.document)), average);
        match.terms |= bit;
        match.words |= bit;
      }
      for (const Posting& posting : shard.Tables(static_cast<uint32_t>(term))) {
        if (!SeesTable(s, posting.document)) continue;
        tables[posting.document].bm25 +=
            bm25(table_idf_[t], posting.weight,
                 static_cast<float>(shard.table_length(posting.document)), table_average);
        tables[posting.document].terms |= bit;
      }
    }
    // Tables that are called otherwise than the question says: what a term's other words bring, at
    // most once each. Evidence calls things as they are called.
    for (size_t p = 0; !query_.with_evidence && p < probes_.size(); ++p) {
      const Probe& probe = probes_[p];
      const int term = shard.FindTerm(probe.stem);
      if (term < 0) continue;
      const float idf = InverseDocumentFrequency(probe_counts_[p], visible_.num_entries);
      for (const Posting& posting : shard.Tables(static_cast<uint32_t>(term))) {
        if (!SeesTable(s, posting.document)) continue;
        TableMatch& table = tables[posting.document];
        if ((table.terms & probe.terms) == probe.terms) continue;
        table.bm25 += probe.similarity *
                      bm25(idf, posting.weight,
                           static_cast<float>(shard.table_length(posting.document)), table_average);
        table.terms |= probe.terms;
      }
    }
    for (const Alike& alike : shards_[s].alike) {
      ColumnMatch& match = MatchOf(alike.document);
      match.character += alike_idf_[alike.term] * alike.similarity;
      match.terms |= uint64_t{1} << alike.term;
    }
    ScoreValues(s);
    for (size_t i = 0; i < documents_.size(); ++i) {
      shard_matches_[i].id = IdOf(s, documents_[i]);
      matches_.columns.push_back(std::move(shard_matches_[i]));
    }
    for (size_t t = 0; t < tables.size(); ++t) {
      if (tables[t].terms == 0) continue;
      tables[t].entry = EntryOf(s, t);
      matches_.tables.push_back(tables[t]);
    }
  }

  void ScoreValues(size_t s) {
    for (const auto& [c, postings] : shards_[s].values) {
      const ValueCandidate& candidate = query_.candidates[c];
      for (const ValuePosting& posting : postings) {
        if (!Sees(s, posting.document)) continue;
        ColumnMatch& match = MatchOf(posting.document);
        const auto [values, names] = value_counts_[candidate.hash];
        const float length = std::min<float>(static_cast<float>(candidate.words), 3);
        if (posting.value == ValuePosting::kName) {
          match.name = std::max(
              match.name, (0.4F + 0.3F * (length - 1)) / std::sqrt(static_cast<float>(names)));
          continue;
        }
        const float emphasis = candidate.quoted_or_capital ? 1.0F : 0.6F;
        const float score =
            emphasis * (0.7F + 0.3F * length) / std::sqrt(static_cast<float>(values));
        match.value = std::max(match.value, score);
        if (match.hits.size() < kMaxHitsPerColumn) match.hits.push_back({c, posting.value});
      }
    }
  }

  const LinkIndex& index_;
  const Visibility& visible_;
  const Query& query_;
  const std::vector<Probe> probes_;
  std::vector<uint64_t> probe_counts_;  // of tables with each
  std::vector<std::vector<uint32_t>> trigrams_;
  std::vector<ShardMatches> shards_;
  std::array<uint64_t, kMaxQueryTerms> column_counts_{}, alike_counts_{}, table_counts_{};
  std::array<float, kMaxQueryTerms> column_idf_{}, alike_idf_{}, table_idf_{};
  absl::flat_hash_map<uint64_t, std::pair<uint32_t, uint32_t>> value_counts_;  // values, names
  // Documents of a shard with a word like each term, with repetitions.
  std::array<std::vector<std::pair<uint32_t, float>>, kMaxQueryTerms> alike_;
  std::vector<uint16_t> common_;    // trigrams, by term of a shard's vocabulary
  std::vector<uint32_t> position_;  // of a shard's documents in shard_matches_, from 1
  std::vector<ColumnMatch> shard_matches_;
  std::vector<uint32_t> documents_;
  LexicalMatches matches_;
};

}  // namespace

Query MakeQuery(std::string_view question, std::string_view evidence) {
  Query query;
  absl::flat_hash_set<std::string> known;
  absl::flat_hash_set<uint64_t> hashes;
  query.with_evidence = !evidence.empty();
  for (const std::string_view text : {question, evidence}) {
    for (const std::string& word : SplitWords(text)) {
      if (IsStopWord(word) && SensesOf(word).empty()) continue;
      std::string stem = Stem(word);
      if (query.terms.size() == kMaxQueryTerms || !known.insert(stem).second) continue;
      query.terms.push_back({std::move(stem), word});
    }
    for (ValueCandidate& candidate : ValueCandidates(text)) {
      if (hashes.insert(candidate.hash).second) query.candidates.push_back(std::move(candidate));
    }
  }
  return query;
}

float InverseDocumentFrequency(uint64_t with, uint64_t all) {
  const auto n = static_cast<double>(all);
  const auto df = static_cast<double>(with);
  return static_cast<float>(std::log(1 + (n - df + 0.5) / (df + 0.5)));
}

LexicalMatches Search(const LinkIndex& index, const Visibility& visible, const Query& query) {
  return Searcher(index, visible, query).Run();
}

}  // namespace octogate::schema

#include "retrieval/schema/lexical_shard.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/strings.h"
#include "retrieval/schema/trigrams.h"
#include "retrieval/schema/value_match.h"
#include "retrieval/schema/words.h"

namespace octogate::schema {

LexicalShard::LexicalShard(std::vector<std::shared_ptr<const CatalogTable>> tables,
                           const FieldWeights& weights)
    : tables_(std::move(tables)) {
  std::vector<Occurrence> columns;
  std::vector<Occurrence> of_tables;
  for (size_t t = 0; t < tables_.size(); ++t) {
    const Table& table = tables_[t]->table;
    const auto table_number = static_cast<uint32_t>(t);
    first_document_.push_back(num_documents());
    uint32_t table_length = 0;
    const auto add_table = [&](std::string_view text, float weight) {
      for (const std::string& word : SplitWords(text)) {
        of_tables.push_back({TermNumber(Stem(word)), {table_number, weight, weight}});
        ++table_length;
      }
    };
    add_table(table.name, weights.name);
    add_table(table.description, weights.description);
    table_lengths_.push_back(table_length);
    total_table_length_ += table_length;
    for (const Column& column : table.columns) {
      const uint32_t document = num_documents();
      uint32_t length = 0;
      const auto add = [&](std::string_view text, float weight, bool name) {
        for (const std::string& word : SplitWords(text)) {
          columns.push_back({TermNumber(Stem(word)), {document, weight, name ? weight : 0}});
          ++length;
        }
      };
      add(column.name, weights.name, true);
      add(column.alias, weights.alias, true);
      add(column.description, weights.description, false);
      add(column.value_description, weights.value_description, false);
      for (const std::string* name : {&column.name, &column.alias}) {
        if (const uint64_t hash = ValueHash(*name); hash != 0) {
          values_.push_back({hash, document, ValuePosting::kName});
        }
      }
      const uint32_t before_values = length;
      for (size_t v = 0; v < column.values.size(); ++v) {
        if (length - before_values < static_cast<uint32_t>(weights.max_value_words)) {
          add(column.values[v], weights.value, false);
        }
        if (const uint64_t hash = ValueHash(column.values[v]); hash != 0) {
          values_.push_back({hash, document, static_cast<uint32_t>(v)});
        }
      }
      table_of_.push_back(table_number);
      lengths_.push_back(length);
      total_length_ += length;
    }
  }
  columns_ = Sorted(std::move(columns), terms_.size());
  table_lists_ = Sorted(std::move(of_tables), terms_.size());
  std::sort(values_.begin(), values_.end(), [](const ValuePosting& a, const ValuePosting& b) {
    return std::tie(a.hash, a.document, a.value) < std::tie(b.hash, b.document, b.value);
  });
  for (uint32_t i = 0; i < values_.size(); ++i) first_of_value_.emplace(values_[i].hash, i);
  IndexTrigrams();
}

uint32_t LexicalShard::TermNumber(std::string&& stem) {
  const auto [at, is_new] = numbers_.emplace(stem, static_cast<uint32_t>(terms_.size()));
  if (is_new) terms_.push_back(std::move(stem));
  return at->second;
}

LexicalShard::Lists LexicalShard::Sorted(std::vector<Occurrence> occurrences, size_t terms) {
  // Occurrences come by document, so a stable counting sort by term keeps documents ascending.
  Lists lists;
  lists.offsets.assign(terms + 1, 0);
  for (const Occurrence& occurrence : occurrences) ++lists.offsets[occurrence.term + 1];
  for (size_t i = 1; i <= terms; ++i) lists.offsets[i] += lists.offsets[i - 1];
  std::vector<uint32_t> next(lists.offsets.begin(), lists.offsets.end() - 1);
  std::vector<Posting> sorted(occurrences.size());
  for (const Occurrence& occurrence : occurrences) {
    sorted[next[occurrence.term]++] = occurrence.posting;
  }
  // Several occurrences in one document are one posting.
  std::vector<uint32_t> offsets(terms + 1, 0);
  for (size_t term = 0; term < terms; ++term) {
    offsets[term] = static_cast<uint32_t>(lists.postings.size());
    for (uint32_t i = lists.offsets[term]; i < lists.offsets[term + 1]; ++i) {
      const bool same = lists.postings.size() > offsets[term] &&
                        lists.postings.back().document == sorted[i].document;
      if (same) {
        lists.postings.back().weight += sorted[i].weight;
        lists.postings.back().name_weight += sorted[i].name_weight;
      } else {
        lists.postings.push_back(sorted[i]);
      }
    }
  }
  offsets[terms] = static_cast<uint32_t>(lists.postings.size());
  lists.offsets = std::move(offsets);
  lists.postings.shrink_to_fit();
  return lists;
}

void LexicalShard::IndexTrigrams() {
  trigram_counts_.assign(terms_.size(), 0);
  std::vector<std::pair<uint32_t, uint32_t>> pairs;  // trigram, term
  for (uint32_t term = 0; term < terms_.size(); ++term) {
    const std::span<const Posting> postings = columns_[term];
    const bool names = std::any_of(postings.begin(), postings.end(),
                                   [](const Posting& posting) { return posting.name_weight > 0; });
    if (!names) continue;
    const std::string& name = terms_[term];
    if (name.size() >= 2 && name.size() <= 5) short_names_[name[0]].push_back(term);
    const std::vector<uint32_t> trigrams = Trigrams(name);
    trigram_counts_[term] = static_cast<uint32_t>(trigrams.size());
    for (const uint32_t trigram : trigrams) pairs.emplace_back(trigram, term);
  }
  std::sort(pairs.begin(), pairs.end());
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto at = static_cast<uint32_t>(i);
    trigram_terms_.push_back(pairs[i].second);
    const auto [range, is_new] = trigrams_.emplace(pairs[i].first, std::pair(at, at + 1));
    if (!is_new) range->second.second = at + 1;
  }
}

int LexicalShard::FindTerm(std::string_view stem) const {
  const auto found = numbers_.find(ToAbsl(stem));
  return found == numbers_.end() ? -1 : static_cast<int>(found->second);
}

std::span<const Posting> LexicalShard::Columns(uint32_t term) const { return columns_[term]; }
std::span<const Posting> LexicalShard::Tables(uint32_t term) const { return table_lists_[term]; }

std::span<const uint32_t> LexicalShard::NamesWithTrigram(uint32_t trigram) const {
  const auto found = trigrams_.find(trigram);
  if (found == trigrams_.end()) return {};
  return {trigram_terms_.data() + found->second.first,
          trigram_terms_.data() + found->second.second};
}

std::span<const uint32_t> LexicalShard::ShortNames(char first) const {
  const auto found = short_names_.find(first);
  if (found == short_names_.end()) return {};
  return found->second;
}

std::span<const ValuePosting> LexicalShard::Values(uint64_t hash) const {
  const auto found = first_of_value_.find(hash);
  if (found == first_of_value_.end()) return {};
  uint32_t end = found->second;
  while (end < values_.size() && values_[end].hash == hash) ++end;
  return {values_.data() + found->second, values_.data() + end};
}

}  // namespace octogate::schema

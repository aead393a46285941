// The lexical index of some tables of a catalog. Immutable; what it holds depends on its tables
// alone, so shards whose tables did not change are shared between snapshots. What depends on the
// whole catalog (how many columns have a word) is summed over shards by the one who asks
// (lexical_search.h).
//
// A document is a column; a term is a word's stem (words.h). The words of a column's name count
// more than those of its alias, its descriptions and its first values. Tables are documents of
// their own, of their names and descriptions.
#ifndef OCTOGATE_RETRIEVAL_SCHEMA_LEXICAL_SHARD_H_
#define OCTOGATE_RETRIEVAL_SCHEMA_LEXICAL_SHARD_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "retrieval/schema/catalog.h"

namespace octogate::schema {

// How often a word of each field counts.
struct FieldWeights {
  float name = 3;
  float alias = 2;
  float description = 1;
  float value_description = 0.5;
  float value = 0.5;
  int max_value_words = 60;  // of a column; values beyond are found by value matching alone

  bool operator==(const FieldWeights&) const = default;
};

struct Posting {
  uint32_t document;  // within the shard
  float weight;       // sum of the weights of the fields' occurrences
  float name_weight;  // of it, what name and alias bring
};

// A stored value: which of its column's; or the column's name or alias itself.
struct ValuePosting {
  static constexpr uint32_t kName = UINT32_MAX;
  uint64_t hash;  // of the value's words
  uint32_t document;
  uint32_t value;
};

class LexicalShard {
 public:
  LexicalShard(std::vector<std::shared_ptr<const CatalogTable>> tables,
               const FieldWeights& weights);

  const std::vector<std::shared_ptr<const CatalogTable>>& tables() const { return tables_; }
  uint32_t num_documents() const { return static_cast<uint32_t>(table_of_.size()); }
  uint32_t first_document(size_t table) const { return first_document_[table]; }
  uint32_t table_of(uint32_t document) const { return table_of_[document]; }
  uint32_t length(uint32_t document) const { return lengths_[document]; }  // in words
  uint64_t total_length() const { return total_length_; }
  uint32_t table_length(size_t table) const { return table_lengths_[table]; }
  uint64_t total_table_length() const { return total_table_length_; }

  // The number of a term here, or -1.
  int FindTerm(std::string_view stem) const;
  std::string_view term(uint32_t number) const { return terms_[number]; }
  std::span<const Posting> Columns(uint32_t term) const;
  std::span<const Posting> Tables(uint32_t term) const;

  // The terms of names and aliases with this trigram, ascending (trigrams.h).
  std::span<const uint32_t> NamesWithTrigram(uint32_t trigram) const;
  uint32_t num_terms() const { return static_cast<uint32_t>(terms_.size()); }
  uint32_t num_trigrams(uint32_t term) const { return trigram_counts_[term]; }
  // Those of at most five letters that begin with this one, which may be abbreviations.
  std::span<const uint32_t> ShortNames(char first) const;

  // Values and names whose words have this hash (value_match.h).
  std::span<const ValuePosting> Values(uint64_t hash) const;

 private:
  struct Lists {
    std::vector<uint32_t> offsets;  // of each term, and the end
    std::vector<Posting> postings;
    std::span<const Posting> operator[](uint32_t term) const {
      return {postings.data() + offsets[term], postings.data() + offsets[term + 1]};
    }
  };
  struct Occurrence {
    uint32_t term;
    Posting posting;
  };
  uint32_t TermNumber(std::string&& stem);
  static Lists Sorted(std::vector<Occurrence> occurrences, size_t terms);
  void IndexTrigrams();

  std::vector<std::shared_ptr<const CatalogTable>> tables_;
  std::vector<uint32_t> first_document_;
  std::vector<uint32_t> table_of_;
  std::vector<uint32_t> lengths_;
  std::vector<uint32_t> table_lengths_;
  uint64_t total_length_ = 0;
  uint64_t total_table_length_ = 0;
  absl::flat_hash_map<std::string, uint32_t> numbers_;
  std::vector<std::string> terms_;
  Lists columns_;
  Lists table_lists_;
  std::vector<uint32_t> trigram_counts_;
  absl::flat_hash_map<uint32_t, std::pair<uint32_t, uint32_t>> trigrams_;  // begin, end
  std::vector<uint32_t> trigram_terms_;
  absl::flat_hash_map<char, std::vector<uint32_t>> short_names_;
  std::vector<ValuePosting> values_;                        // by hash
  absl::flat_hash_map<uint64_t, uint32_t> first_of_value_;  // position in values_
};

}  // namespace octogate::schema

#endif  // OCTOGATE_RETRIEVAL_SCHEMA_LEXICAL_SHARD_H_

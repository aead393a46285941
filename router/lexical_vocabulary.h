#ifndef OCTOGATE_ROUTER_LEXICAL_VOCABULARY_H_
#define OCTOGATE_ROUTER_LEXICAL_VOCABULARY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "router/lexical_features.h"
#include "router/quantized_model.h"
#include "router/softmax_regression.h"

namespace octogate::router {

// What the features of texts weigh: TF-IDF (1 + ln count, smoothed inverse document frequency, unit
// length) over the terms that examples have and over hashed runs of characters.
//
// A text's vector is a sum over its terms, so what a word's runs add to the logits need not be
// added up for each query: FoldRuns does it once, when training has ended. A known word is then one
// row of weights, and only words that no example has are taken apart.
//
// Thread-safe; the extractors passed in are the caller's.
class LexicalVocabulary {
 public:
  // Of no text.
  explicit LexicalVocabulary(int hash_bits);

  // Learns terms and frequencies from `texts`, and makes their vectors, for training. Time and
  // memory are linear in the size of the texts.
  SparseRows Index(const std::vector<std::string_view>& texts);

  // Adds rows for the terms and runs of `texts` that it lacks, and makes their vectors. The vector
  // of any text has the same values in the rows that there were before: what is unknown counts in
  // its length as ever.
  SparseRows Extend(const std::vector<std::string_view>& texts);

  // Vectors for training, as Index and Extend make them, of texts that they were given.
  SparseRows MakeRows(const std::vector<std::string_view>& texts);

  // Rows of weights: those of terms, then those of runs, then those that Extend has added.
  size_t rows() const { return term_values_.size() + run_values_.size() + added_values_.size(); }

  // Makes of a model trained on Index's rows one for Read's. `texts` are those of Index.
  void FoldRuns(const std::vector<std::string_view>& texts, LinearModel* model) const;

  // The same for the weights of one class, one for each row, with the runs of each term that
  // FindRuns gives for Index's texts. Terms that Extend has added are not folded: they are read
  // together with their runs.
  std::vector<std::vector<uint32_t>> FindRuns(const std::vector<std::string_view>& texts) const;
  void FoldRuns(const std::vector<std::vector<uint32_t>>& runs, std::vector<float>* weights) const;

  // The vector of `text` for a folded model, by counts of words; `rows` is written anew.
  void Read(std::string_view text, LexicalFeatureExtractor* extractor, GroupedRows* rows) const;

  // A term or, in a word that no example has, a run of characters: what Read makes of a text, for
  // people.
  struct NamedRow {
    enum Kind { kWord, kPair, kRun };
    std::string name;  // as LexicalFeatureExtractor has it
    Kind kind = kWord;
    uint32_t count = 0;  // how often the text has the term; of a run, its word
    uint32_t row = 0;
  };
  // The rows of Read, each as often as there, and its scale.
  std::vector<NamedRow> Name(std::string_view text, float* scale) const;

  // What a row weighs in a text that has it once, before its length counts.
  float ValueOf(uint32_t row) const;

  // What a count is worth: 1 + ln count.
  static float Frequency(uint32_t count);

 private:
  // A term that examples have.
  struct Known {
    uint64_t hash = 0;  // 0: this slot is free.
    uint32_t row = 0;
    float square = 0;  // What it adds to the squared length of a text, its runs included.
  };
  // Runs of characters are known by the highest bits of their hashes.
  struct Bucket {
    int32_t row = -1;  // -1: no example has it.
    float square = 0;  // What it adds to the squared length of a text.
  };

  // Where a term is, or a free slot.
  const Known* Slot(uint64_t hash) const;
  Known* Slot(uint64_t hash);
  const Bucket& BucketOf(uint64_t run) const { return buckets_[run >> shift_]; }
  float RunSquares(absl::Span<const uint64_t> runs) const;
  // Of a hash, whose lowest bit is always set.
  size_t SlotOf(uint64_t hash) const { return (hash >> 1) & (known_.size() - 1); }
  void CountDocuments(const std::vector<std::string_view>& texts);

  int shift_;
  std::vector<Known> known_;        // A hash table with linear probing, at most half full.
  std::vector<float> term_values_;  // Of each term's row.
  std::vector<Bucket> buckets_;
  std::vector<float> run_values_;  // Of each run's row.
  float unknown_square_ = 0;       // Of a term that no example has, its runs left out.
  absl::flat_hash_map<uint64_t, uint32_t> added_terms_;  // Their rows, by their hashes.
  std::vector<float> added_values_;                      // Of each row that Extend has added.
};

}  // namespace octogate::router

#endif  // OCTOGATE_ROUTER_LEXICAL_VOCABULARY_H_

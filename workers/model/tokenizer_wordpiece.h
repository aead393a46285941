// WordPiece (Schuster and Nakajima 2012; as in Devlin et al. 2019,
// https://arxiv.org/abs/1810.04805): a word is cut, from left to right, into the longest tokens
// that there are; those that do not start it are spelled with a prefix.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_WORDPIECE_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_WORDPIECE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/model/tokenizer_json.h"
#include "workers/model/tokenizer_trie.h"
#include "workers/model/tokenizer_vocabulary.h"

namespace octogate::workers {

// Immutable after Parse.
class WordPieceModel {
 public:
  // Bounds the time that one word can take; files have 100.
  static constexpr int64_t kMaxWordCharacters = 1000;

  static absl::StatusOr<WordPieceModel> Parse(const JsonNode& node);

  // Appends the ids of `word`, well-formed UTF-8. A word that has too many characters, or that the
  // vocabulary cannot spell, is the unknown token as a whole.
  void Encode(std::string_view word, std::vector<int32_t>* ids) const;

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  int32_t unknown_id() const { return unknown_id_; }

 private:
  WordPieceModel() = default;

  size_t max_characters_ = 0;
  int32_t unknown_id_ = 0;
  std::unique_ptr<Vocabulary> vocabulary_;
  Trie first_;      // all tokens
  Trie following_;  // those with the prefix, without it
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_WORDPIECE_H_

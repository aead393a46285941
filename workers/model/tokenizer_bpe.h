// Byte pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909): a piece of text
// becomes characters, or bytes, and the pair of neighbours with the lowest rank is merged until
// none can be.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_BPE_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_BPE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "workers/model/tokenizer_json.h"
#include "workers/model/tokenizer_vocabulary.h"

namespace octogate::workers {

// (left, right) -> (rank, merged), open addressing with linear probing.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    int32_t merged;
  };
  static constexpr uint32_t kNoRank = UINT32_MAX;

  explicit MergeTable(size_t count = 0);
  // At most `count` different pairs; a later one replaces an earlier.
  void Set(int32_t left, int32_t right, Merge merge);
  // rank is kNoRank if the pair does not merge.
  Merge Find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge{kNoRank, -1};
  };
  static constexpr uint64_t kEmpty = UINT64_MAX;
  size_t SlotOf(uint64_t key) const;

  std::vector<Slot> slots_;
  size_t mask_ = 0;
};

// Immutable after Parse.
class BpeModel {
 public:
  // `byte_level`: pieces will be plain bytes that stand for byte-level characters (see
  // PreTokenizer::byte_level).
  static absl::StatusOr<BpeModel> Parse(const JsonNode& node, bool byte_level);

  // Moving keeps the views valid; copying would not.
  BpeModel(BpeModel&&) = default;
  BpeModel& operator=(BpeModel&&) = default;

  // Appends the ids of `piece`. O(n log n) in its length; about 40 bytes of memory for each byte.
  // Parts that the vocabulary cannot spell become its unknown token, or nothing if it has none.
  void Encode(std::string_view piece, std::vector<int32_t>* ids) const;

  const Vocabulary& vocabulary() const { return *vocabulary_; }
  std::optional<int32_t> unknown_id() const { return unknown_id_; }

 private:
  BpeModel() = default;

  absl::Status ParseOptions(const JsonNode& node);
  absl::Status ParseMerges(const JsonNode& node);
  void BuildCharacterIds();
  void BuildWholeWords();

  void EncodeWord(std::string_view word, std::vector<int32_t>* ids) const;
  void MergeWord(std::string_view word, std::vector<int32_t>* ids) const;
  void InitialSymbols(std::string_view word, std::vector<int32_t>* symbols) const;
  void MergeShort(std::vector<int32_t>* symbols) const;
  void MergeLong(std::vector<int32_t>* symbols) const;

  bool byte_level_ = false;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  std::string continuing_subword_prefix_;
  std::string end_of_word_suffix_;
  std::optional<int32_t> unknown_id_;

  std::unique_ptr<Vocabulary> vocabulary_;
  MergeTable merges_;
  // Ids of the 256 bytes as byte-level characters (byte_level_) or as <0x00>..<0xFF>; -1: none.
  std::array<int32_t, 256> byte_ids_{};
  std::array<int32_t, 256> fallback_ids_{};
  std::array<int32_t, 128> ascii_ids_{};

  // Words whose encoding is the single token that spells them, found when the file is loaded: what
  // a cache would learn, without its locks. Keys are words as Encode sees them.
  std::unique_ptr<std::string> whole_word_text_;
  absl::flat_hash_map<std::string_view, int32_t> whole_words_;

  // Where no merge joins anything to a following U+2581 that does not itself end in U+2581, a
  // piece is encoded word by word. The result is the same; only short words are merged.
  bool break_at_metaspace_ = false;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_BPE_H_

#include "workers/model/tokenizer_bpe.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer.h"
#include "workers/model/tokenizer_normalizer.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxMerges = size_t{4} << 20;
// Up to this many symbols a plain scan for the lowest rank beats a heap.
constexpr size_t kShortWord = 32;
constexpr std::string_view kMetaspace = "\u2581";

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

bool EndsWith(std::string_view text, std::string_view suffix) {
  return text.size() >= suffix.size() && text.substr(text.size() - suffix.size()) == suffix;
}

// A heap entry: merge the symbol at `position` with its right neighbour.
struct Candidate {
  uint32_t rank;
  uint32_t position;
  int32_t merged;
};

// For std::*_heap, which keep the largest on top: lowest rank first, then leftmost.
bool ComesLater(const Candidate& a, const Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

MergeTable::MergeTable(size_t count) {
  size_t size = 16;
  while (size < 2 * count) {
    size *= 2;
  }
  slots_.resize(size);
  mask_ = size - 1;
}

size_t MergeTable::SlotOf(uint64_t key) const {
  // Fibonacci hashing, then the high bits folded in.
  uint64_t hash = key * 0x9E3779B97F4A7C15u;
  hash ^= hash >> 32;
  size_t slot = hash & mask_;
  while (slots_[slot].key != key && slots_[slot].key != kEmpty) {
    slot = (slot + 1) & mask_;
  }
  return slot;
}

void MergeTable::Set(int32_t left, int32_t right, Merge merge) {
  const uint64_t key =
      static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  slots_[SlotOf(key)] = {key, merge};
}

MergeTable::Merge MergeTable::Find(int32_t left, int32_t right) const {
  const uint64_t key =
      static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  return slots_[SlotOf(key)].merge;
}

absl::StatusOr<BpeModel> BpeModel::Parse(const JsonNode& node, bool byte_level) {
  BpeModel model;
  model.byte_level_ = byte_level;
  OCTOGATE_RETURN_IF_ERROR(model.ParseOptions(node));
  OCTOGATE_ASSIGN_OR_RETURN(const JsonNode vocabulary, node.Get("vocab"));
  OCTOGATE_ASSIGN_OR_RETURN(model.vocabulary_, Vocabulary::Parse(vocabulary));
  model.BuildCharacterIds();
  OCTOGATE_ASSIGN_OR_RETURN(const std::string unknown, node.GetString("unk_token", ""));
  if (!unknown.empty()) {
    model.unknown_id_ = model.vocabulary_->Id(unknown);
    // A byte-level vocabulary with all bytes never needs it.
    const bool needed =
        !byte_level || std::count(model.byte_ids_.begin(), model.byte_ids_.end(), -1) > 0;
    if (!model.unknown_id_.has_value() && needed) {
      return node.Error(absl::StrCat("unk_token ", Quoted(unknown), " is not in vocab"));
    }
  }
  OCTOGATE_ASSIGN_OR_RETURN(const JsonNode merges, node.Get("merges"));
  OCTOGATE_RETURN_IF_ERROR(model.ParseMerges(merges));
  model.BuildWholeWords();
  return model;
}

absl::Status BpeModel::ParseOptions(const JsonNode& node) {
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> dropout, node.Find("dropout"));
  if (dropout.has_value() && !(dropout->value().is_number() && dropout->value() == 0.0)) {
    return dropout->Unimplemented("dropout would make encodings random; it must be null or 0");
  }
  OCTOGATE_ASSIGN_OR_RETURN(fuse_unknown_, node.GetBool("fuse_unk", false));
  OCTOGATE_ASSIGN_OR_RETURN(byte_fallback_, node.GetBool("byte_fallback", false));
  OCTOGATE_ASSIGN_OR_RETURN(ignore_merges_, node.GetBool("ignore_merges", false));
  OCTOGATE_ASSIGN_OR_RETURN(continuing_subword_prefix_,
                            node.GetString("continuing_subword_prefix", ""));
  OCTOGATE_ASSIGN_OR_RETURN(end_of_word_suffix_, node.GetString("end_of_word_suffix", ""));
  return absl::OkStatus();
}

absl::Status BpeModel::ParseMerges(const JsonNode& node) {
  OCTOGATE_RETURN_IF_ERROR(node.CheckArray(kMaxMerges));
  const nlohmann::json& list = node.value();
  merges_ = MergeTable(list.size());
  break_at_metaspace_ = !byte_level_ && !ignore_merges_ && continuing_subword_prefix_.empty() &&
                        end_of_word_suffix_.empty() && vocabulary_->Id(kMetaspace).has_value();
  uint32_t rank = 0;
  std::string merged;
  for (size_t i = 0; i < list.size(); ++i) {
    std::string_view left;
    std::string_view right;
    if (list[i].is_string()) {
      const std::string_view line = list[i].get_ref<const std::string&>();
      if (StartsWith(line, "#version")) {
        continue;  // The first line of a merges.txt.
      }
      const size_t space = line.find(' ');
      if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
        return node.At(i).Error(
            absl::StrCat("expected two tokens and one space between them, found ", Quoted(line)));
      }
      left = line.substr(0, space);
      right = line.substr(space + 1);
    } else if (list[i].is_array() && list[i].size() == 2 && list[i][0].is_string() &&
               list[i][1].is_string()) {
      left = list[i][0].get_ref<const std::string&>();
      right = list[i][1].get_ref<const std::string&>();
    } else {
      return node.At(i).Error("expected a string or a pair of strings");
    }
    if (!StartsWith(right, continuing_subword_prefix_)) {
      return node.At(i).Error(absl::StrCat(Quoted(right), " lacks the continuing_subword_prefix ",
                                           Quoted(continuing_subword_prefix_)));
    }
    merged.assign(left);
    merged.append(right.substr(continuing_subword_prefix_.size()));
    const std::optional<int32_t> left_id = vocabulary_->Id(left);
    const std::optional<int32_t> right_id = vocabulary_->Id(right);
    const std::optional<int32_t> merged_id = vocabulary_->Id(merged);
    if (!left_id.has_value() || !right_id.has_value() || !merged_id.has_value()) {
      const std::string_view missing = !left_id.has_value()    ? left
                                       : !right_id.has_value() ? right
                                                               : std::string_view(merged);
      return node.At(i).Error(absl::StrCat("the token ", Quoted(missing), " is not in vocab"));
    }
    merges_.Set(*left_id, *right_id, {rank++, *merged_id});
    if (StartsWith(right, kMetaspace) && !EndsWith(left, kMetaspace)) {
      break_at_metaspace_ = false;
    }
  }
  return absl::OkStatus();
}

void BpeModel::BuildCharacterIds() {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string one(1, static_cast<char>(byte));
    byte_ids_[byte] = vocabulary_->Id(BytesToByteLevel(one)).value_or(-1);
    fallback_ids_[byte] = vocabulary_->Id(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
    if (byte < 128) {
      ascii_ids_[byte] = vocabulary_->Id(one).value_or(-1);
    }
  }
}

void BpeModel::BuildWholeWords() {
  struct Found {
    size_t begin;
    size_t length;
    int32_t id;
  };
  std::vector<Found> found;
  whole_word_text_ = std::make_unique<std::string>();
  std::string word;
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < vocabulary_->size(); ++id) {
    if (!vocabulary_->Has(id) || vocabulary_->Token(id).empty()) {
      continue;
    }
    if (!byte_level_) {
      word.assign(vocabulary_->Token(id));
    } else if (!ByteLevelToBytes(vocabulary_->Token(id), &word)) {
      continue;  // No text is read as this token.
    }
    if (!ignore_merges_) {
      ids.clear();
      MergeWord(word, &ids);
      if (ids.size() != 1 || ids[0] != id) {
        continue;
      }
    }
    found.push_back({whole_word_text_->size(), word.size(), id});
    whole_word_text_->append(word);
  }
  whole_words_.reserve(found.size());
  for (const Found& entry : found) {
    whole_words_.emplace(std::string_view(*whole_word_text_).substr(entry.begin, entry.length),
                         entry.id);
  }
}

void BpeModel::Encode(std::string_view piece, std::vector<int32_t>* ids) const {
  if (!break_at_metaspace_) {
    EncodeWord(piece, ids);
    return;
  }
  while (!piece.empty()) {
    // A word is a run of U+2581 and what follows it up to the next.
    size_t end = 0;
    while (piece.compare(end, kMetaspace.size(), kMetaspace) == 0) {
      end += kMetaspace.size();
    }
    end = std::min(piece.find(kMetaspace, end), piece.size());
    EncodeWord(piece.substr(0, end), ids);
    piece.remove_prefix(end);
  }
}

void BpeModel::EncodeWord(std::string_view word, std::vector<int32_t>* ids) const {
  const auto whole = whole_words_.find(word);
  if (whole != whole_words_.end()) {
    ids->push_back(whole->second);
  } else {
    MergeWord(word, ids);
  }
}

void BpeModel::MergeWord(std::string_view word, std::vector<int32_t>* ids) const {
  std::vector<int32_t> symbols;
  symbols.reserve(word.size());
  InitialSymbols(word, &symbols);
  if (symbols.size() <= kShortWord) {
    MergeShort(&symbols);
  } else {
    MergeLong(&symbols);
  }
  ids->insert(ids->end(), symbols.begin(), symbols.end());
}

void BpeModel::InitialSymbols(std::string_view word, std::vector<int32_t>* symbols) const {
  const bool decorated = !continuing_subword_prefix_.empty() || !end_of_word_suffix_.empty();
  bool unknown = false;  // An unknown token waits, for others to be fused into it.
  for (size_t at = 0; at < word.size();) {
    const size_t length = byte_level_ ? 1 : Utf8Length(word[at]);
    const std::string_view character = word.substr(at, length);
    const auto byte = static_cast<uint8_t>(word[at]);
    std::string spelled;  // As in the vocabulary, where that is not `character`.
    int32_t id;
    if (decorated) {
      spelled = absl::StrCat(at == 0 ? "" : continuing_subword_prefix_,
                             byte_level_ ? BytesToByteLevel(character) : std::string(character),
                             at + length == word.size() ? end_of_word_suffix_ : "");
      id = vocabulary_->Id(spelled).value_or(-1);
    } else if (byte_level_) {
      id = byte_ids_[byte];
    } else if (byte < 128) {
      id = ascii_ids_[byte];
    } else {
      id = vocabulary_->Id(character).value_or(-1);
    }
    at += length;
    if (id >= 0) {
      if (unknown) {
        symbols->push_back(*unknown_id_);
        unknown = false;
      }
      symbols->push_back(id);
      continue;
    }
    if (byte_fallback_) {
      if (!decorated) {
        spelled = byte_level_ ? BytesToByteLevel(character) : std::string(character);
      }
      const auto known = [this](char c) { return fallback_ids_[static_cast<uint8_t>(c)] >= 0; };
      if (std::all_of(spelled.begin(), spelled.end(), known)) {
        for (const char c : spelled) {
          symbols->push_back(fallback_ids_[static_cast<uint8_t>(c)]);
        }
        continue;
      }
    }
    if (unknown_id_.has_value()) {
      if (unknown && !fuse_unknown_) {
        symbols->push_back(*unknown_id_);
      }
      unknown = true;
    }
  }
  if (unknown) {
    symbols->push_back(*unknown_id_);
  }
}

void BpeModel::MergeShort(std::vector<int32_t>* symbols) const {
  std::array<MergeTable::Merge, kShortWord> merges;  // Of symbol i with symbol i + 1.
  int32_t* const ids = symbols->data();
  size_t count = symbols->size();
  for (size_t i = 0; i + 1 < count; ++i) {
    merges[i] = merges_.Find(ids[i], ids[i + 1]);
  }
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) {
        best = i;
      }
    }
    if (merges[best].rank == MergeTable::kNoRank) {
      break;
    }
    ids[best] = merges[best].merged;
    --count;
    for (size_t i = best + 1; i < count; ++i) {
      ids[i] = ids[i + 1];
      merges[i - 1] = merges[i];
    }
    if (best + 1 < count) {
      merges[best] = merges_.Find(ids[best], ids[best + 1]);
    }
    if (best > 0) {
      merges[best - 1] = merges_.Find(ids[best - 1], ids[best]);
    }
  }
  symbols->resize(count);
}

void BpeModel::MergeLong(std::vector<int32_t>* symbols) const {
  // A doubly linked list over the positions; a symbol that was merged into its left neighbour has
  // id kGone.
  constexpr int32_t kGone = -1;
  constexpr uint32_t kEnd = UINT32_MAX;
  std::vector<int32_t>& ids = *symbols;
  const auto count = static_cast<uint32_t>(ids.size());
  std::vector<uint32_t> next(count);
  std::vector<uint32_t> previous(count);
  std::vector<Candidate> heap;
  heap.reserve(count);
  const auto consider = [&](uint32_t left, uint32_t right) {
    const MergeTable::Merge merge = merges_.Find(ids[left], ids[right]);
    if (merge.rank == MergeTable::kNoRank) {
      return false;
    }
    heap.push_back({merge.rank, left, merge.merged});
    return true;
  };
  for (uint32_t i = 0; i < count; ++i) {
    next[i] = i + 1 < count ? i + 1 : kEnd;
    previous[i] = i > 0 ? i - 1 : kEnd;
    if (i + 1 < count) {
      consider(i, i + 1);
    }
  }
  std::make_heap(heap.begin(), heap.end(), ComesLater);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), ComesLater);
    const Candidate top = heap.back();
    heap.pop_back();
    const uint32_t left = top.position;
    const uint32_t right = ids[left] == kGone ? kEnd : next[left];
    if (right == kEnd || merges_.Find(ids[left], ids[right]).merged != top.merged) {
      continue;  // One of the two was merged with another neighbour meanwhile.
    }
    ids[left] = top.merged;
    ids[right] = kGone;
    next[left] = next[right];
    if (next[left] != kEnd) {
      previous[next[left]] = left;
      if (consider(left, next[left])) {
        std::push_heap(heap.begin(), heap.end(), ComesLater);
      }
    }
    if (previous[left] != kEnd && consider(previous[left], left)) {
      std::push_heap(heap.begin(), heap.end(), ComesLater);
    }
  }
  ids.erase(std::remove(ids.begin(), ids.end(), kGone), ids.end());
}

}  // namespace octogate::workers

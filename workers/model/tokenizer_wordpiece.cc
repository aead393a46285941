#include "workers/model/tokenizer_wordpiece.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace octogate::workers {
namespace {

size_t CountCharacters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

}  // namespace

absl::StatusOr<WordPieceModel> WordPieceModel::Parse(const JsonNode& node) {
  WordPieceModel model;
  OCTOGATE_ASSIGN_OR_RETURN(const std::optional<JsonNode> limit,
                            node.Find("max_input_chars_per_word"));
  int64_t max_characters = 100;
  if (limit.has_value()) {
    OCTOGATE_ASSIGN_OR_RETURN(max_characters, limit->Integer(1, kMaxWordCharacters));
  }
  model.max_characters_ = static_cast<size_t>(max_characters);
  OCTOGATE_ASSIGN_OR_RETURN(const std::string prefix,
                            node.GetString("continuing_subword_prefix", "##"));
  OCTOGATE_ASSIGN_OR_RETURN(const JsonNode vocabulary, node.Get("vocab"));
  OCTOGATE_ASSIGN_OR_RETURN(model.vocabulary_, Vocabulary::Parse(vocabulary));
  OCTOGATE_ASSIGN_OR_RETURN(const std::string unknown, node.GetString("unk_token", "[UNK]"));
  const std::optional<int32_t> unknown_id = model.vocabulary_->Id(unknown);
  if (!unknown_id.has_value()) {
    return node.Error(absl::StrCat("unk_token ", Quoted(unknown), " is not in vocab"));
  }
  model.unknown_id_ = *unknown_id;
  for (int32_t id = 0; id < model.vocabulary_->size(); ++id) {
    if (!model.vocabulary_->Has(id)) {
      continue;
    }
    const std::string_view token = model.vocabulary_->Token(id);
    // No word is as long.
    if (token.empty() || CountCharacters(token) > model.max_characters_ + prefix.size()) {
      continue;
    }
    model.first_.Add(token, id);
    if (token.size() > prefix.size() && token.substr(0, prefix.size()) == prefix) {
      model.following_.Add(token.substr(prefix.size()), id);
    }
  }
  return model;
}

void WordPieceModel::Encode(std::string_view word, std::vector<int32_t>* ids) const {
  const size_t before = ids->size();
  bool spelled = CountCharacters(word) <= max_characters_;
  for (size_t at = 0; spelled && at < word.size();) {
    const Trie::Match match = (at == 0 ? first_ : following_).LongestAt(word, at);
    spelled = match.value >= 0;
    ids->push_back(match.value);
    at = match.end;
  }
  if (!spelled) {
    ids->resize(before);
    ids->push_back(unknown_id_);
  }
}

}  // namespace octogate::workers

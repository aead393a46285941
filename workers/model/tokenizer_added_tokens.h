// The added tokens of tokenizer.json: found in a text as they are spelled, before the model sees
// it.
#ifndef OCTOGATE_WORKERS_MODEL_TOKENIZER_ADDED_TOKENS_H_
#define OCTOGATE_WORKERS_MODEL_TOKENIZER_ADDED_TOKENS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/model/tokenizer_json.h"
#include "workers/model/tokenizer_normalizer.h"
#include "workers/model/tokenizer_regex.h"
#include "workers/model/tokenizer_trie.h"
#include "workers/model/tokenizer_vocabulary.h"

namespace octogate::workers {

struct AddedToken {
  int32_t id;
  std::string content;
  bool single_word;  // Only where no word character touches it.
  bool lstrip;       // Takes the white space on its left with it.
  bool rstrip;       // … and on its right.
  bool normalized;   // Looked for, normalized itself, in the normalized text.
  bool special;      // Left out when decoding with skip_special_tokens.
};

// A stretch of text: an added token, or (id -1) text in between. Stretches cover the text except
// where lstrip and rstrip say otherwise.
struct TextSegment {
  TextRange range;
  int32_t id;
};

// Immutable after Parse.
class AddedTokens {
 public:
  AddedTokens() = default;
  // `node` is the array "added_tokens". Ids must agree with `vocabulary` where it has the token,
  // and be unused by it where it has not.
  static absl::StatusOr<AddedTokens> Parse(const JsonNode& node, const Vocabulary& vocabulary,
                                           const Normalizer& normalizer);

  // Cuts `text`, before normalization (the tokens that are not `normalized`) or after it (those
  // that are). Without `parse_special`, special tokens are text.
  std::vector<TextSegment> Cut(std::string_view text, bool after_normalization,
                               bool parse_special) const;

  // Null if `id` is not an added token.
  const AddedToken* Find(int32_t id) const;
  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  std::vector<AddedToken> tokens_;
  absl::flat_hash_map<int32_t, size_t> by_id_;
  // Values are indexes into tokens_.
  Trie plain_;
  Trie normalized_;
};

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_MODEL_TOKENIZER_ADDED_TOKENS_H_

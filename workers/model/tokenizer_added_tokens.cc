#include "workers/model/tokenizer_added_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "workers/model/tokenizer.h"
#include "workers/model/tokenizer_unicode.h"

namespace octogate::workers {
namespace {

constexpr size_t kMaxAddedTokens = 1 << 20;
// Bounds the time to search a text: length of the text times this.
constexpr size_t kMaxContentBytes = 256;

absl::StatusOr<AddedToken> ParseToken(const JsonNode& node) {
  AddedToken token;
  OCTOGATE_ASSIGN_OR_RETURN(const int64_t id,
                            node.GetInteger("id", 0, Tokenizer::kMaxVocabSize - 1));
  token.id = static_cast<int32_t>(id);
  OCTOGATE_ASSIGN_OR_RETURN(token.content, node.GetString("content"));
  OCTOGATE_ASSIGN_OR_RETURN(token.single_word, node.GetBool("single_word"));
  OCTOGATE_ASSIGN_OR_RETURN(token.lstrip, node.GetBool("lstrip"));
  OCTOGATE_ASSIGN_OR_RETURN(token.rstrip, node.GetBool("rstrip"));
  OCTOGATE_ASSIGN_OR_RETURN(token.normalized, node.GetBool("normalized"));
  OCTOGATE_ASSIGN_OR_RETURN(token.special, node.GetBool("special"));
  if (token.content.empty() || token.content.size() > kMaxContentBytes) {
    return node.Error(absl::StrCat("content has ", token.content.size(), " bytes; expected 1 to ",
                                   kMaxContentBytes));
  }
  return token;
}

bool WordCharacterBefore(std::string_view text, size_t at) {
  if (at == 0) {
    return false;
  }
  const char* p = text.data() + LastCharacterStart(text.substr(0, at));
  return IsWordCharacter(NextCodePoint(p));
}

bool WordCharacterAt(std::string_view text, size_t at) {
  if (at == text.size()) {
    return false;
  }
  const char* p = text.data() + at;
  return IsWordCharacter(NextCodePoint(p));
}

size_t SkipSpaceBack(std::string_view text, size_t at, size_t limit) {
  while (at > limit) {
    const size_t start = LastCharacterStart(text.substr(0, at));
    const char* p = text.data() + start;
    if (!IsWhitespace(NextCodePoint(p))) {
      break;
    }
    at = start;
  }
  return at;
}

size_t SkipSpace(std::string_view text, size_t at) {
  while (at < text.size()) {
    const char* p = text.data() + at;
    if (!IsWhitespace(NextCodePoint(p))) {
      break;
    }
    at = static_cast<size_t>(p - text.data());
  }
  return at;
}

}  // namespace

absl::StatusOr<AddedTokens> AddedTokens::Parse(const JsonNode& node, const Vocabulary& vocabulary,
                                               const Normalizer& normalizer) {
  OCTOGATE_RETURN_IF_ERROR(node.CheckArray(kMaxAddedTokens));
  AddedTokens result;
  absl::flat_hash_set<std::string> contents;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (size_t i = 0; i < node.value().size(); ++i) {
    const JsonNode entry = node.At(i);
    OCTOGATE_ASSIGN_OR_RETURN(AddedToken token, ParseToken(entry));
    if (!contents.insert(token.content).second) {
      return entry.Error(absl::StrCat(Quoted(token.content), " was added before"));
    }
    if (!result.by_id_.emplace(token.id, i).second) {
      return entry.Error(
          absl::StrCat("the id ", token.id, " is already that of another added token"));
    }
    const std::optional<int32_t> known = vocabulary.Id(token.content);
    if (known.has_value() && *known != token.id) {
      return entry.Error(absl::StrCat("the id ", token.id, " contradicts model.vocab, where ",
                                      Quoted(token.content), " has the id ", *known));
    }
    if (!known.has_value() && vocabulary.Has(token.id)) {
      return entry.Error(absl::StrCat("the id ", token.id, " is that of ",
                                      Quoted(vocabulary.Token(token.id)), " in model.vocab"));
    }
    if (token.normalized) {
      std::string spelled = token.content;
      const absl::Status status = normalizer.Run(&spelled, 4 * kMaxContentBytes, deadline);
      if (!status.ok()) {
        return entry.Error(absl::StrCat("content cannot be normalized: ", status.message()));
      }
      if (!spelled.empty()) {
        result.normalized_.Add(spelled, static_cast<int32_t>(i));
      }
    } else {
      result.plain_.Add(token.content, static_cast<int32_t>(i));
    }
    result.tokens_.push_back(std::move(token));
  }
  return result;
}

std::vector<TextSegment> AddedTokens::Cut(std::string_view text, bool after_normalization,
                                          bool parse_special) const {
  const Trie& trie = after_normalization ? normalized_ : plain_;
  std::vector<TextSegment> segments;
  size_t done = 0;  // End of the last segment.
  for (size_t at = 0; !trie.empty() && at < text.size();) {
    const Trie::Match match = trie.LongestAt(text, at);
    if (match.value < 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = match.end;
    at = match.end;
    const AddedToken& token = tokens_[static_cast<size_t>(match.value)];
    if (token.special && !parse_special) {
      continue;
    }
    if (token.single_word && (WordCharacterBefore(text, begin) || WordCharacterAt(text, end))) {
      continue;
    }
    if (token.lstrip) {
      begin = std::max(SkipSpaceBack(text, begin, std::min(done, begin)), done);
    }
    if (token.rstrip) {
      end = SkipSpace(text, end);
    }
    if (done < begin) {
      segments.push_back({{done, begin}, -1});
    }
    segments.push_back({{begin, end}, token.id});
    done = end;
  }
  if (done < text.size()) {
    segments.push_back({{done, text.size()}, -1});
  }
  return segments;
}

const AddedToken* AddedTokens::Find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

}  // namespace octogate::workers

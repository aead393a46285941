// From the prompt of a request to the token ids that the model reads.
//
// Templates may spell special tokens, text from outside may not: a special
// token's spelling inside a message or a query is read as plain text, so that
// nobody can end their own turn or speak as another role. The ids of prompts
// without such spellings are those of Hugging Face's apply_chat_template; where
// there is one, a SentencePiece vocabulary reads a space after its first character.

#ifndef OCTOGATE_WORKERS_SERVER_PROMPT_ENCODER_H_
#define OCTOGATE_WORKERS_SERVER_PROMPT_ENCODER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "octogate/v1/worker.pb.h"
#include "workers/engine/model_runner.h"

namespace octogate::workers {

// Thread safety: const after construction.
class PromptEncoder {
 public:
  static constexpr size_t kMaxPromptBytes = 1 << 20;

  // `model` must outlive the encoder.
  explicit PromptEncoder(const LoadedModel* model);

  // INVALID_ARGUMENT for an empty or malformed prompt, FAILED_PRECONDITION for
  // a conversation where the model has no chat template, NOT_FOUND for suffix
  // tokens outside the vocabulary.
  absl::StatusOr<std::vector<int32_t>> Encode(const v1::WorkerPrompt& prompt) const;

  // Ids of vocabulary entries; NOT_FOUND names those that do not exist.
  template <typename Strings>
  absl::StatusOr<std::vector<int32_t>> TokenIds(const Strings& tokens) const;

 private:
  // `text` with a break put into every spelling of a special token.
  std::string BreakSpecialTokens(std::string_view text) const;
  absl::StatusOr<std::vector<int32_t>> EncodeBroken(std::string_view text,
                                                    bool add_special_tokens) const;
  absl::StatusOr<std::string> Render(const v1::WorkerPrompt& prompt) const;

  const LoadedModel* model_;
  std::vector<std::string> special_tokens_;  // longest first
};

template <typename Strings>
absl::StatusOr<std::vector<int32_t>> PromptEncoder::TokenIds(const Strings& tokens) const {
  std::vector<int32_t> ids;
  std::string missing;
  for (const std::string& token : tokens) {
    if (const auto id = model_->tokenizer->TokenId(token)) {
      ids.push_back(*id);
    } else if (missing.size() < 512) {
      missing += (missing.empty() ? "'" : ", '") + token + "'";
    }
  }
  if (!missing.empty()) {
    return absl::NotFoundError("not in the model's vocabulary: " + missing);
  }
  return ids;
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_PROMPT_ENCODER_H_

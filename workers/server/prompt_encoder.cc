#include "workers/server/prompt_encoder.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace octogate::workers {
namespace {

// A noncharacter (U+FDD0): valid UTF-8 that no text has a use for. Text from
// outside loses it before it can be mistaken for a break.
constexpr std::string_view kBreak = "\xEF\xB7\x90";
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::string_view kQuery = "{query}";

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  size_t begin = 0;
  for (size_t at; (at = text.find(from, begin)) != std::string_view::npos;
       begin = at + from.size()) {
    result.append(text.substr(begin, at - begin)).append(to);
  }
  return result.append(text.substr(begin));
}

size_t Utf8Length(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xE0) return 2;
  return lead < 0xF0 ? 3 : 4;
}

}  // namespace

PromptEncoder::PromptEncoder(const LoadedModel* model) : model_(model) {
  for (int32_t id = 0; id < model->tokenizer->vocab_size(); ++id) {
    if (!model->tokenizer->IsSpecial(id)) continue;
    if (auto token = model->tokenizer->Token(id); token.ok()) {
      special_tokens_.push_back(*std::move(token));
    }
  }
  std::sort(special_tokens_.begin(), special_tokens_.end(),
            [](const std::string& a, const std::string& b) {
              return a.size() != b.size() ? a.size() > b.size() : a < b;
            });
}

std::string PromptEncoder::BreakSpecialTokens(std::string_view text) const {
  std::string result = ReplaceAll(text, kBreak, kReplacement);
  for (const std::string& token : special_tokens_) {
    if (token.empty() || result.find(token) == std::string::npos) continue;
    const size_t first =
        std::min(token.size(), Utf8Length(static_cast<unsigned char>(token.front())));
    result = ReplaceAll(result, token,
                        token.substr(0, first) + std::string(kBreak) + token.substr(first));
  }
  return result;
}

absl::StatusOr<std::vector<int32_t>> PromptEncoder::EncodeBroken(std::string_view text,
                                                                 bool add_special_tokens) const {
  std::vector<int32_t> ids;
  for (bool first = true;; first = false) {
    const size_t at = text.find(kBreak);
    auto part = model_->tokenizer->Encode(
        text.substr(0, at),
        {.add_special_tokens = add_special_tokens && first, .parse_special = true});
    if (!part.ok()) return part.status();
    ids.insert(ids.end(), part->begin(), part->end());
    if (at == std::string_view::npos) return ids;
    text.remove_prefix(at + kBreak.size());
  }
}

absl::StatusOr<std::string> PromptEncoder::Render(const v1::WorkerPrompt& prompt) const {
  if (prompt.has_template_()) {
    const std::string& text = prompt.template_().template_();
    if (text.find(kQuery) == std::string::npos) {
      return absl::InvalidArgumentError("the prompt template has no {query}");
    }
    return ReplaceAll(text, kQuery, BreakSpecialTokens(prompt.template_().query()));
  }
  if (prompt.conversation().messages().empty()) {
    return absl::InvalidArgumentError("the conversation has no message");
  }
  if (!model_->chat_template) {
    return absl::FailedPreconditionError(
        "the model has no chat template: add chat_template.jinja to its folder, or send a prompt "
        "template");
  }
  ChatJson messages = ChatJson::array();
  for (const v1::Message& message : prompt.conversation().messages()) {
    messages.push_back(ChatJson::object(
        {{"role", message.role()}, {"content", BreakSpecialTokens(message.content())}}));
  }
  return model_->chat_template->Render(messages, {.add_generation_prompt = true});
}

absl::StatusOr<std::vector<int32_t>> PromptEncoder::Encode(const v1::WorkerPrompt& prompt) const {
  if (prompt.ByteSizeLong() > kMaxPromptBytes + 4096) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", prompt.ByteSizeLong(),
                                                   " bytes; at most ", kMaxPromptBytes,
                                                   " are accepted"));
  }
  auto text = Render(prompt);
  if (!text.ok()) return text.status();
  // A chat template writes its own beginning-of-sequence token.
  auto ids = EncodeBroken(*text, /*add_special_tokens=*/prompt.has_template_());
  if (!ids.ok()) return ids.status();
  auto suffix = TokenIds(prompt.suffix_tokens());
  if (!suffix.ok()) return suffix.status();
  ids->insert(ids->end(), suffix->begin(), suffix->end());
  if (ids->empty()) return absl::InvalidArgumentError("the prompt has no token");
  return ids;
}

}  // namespace octogate::workers

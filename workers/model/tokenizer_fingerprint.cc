#include "workers/model/tokenizer_fingerprint.h"

#include <span>
#include <string>

#include "absl/strings/str_cat.h"

namespace octogate::workers {
namespace {

// Part of the fingerprint: raise it when what goes into the hash changes.
constexpr uint32_t kFingerprintVersion = 1;

}  // namespace

Hash128 TokenizerFingerprint(const Tokenizer& tokenizer) {
  std::string vocabulary;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const absl::StatusOr<std::string> token = tokenizer.Token(id);
    if (!token.ok()) {
      vocabulary += "-;";
      continue;
    }
    absl::StrAppend(&vocabulary, token->size(), tokenizer.IsSpecial(id) ? "s" : ":", *token, ";");
  }
  return HashBytes(std::as_bytes(std::span(vocabulary)), kFingerprintVersion);
}

}  // namespace octogate::workers

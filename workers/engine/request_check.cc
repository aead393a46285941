#include "workers/engine/request_check.h"

#include <cstddef>
#include <span>

#include "absl/strings/str_cat.h"
#include "workers/engine/stop.h"

namespace octogate::workers {
namespace {

absl::Status CheckIds(const char* name, std::span<const int32_t> ids, int vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocab_size) {
      return absl::InvalidArgumentError(absl::StrCat(
          name, "[", i, "] is ", ids[i], "; the model has the tokens 0 to ", vocab_size - 1));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBytes(const char* name, const std::string& text) {
  if (text.size() <= ServiceTerms::kMaxTenantBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " has ", text.size(), " bytes; at most ",
                                                 ServiceTerms::kMaxTenantBytes, " are allowed"));
}

absl::Status CheckCount(const char* name, size_t count, size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " has ", count, " entries; at most ", limit, " are allowed"));
}

}  // namespace

absl::Status ValidateTerms(const ServiceTerms& terms) {
  absl::Status status = CheckBytes("tenant", terms.tenant);
  status.Update(CheckBytes("cache_salt", terms.cache_salt));
  if (!status.ok()) return status;
  if (terms.priority < ServiceTerms::kMinPriority || terms.priority > ServiceTerms::kMaxPriority) {
    return absl::InvalidArgumentError(absl::StrCat("priority is ", terms.priority, "; it must be ",
                                                   ServiceTerms::kMinPriority, " to ",
                                                   ServiceTerms::kMaxPriority));
  }
  return absl::OkStatus();
}

absl::Status ValidateRequest(const GenerateRequest& request, const RequestLimits& limits) {
  const int vocab_size = limits.vocab_size;
  // Lengths first: ids of a prompt that is too long are not even looked at.
  const size_t length = request.prompt.size() + request.generated_prefix.size();
  const auto longest = static_cast<size_t>(limits.generates ? limits.context - 1 : limits.context);
  if (request.prompt.empty()) {
    return absl::InvalidArgumentError("the prompt is empty; it must have at least one token");
  }
  if (length > longest) {
    return absl::OutOfRangeError(absl::StrCat(
        "the prompt has ", length, " tokens; the context of ", limits.context, " tokens ",
        limits.generates ? "leaves room for prompts of at most " : "holds prompts of at most ",
        longest));
  }
  absl::Status status = CheckIds("prompt", request.prompt, vocab_size);
  status.Update(CheckIds("generated_prefix", request.generated_prefix, vocab_size));
  status.Update(CheckCount("score_first_tokens", request.score_first_tokens.size(),
                           GenerateRequest::kMaxScoredTokens));
  status.Update(CheckIds("score_first_tokens", request.score_first_tokens, vocab_size));
  status.Update(
      CheckCount("stop_token_ids", request.stop_token_ids.size(), GenerateRequest::kMaxStopTokens));
  status.Update(ValidateStopStrings(request.stop));
  status.Update(ValidateSamplingParameters(request.sampling, vocab_size));
  status.Update(ValidateTerms(request.terms));
  if (!status.ok()) return status;
  if (!request.stop.empty() && !limits.has_tokenizer) {
    return absl::InvalidArgumentError("stop strings need a tokenizer; this engine has none");
  }
  if (request.constraint != nullptr && request.ignore_eos) {
    return absl::InvalidArgumentError(
        "ignore_eos excludes a constraint, which decides where the answer ends");
  }
  if (request.constraint != nullptr && !request.sampling.allowed_first_tokens.empty()) {
    return absl::InvalidArgumentError(
        "allowed_first_tokens excludes a constraint, which decides what comes first");
  }
  if (request.max_tokens < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens is ", request.max_tokens, "; it must be at least 1"));
  }
  if (static_cast<size_t>(request.max_tokens) <= request.generated_prefix.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("generated_prefix has ", request.generated_prefix.size(),
                     " tokens; it must have fewer than max_tokens, which is ", request.max_tokens));
  }
  return absl::OkStatus();
}

}  // namespace octogate::workers

// Refuses requests that an engine cannot or must not run, before it spends anything on them.
#ifndef OCTOGATE_WORKERS_ENGINE_REQUEST_CHECK_H_
#define OCTOGATE_WORKERS_ENGINE_REQUEST_CHECK_H_

#include "absl/status/status.h"
#include "workers/engine/request.h"

namespace octogate::workers {

// What an engine has to offer to a request.
struct RequestLimits {
  int vocab_size = 0;
  int context = 0;            // longest sequence, prompt and answer together
  bool generates = true;      // the context must have room for an answer
  bool has_tokenizer = true;  // needed for stop strings
};

// INVALID_ARGUMENT, naming the field and what is allowed.
absl::Status ValidateTerms(const ServiceTerms& terms);

// INVALID_ARGUMENT, naming the field and what is allowed; OUT_OF_RANGE for a prompt that is too
// long for the context.
absl::Status ValidateRequest(const GenerateRequest& request, const RequestLimits& limits);

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_ENGINE_REQUEST_CHECK_H_

// Pieces of one answer.

#ifndef OCTOGATE_WORKERS_SERVER_GENERATE_RESPONSE_H_
#define OCTOGATE_WORKERS_SERVER_GENERATE_RESPONSE_H_

#include "octogate/v1/worker.pb.h"

namespace octogate::workers {

// Appends the piece `from` to the piece before it.
inline void MergeResponse(v1::WorkerGenerateResponse from, v1::WorkerGenerateResponse& into) {
  into.mutable_text()->append(from.text());
  into.mutable_ids()->MergeFrom(from.ids());
  into.mutable_logprobs()->MergeFrom(from.logprobs());
  into.set_logprob_sum(into.logprob_sum() + from.logprob_sum());
  if (from.has_end()) into.mutable_end()->Swap(from.mutable_end());
}

}  // namespace octogate::workers

#endif  // OCTOGATE_WORKERS_SERVER_GENERATE_RESPONSE_H_

// What a call under way costs the others on its worker, by what the worker's steps were measured to
// cost.
#ifndef OCTOGATE_GATEWAY_CALL_COST_H_
#define OCTOGATE_GATEWAY_CALL_COST_H_

#include <optional>

#include "octogate/v1/worker.pb.h"

namespace octogate::gateway {

// In bytes of prompts that the worker reads in the same time
// (ReplicaChoiceOptions::bytes_per_call): an answer of 256 tokens, each of which adds a sequence of
// one row to a step that the others share. Both come from the same measurement, so that how fast
// the machine was then cancels out. Bounded, since a peer says it; nothing where too little was
// measured to tell, or what is said makes no sense.
std::optional<double> MeasuredBytesPerCall(const v1::WorkerInfoResponse& info);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CALL_COST_H_

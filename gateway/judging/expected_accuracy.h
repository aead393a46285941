// What an evaluation has said of a node's answers.
#ifndef OCTOGATE_GATEWAY_JUDGING_EXPECTED_ACCURACY_H_
#define OCTOGATE_GATEWAY_JUDGING_EXPECTED_ACCURACY_H_

#include <cstdint>

#include "octogate/v1/graph.pb.h"

namespace octogate::gateway {

// How often answers of that many tokens by a model or replay node were right, in [0, 1]: the first
// of its `expected` entries whose up_to_tokens is not below, or the last one. 1 where it has none.
inline double ExpectedAccuracy(const v1::Node& node, int64_t tokens) {
  const auto& entries = node.has_replay() ? node.replay().expected() : node.model().expected();
  for (const v1::ExpectedAccuracy& entry : entries) {
    if (tokens <= entry.up_to_tokens()) return entry.accuracy();
  }
  return entries.empty() ? 1.0 : entries[entries.size() - 1].accuracy();
}

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_JUDGING_EXPECTED_ACCURACY_H_

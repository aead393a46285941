// What LearnToken and ForgetToken do: edits of the examples that a node's functional token is
// learned from (Node.learned_examples), applied as a new version of the graph.
#ifndef OCTOGATE_GATEWAY_TOKEN_LEARNING_H_
#define OCTOGATE_GATEWAY_TOKEN_LEARNING_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/graph_manager.h"
#include "octogate/v1/admin.pb.h"

namespace octogate::gateway {

// Adds those of `examples` that the node has not yet, and returns how many; changes nothing where
// it fails, as LearnToken does.
absl::StatusOr<int> AddLearnedExamples(const std::string& node,
                                       const std::vector<std::string>& examples, v1::Graph* graph);

// `request` is valid. NOT_FOUND names a node or router that there is not; FAILED_PRECONDITION where
// no head of any router would learn; other errors are those of GraphManager::Edit. Blocks.
absl::StatusOr<v1::LearnTokenResponse> LearnToken(const v1::LearnTokenRequest& request,
                                                  absl::Time deadline, GraphManager* graphs);

// Errors are those of LearnToken, but a node that has learned nothing is none.
absl::StatusOr<v1::ForgetTokenResponse> ForgetToken(const v1::ForgetTokenRequest& request,
                                                    absl::Time deadline, GraphManager* graphs);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_TOKEN_LEARNING_H_

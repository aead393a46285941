// A graph's model as catalogs embed with it: blocking, for threads that may wait.
#ifndef OCTOGATE_GATEWAY_CATALOG_CATALOG_ENCODER_H_
#define OCTOGATE_GATEWAY_CATALOG_CATALOG_ENCODER_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "retrieval/schema/dense_index.h"
#include "router/call_context.h"
#include "router/embedding_model.h"

namespace octogate::gateway {

// One vector per text, of 1 to router::EmbeddingModel::kMaxInputs, of which the model reads the
// beginning where they are long. Blocks until the model has answered, at most shortly after the
// context's deadline or cancellation. INTERNAL for another number of vectors; else the model's
// errors.
absl::StatusOr<std::vector<std::vector<float>>> EmbedTexts(router::EmbeddingModel& model,
                                                           std::span<const std::string> texts,
                                                           const router::CallContext& context);

// The model for indexes of columns. Asks it for its fingerprint and the size of its vectors:
// UNAVAILABLE where no replica answers.
absl::StatusOr<schema::TextEncoder> MakeTextEncoder(std::shared_ptr<router::EmbeddingModel> model,
                                                    absl::Time deadline);

}  // namespace octogate::gateway

#endif  // OCTOGATE_GATEWAY_CATALOG_CATALOG_ENCODER_H_

#include "gateway/catalog/catalog_encoder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/status.h"

namespace octogate::gateway {
namespace {

// Few enough not to hold up others for long.
constexpr size_t kBatch = 64;

}  // namespace

absl::StatusOr<std::vector<std::vector<float>>> EmbedTexts(router::EmbeddingModel& model,
                                                           std::span<const std::string> texts,
                                                           const router::CallContext& context) {
  struct Call {
    absl::Notification done;
    absl::StatusOr<v1::WorkerEmbedResponse> response = absl::UnknownError("");
  };
  v1::WorkerEmbedRequest request;
  request.set_cut_long_inputs(true);
  for (const std::string& text : texts) request.add_inputs(text);
  const auto call = std::make_shared<Call>();
  model.Embed(request, context, [call](absl::StatusOr<v1::WorkerEmbedResponse> response) {
    call->response = std::move(response);
    call->done.Notify();
  });
  call->done.WaitForNotification();  // The deadline ends the call.
  OCTOGATE_RETURN_IF_ERROR(call->response.status());
  if (static_cast<size_t>(call->response->embeddings_size()) != texts.size()) {
    return absl::InternalError(absl::StrCat("the model answered ", texts.size(), " texts with ",
                                            call->response->embeddings_size(), " vectors"));
  }
  std::vector<std::vector<float>> vectors;
  for (const v1::Embedding& embedding : call->response->embeddings()) {
    vectors.emplace_back(embedding.values().begin(), embedding.values().end());
  }
  return vectors;
}

absl::StatusOr<schema::TextEncoder> MakeTextEncoder(std::shared_ptr<router::EmbeddingModel> model,
                                                    absl::Time deadline) {
  schema::TextEncoder encoder;
  OCTOGATE_ASSIGN_OR_RETURN(encoder.fingerprint, model->Fingerprint(deadline));
  const std::string probe = "a";
  OCTOGATE_ASSIGN_OR_RETURN(
      const std::vector<std::vector<float>> vectors,
      EmbedTexts(*model, std::span(&probe, 1), {.deadline = deadline, .tenant = {}}));
  encoder.dimension = vectors.front().size();
  encoder.max_batch = kBatch;
  encoder.embed = [model = std::move(model)](std::span<const std::string> texts,
                                             absl::Time give_up) {
    return EmbedTexts(*model, texts, {.deadline = give_up, .tenant = {}});
  };
  return encoder;
}

}  // namespace octogate::gateway

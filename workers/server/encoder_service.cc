#include "workers/server/encoder_service.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace octogate::workers {

EncoderService::EncoderService(std::string name, std::unique_ptr<LoadedEncoder> model)
    : name_(std::move(name)),
      model_(std::move(model)),
      fingerprint_(model_->checkpoint->ComputeFingerprint().ToHex()) {}

absl::Status EncoderService::EmbedsOnly(const char* what) const {
  return absl::FailedPreconditionError(absl::StrCat(
      "the model \"", name_, "\" is a sentence encoder: it embeds texts and ", "cannot ", what));
}

absl::StatusOr<std::shared_ptr<Generation>> EncoderService::Generate(
    const v1::WorkerGenerateRequest&, absl::Time, OnMessage, OnDone) {
  return EmbedsOnly("generate");
}

absl::StatusOr<std::shared_ptr<Generation>> EncoderService::Score(
    const v1::WorkerScoreRequest&, absl::Time, OnResult<v1::WorkerScoreResponse>) {
  return EmbedsOnly("score tokens");
}

absl::StatusOr<v1::WorkerExplainCacheResponse> EncoderService::ExplainCache(
    const v1::WorkerExplainCacheRequest&, absl::Time) {
  return EmbedsOnly("read prompts");
}

absl::StatusOr<v1::WorkerEmbedResponse> EncoderService::Embed(
    const v1::WorkerEmbedRequest& request, absl::Time deadline,
    const std::shared_ptr<Cancellation>& cancellation) {
  OCTOGATE_RETURN_IF_ERROR(CheckInputs(request));
  const LongText long_text = request.cut_long_inputs() ? LongText::kCut : LongText::kRefuse;
  std::vector<std::vector<int32_t>> texts;
  int64_t tokens = 0;
  for (const std::string& input : request.inputs()) {
    if (cancellation != nullptr && cancellation->IsCancelled()) {
      return absl::CancelledError("the caller cancelled the request");
    }
    OCTOGATE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, model_->EncodeText(input, long_text));
    tokens += static_cast<int64_t>(ids.size());
    texts.push_back(std::move(ids));
  }
  OCTOGATE_ASSIGN_OR_RETURN(const std::vector<std::vector<float>> vectors,
                            model_->encoder->Embed(std::move(texts), Bounded(deadline),
                                                   cancellation, FromProto(request.terms())));
  v1::WorkerEmbedResponse response;
  response.mutable_usage()->set_prompt_tokens(tokens);
  for (const std::vector<float>& vector : vectors) AddEmbedding(vector, &response);
  return response;
}

v1::WorkerInfoResponse EncoderService::Info() const {
  v1::WorkerInfoResponse info;
  info.set_model(name_);
  info.set_kind(v1::MODEL_KIND_ENCODER);
  info.set_family("bert");
  info.set_fingerprint(fingerprint_);
  info.set_context_length(model_->encoder->max_tokens());
  info.set_parameters(static_cast<int64_t>(CountParameters(model_->encoder->config())));
  info.set_running(model_->encoder->stats().calls);
  info.set_backend(model_->encoder->backend_description());
  const WeightReport& weights = weight_report();
  info.set_weight_format(kernels::Name(weights.format));
  info.set_mean_weight_error(weights.mean_error);
  info.set_worst_weight_error(weights.worst_error);
  info.set_draining(draining_);
  info.set_version(OCTOGATE_VERSION);
  return info;
}

absl::Status EncoderService::Drain(absl::Time deadline) {
  draining_ = true;
  return model_->encoder->Drain(deadline);
}

uint64_t EncoderService::memory_bytes() const {
  const EncoderStats stats = model_->encoder->stats();
  return stats.weight_bytes + stats.activation_bytes;
}

}  // namespace octogate::workers

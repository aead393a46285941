#include "gateway/replica_causal_model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "common/cancellation.h"
#include "common/status.h"
#include "gateway/replica_embedding_model.h"
#include "gateway/tenant.h"

namespace octogate::gateway {
namespace {

// Has the cancellation cancel the call until the registration, which the call's last callback
// holds, goes.
void Connect(const std::shared_ptr<Cancellation>& cancellation,
             const std::shared_ptr<ModelCall>& call,
             const std::shared_ptr<Cancellation::Registration>& registration) {
  if (cancellation == nullptr) return;
  *registration = cancellation->OnCancel([call] { call->Cancel(); });
}

template <typename Request>
std::shared_ptr<const Request> WithTerms(const Request& request, const std::string& tenant) {
  auto result = std::make_shared<Request>(request);
  *result->mutable_terms() = ServiceTermsOf(tenant);
  return result;
}

}  // namespace

void ReplicaCausalModel::Score(const v1::WorkerScoreRequest& request,
                               const router::CallContext& context, ScoreDone done) {
  auto registration = std::make_shared<Cancellation::Registration>();
  const std::shared_ptr<ModelCall> call = replicas_->Score(
      WithTerms(request, context.tenant), context.deadline,
      [done = std::move(done), registration](absl::StatusOr<v1::WorkerScoreResponse> response) {
        done(std::move(response));
      });
  Connect(context.cancellation, call, registration);
}

void ReplicaCausalModel::Generate(const v1::WorkerGenerateRequest& request,
                                  const router::CallContext& context, OnMessage on_message,
                                  GenerateDone done) {
  auto registration = std::make_shared<Cancellation::Registration>();
  const std::shared_ptr<ModelCall> call = replicas_->Generate(
      WithTerms(request, context.tenant), context.deadline, nullptr,
      [on_message = std::move(on_message)](v1::WorkerGenerateResponse& message) {
        on_message(message);
        return Flow::kContinue;
      },
      [done = std::move(done), registration](const absl::Status& status) { done(status); });
  Connect(context.cancellation, call, registration);
}

absl::StatusOr<std::vector<std::string>> ReplicaCausalModel::MissingTokens(
    const std::vector<std::string>& tokens, absl::Time deadline) {
  // Scoring a token that is not one entry of the vocabulary is NOT_FOUND.
  const auto probe = [&](const auto& candidates) {
    auto request = std::make_shared<v1::WorkerScoreRequest>();
    request->mutable_prompt()->mutable_template_()->set_template_("{query}");
    request->mutable_prompt()->mutable_template_()->set_query("?");
    for (const std::string& token : candidates) request->add_tokens(token);
    struct Result {
      absl::Notification done;
      absl::Status status;
    };
    auto result = std::make_shared<Result>();
    replicas_->Score(request, deadline, [result](absl::StatusOr<v1::WorkerScoreResponse> response) {
      result->status = response.status();
      result->done.Notify();
    });
    result->done.WaitForNotification();  // The deadline ends the call.
    return result->status;
  };
  const absl::Status all = probe(tokens);
  if (all.ok()) return std::vector<std::string>();
  if (!absl::IsNotFound(all)) return all;
  std::vector<std::string> missing;
  for (const std::string& token : tokens) {
    const absl::Status status = probe(std::vector<std::string>{token});
    if (absl::IsNotFound(status)) {
      missing.push_back(token);
    } else if (!status.ok()) {
      return status;
    }
  }
  return missing;
}

absl::StatusOr<std::string> ReplicaCausalModel::Fingerprint(absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(const v1::WorkerInfoResponse info,
                            AwaitInfo(*replicas_, "a head that learns", deadline));
  return absl::StrCat(info.fingerprint(), "/", info.weight_format());
}

}  // namespace octogate::gateway

#include "gateway/replica_embedding_model.h"

#include <algorithm>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/cancellation.h"
#include "common/strings.h"
#include "gateway/tenant.h"

namespace octogate::gateway {
namespace {

// A replica that answers says at once what it is.
constexpr absl::Duration kInfoWait = absl::Seconds(5);

}  // namespace

void ReplicaEmbeddingModel::Embed(const v1::WorkerEmbedRequest& request,
                                  const router::CallContext& context, EmbedDone done) {
  auto terms = std::make_shared<v1::WorkerEmbedRequest>(request);
  *terms->mutable_terms() = ServiceTermsOf(context.tenant);
  auto registration = std::make_shared<Cancellation::Registration>();
  const std::shared_ptr<ModelCall> call = replicas_->Embed(
      std::move(terms), context.deadline,
      [done = std::move(done), registration](absl::StatusOr<v1::WorkerEmbedResponse> response) {
        done(std::move(response));
      });
  // Cancels the call until the registration, which its callback holds, goes.
  if (context.cancellation == nullptr) return;
  *registration = context.cancellation->OnCancel([call] { call->Cancel(); });
}

absl::StatusOr<std::string> ReplicaEmbeddingModel::Fingerprint(absl::Time deadline) {
  absl::StatusOr<v1::WorkerInfoResponse> info =
      AwaitInfo(*replicas_, "what embeds with it", deadline);
  if (!info.ok()) return info.status();
  return info->fingerprint();
}

absl::StatusOr<v1::WorkerInfoResponse> AwaitInfo(ReplicaSet& replicas, std::string_view needed_by,
                                                 absl::Time deadline) {
  const absl::Time give_up = std::min(deadline, absl::Now() + kInfoWait);
  for (;;) {
    if (std::optional<v1::WorkerInfoResponse> info = replicas.Info()) return *std::move(info);
    if (absl::Now() >= give_up) {
      return absl::UnavailableError(absl::StrCat(
          "no worker of the model \"", replicas.model(), "\" answers, and ", ToAbsl(needed_by),
          " needs one when the graph is applied: ", replicas.LastError()));
    }
    replicas.Tick();
    absl::SleepFor(absl::Milliseconds(2));
  }
}

}  // namespace octogate::gateway

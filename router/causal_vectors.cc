#include "router/causal_vectors.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/digest.h"
#include "common/status.h"
#include "common/strings.h"
#include "router/usage.h"

namespace octogate::router {
namespace {

// Passes under way of one call of Embed.
constexpr size_t kReadsAtOnce = 8;
// What is left of the vocabulary where its entries sum to all that a float can tell.
constexpr double kSmallestRest = 1e-7;
// Of a text in an error.
constexpr size_t kNamedBytes = 60;

}  // namespace

v1::WorkerPrompt CausalPrompt(const v1::CausalHead& settings, std::string_view query) {
  v1::WorkerPrompt prompt;
  if (!settings.prompt().empty()) {
    prompt.mutable_template_()->set_template_(settings.prompt());
    prompt.mutable_template_()->set_query(std::string(query));
    return prompt;
  }
  v1::WorkerConversation& conversation = *prompt.mutable_conversation();
  if (!settings.system().empty()) {
    v1::Message& system = *conversation.add_messages();
    system.set_role("system");
    system.set_content(settings.system());
  }
  v1::Message& user = *conversation.add_messages();
  user.set_role("user");
  user.set_content(std::string(query));
  return prompt;
}

// One call of Embed. Reads hold it until they are done.
struct CausalVectors::Batch {
  const CausalVectors* vectors;  // Lives until `done` is called.
  v1::WorkerEmbedRequest request;
  CallContext context;
  EmbedDone done;

  absl::Mutex mutex;
  int next ABSL_GUARDED_BY(mutex) = 0;
  int answered ABSL_GUARDED_BY(mutex) = 0;
  absl::Status status ABSL_GUARDED_BY(mutex);
  v1::WorkerEmbedResponse response ABSL_GUARDED_BY(mutex);
};

CausalVectors::CausalVectors(v1::CausalHead settings, std::vector<std::string> tokens,
                             std::shared_ptr<CausalModel> model)
    : settings_(std::move(settings)), tokens_(std::move(tokens)), model_(std::move(model)) {}

absl::Status CausalVectors::WithoutHiddenState(const absl::Status* why) const {
  return absl::FailedPreconditionError(absl::StrCat(
      "a worker of the model ", Quoted(settings_.model()),
      " returns no hidden state, on which rows are learned; replace it by a worker of this "
      "release, or remove 'learnedRows'",
      why == nullptr ? "" : absl::StrCat("; it says: ", why->message())));
}

absl::StatusOr<CausalVectors::Reading> CausalVectors::ToReading(
    const v1::WorkerScoreResponse& response) const {
  if (response.hidden_state().empty()) return WithoutHiddenState(nullptr);
  if (response.logits_size() != static_cast<int>(tokens_.size())) {
    return absl::InternalError(absl::StrCat("the model returned ", response.logits_size(),
                                            " logits for ", tokens_.size(), " tokens"));
  }
  Reading reading;
  reading.usage = response.usage();
  reading.vector.assign(response.hidden_state().begin(), response.hidden_state().end());
  if (!tokens_.empty()) {
    double sum = 0;
    for (const float logit : response.logits()) {
      const double log_probability = logit - response.log_sum_exp();
      reading.vector.push_back(static_cast<float>(log_probability));
      sum += std::exp(log_probability);
    }
    reading.vector.push_back(static_cast<float>(std::log(std::max(1 - sum, kSmallestRest))));
  }
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(reading.vector.begin(), reading.vector.end(), finite)) {
    return absl::InternalError("the model returned a value that is not a number");
  }
  return reading;
}

void CausalVectors::Read(std::string_view query, const CallContext& context,
                         std::function<void(absl::StatusOr<Reading>)> done) const {
  v1::WorkerScoreRequest request;
  *request.mutable_prompt() = CausalPrompt(settings_, query);
  *request.mutable_tokens() = {tokens_.begin(), tokens_.end()};
  request.set_hidden_state(true);
  model_->Score(request, context,
                [this, done = std::move(done)](absl::StatusOr<v1::WorkerScoreResponse> response) {
                  if (response.ok()) return done(ToReading(*response));
                  // To a worker that does not know of them nothing was asked for.
                  const bool asked_nothing =
                      tokens_.empty() && absl::IsInvalidArgument(response.status());
                  done(asked_nothing ? WithoutHiddenState(&response.status()) : response.status());
                });
}

void CausalVectors::ReadNext(const std::shared_ptr<Batch>& batch) {
  int i;
  {
    absl::MutexLock lock(&batch->mutex);
    if (batch->next >= batch->request.inputs_size() || !batch->status.ok()) return;
    i = batch->next++;
  }
  batch->vectors->Read(
      batch->request.inputs(i), batch->context, [batch, i](absl::StatusOr<Reading> reading) {
        bool last;
        {
          absl::MutexLock lock(&batch->mutex);
          if (reading.ok()) {
            v1::Embedding& embedding = *batch->response.mutable_embeddings(i);
            *embedding.mutable_values() = {reading->vector.begin(), reading->vector.end()};
            AddUsage(reading->usage, batch->response.mutable_usage());
          } else if (batch->status.ok()) {
            batch->status = Annotate(
                reading.status(),
                absl::StrCat("the example ", Quoted(batch->request.inputs(i), kNamedBytes)));
          }
          ++batch->answered;
          // After an error no further ones start.
          last =
              batch->answered == (batch->status.ok() ? batch->request.inputs_size() : batch->next);
        }
        if (!last) return ReadNext(batch);
        absl::Status status;
        v1::WorkerEmbedResponse response;
        {
          absl::MutexLock lock(&batch->mutex);
          status = batch->status;
          response.Swap(&batch->response);
        }
        if (!status.ok()) return batch->done(std::move(status));
        batch->done(std::move(response));
      });
}

void CausalVectors::Embed(const v1::WorkerEmbedRequest& request, const CallContext& context,
                          EmbedDone done) {
  auto batch = std::make_shared<Batch>();
  batch->vectors = this;
  batch->request = request;
  batch->context = context;
  batch->done = std::move(done);
  {
    absl::MutexLock lock(&batch->mutex);
    for (int i = 0; i < request.inputs_size(); ++i) batch->response.add_embeddings();
  }
  if (request.inputs().empty()) return batch->done(v1::WorkerEmbedResponse());
  const auto first = std::min(kReadsAtOnce, static_cast<size_t>(request.inputs_size()));
  for (size_t i = 0; i < first; ++i) ReadNext(batch);
}

absl::StatusOr<std::string> CausalVectors::Fingerprint(absl::Time deadline) {
  OCTOGATE_ASSIGN_OR_RETURN(std::string bytes, model_->Fingerprint(deadline));
  for (const std::string& part : {settings_.prompt(), settings_.system()}) {
    absl::StrAppend(&bytes, "|", part.size(), ":", part);
  }
  for (const std::string& token : tokens_) absl::StrAppend(&bytes, "|", token.size(), ":", token);
  return absl::StrCat("causal:", Sha256Hex(bytes));
}

}  // namespace octogate::router

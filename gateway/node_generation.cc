#include "gateway/node_generation.h"

#include <utility>

#include "common/status_macros.h"
#include "gateway/node_grammar.h"
#include "gateway/tenant.h"

namespace octogate::gateway {

absl::StatusOr<std::shared_ptr<v1::WorkerGenerateRequest>> WorkerRequest(
    const NodeRuntime& node, const v1::GenerateRequest& request, const std::string& input,
    const LinkedNames& links) {
  const v1::ModelNode& model = node.node->model();
  auto worker_request = std::make_shared<v1::WorkerGenerateRequest>();
  v1::WorkerConversation& conversation = *worker_request->mutable_prompt()->mutable_conversation();
  if (!model.system().empty()) {
    v1::Message& system = *conversation.add_messages();
    system.set_role("system");
    system.set_content(model.system());
  }
  for (int i = 0; i + 1 < request.messages_size(); ++i) {
    *conversation.add_messages() = request.messages(i);
  }
  v1::Message& query = *conversation.add_messages();
  // A tool's result as it came keeps its role; what was made of it is a query.
  const v1::Message& last = request.messages(request.messages_size() - 1);
  query.set_role(last.role() == "tool" && input == last.content() ? "tool" : "user");
  query.set_content(input);
  const bool lower = request.max_tokens() > 0 && request.max_tokens() < model.max_tokens();
  worker_request->set_max_tokens(lower ? request.max_tokens() : model.max_tokens());
  if (request.has_sampling()) {
    *worker_request->mutable_sampling() = request.sampling();
  } else if (model.has_sampling()) {
    *worker_request->mutable_sampling() = model.sampling();
  }
  *worker_request->mutable_stop() = model.stop();
  worker_request->mutable_stop()->MergeFrom(request.stop());
  worker_request->set_top_logprobs(request.top_logprobs());
  OCTOGATE_RETURN_IF_ERROR(SetGrammar(node, request, links, worker_request.get()));
  *worker_request->mutable_terms() = ServiceTermsOf(request.tenant());
  return worker_request;
}

std::shared_ptr<ModelCall> StartGeneration(const NodeRuntime& node,
                                           std::shared_ptr<const v1::WorkerGenerateRequest> request,
                                           absl::Time deadline,
                                           ReplicaSet::AttemptCallback on_attempt,
                                           ModelClient::MessageCallback on_message,
                                           ModelClient::DoneCallback on_done) {
  if (node.replay == nullptr) {
    return node.replicas->Generate(std::move(request), deadline, std::move(on_attempt),
                                   std::move(on_message), std::move(on_done));
  }
  on_attempt("");
  return node.replay->Generate(*request, deadline, std::move(on_message), std::move(on_done));
}

}  // namespace octogate::gateway

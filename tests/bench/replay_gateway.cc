#include "tests/bench/replay_gateway.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "gateway/judging/answer_form.h"

namespace octogate::bench {
namespace {

// A node's expected accuracies as its manifest has them.
std::string Expected(const std::vector<LengthBin>& bins) {
  return absl::StrCat(
      "[",
      absl::StrJoin(bins, ", ",
                    [](std::string* out, const LengthBin& bin) {
                      absl::StrAppend(out, "{upToTokens: ", bin.up_to_tokens,
                                      ", accuracy: ", absl::StrFormat("%.4f", bin.accuracy), "}");
                    }),
      "]");
}

}  // namespace

std::string ReplayNode(const std::string& name, size_t model, const std::vector<LengthBin>& bins) {
  return absl::StrCat("    - {name: ", name, ", replay: {recording: m", model,
                      ".jsonl, maxTokens: 5000, expected: ", Expected(bins), "}}\n");
}

std::string VoteNode(const std::string& name, const std::string& members, const std::string& rest) {
  return absl::StrCat("    - {name: ", name, ", vote: {members: [", members, "], same: choice",
                      rest, "}}\n");
}

void Fail(const std::string& what) {
  std::cerr << "answers_bench: " << what << "\n";
  std::exit(1);
}

ReplayGateway::ReplayGateway(const RecordedAnswers& answers, const std::filesystem::path& root)
    : answers_(answers), root_(root) {
  for (size_t m = 0; m < answers.models.size(); ++m) {
    WriteRecording(answers, answers.models[m], (root / absl::StrCat("m", m, ".jsonl")).string());
  }
  gateway::ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.graph.model_root = root.string();
  options.traces.traces_per_second = 0;
  auto server = gateway::Server::Start(options, store_.get());
  if (!server.ok()) Fail(std::string(server.status().message()));
  server_ = *std::move(server);
  server_->AwaitRestored(absl::Now() + absl::Seconds(30));
  stub_ = v1::Gateway::NewStub(grpc::CreateChannel(absl::StrCat("127.0.0.1:", server_->port()),
                                                   grpc::InsecureChannelCredentials()));
}

void ReplayGateway::Apply(const std::string& spec) {
  v1::ApplyGraphRequest request;
  request.set_manifest(absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: answers}\nspec:\n", spec));
  const auto applied = server_->graphs().Apply(request, absl::Now() + absl::Minutes(5));
  if (!applied.ok()) Fail(std::string(applied.status().message()));
}

v1::Finished ReplayGateway::Ask(const std::string& query, const std::string& node) {
  grpc::ClientContext context;
  v1::GenerateRequest request;
  v1::Message& message = *request.add_messages();
  message.set_role("user");
  message.set_content(query);
  request.set_node(node);
  request.set_events(v1::EVENT_LEVEL_RESULT);
  auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse event;
  v1::Finished finished;
  while (reader->Read(&event)) {
    if (event.has_finished()) finished = event.finished();
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) Fail(status.error_message());
  return finished;
}

Outcome ReplayGateway::Run(const std::string& node) {
  Outcome outcome;
  double count = 0;
  for (const RecordedQuestion& question : answers_.questions) {
    if (!question.is_test) continue;
    const v1::Finished finished = Ask(question.text, node);
    const std::string letter = gateway::NormalizeAnswer(finished.text(), v1::ANSWER_FORM_CHOICE);
    count += 1;
    outcome.accuracy += letter == std::string(1, question.right) ? 1 : 0;
    outcome.calls += finished.calls();
    outcome.tokens += static_cast<double>(finished.usage().completion_tokens());
  }
  outcome.accuracy /= count;
  outcome.calls /= count;
  outcome.tokens /= count;
  return outcome;
}

}  // namespace octogate::bench

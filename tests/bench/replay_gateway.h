// A gateway whose nodes replay recorded answers, asked over gRPC.
#ifndef OCTOGATE_TESTS_BENCH_REPLAY_GATEWAY_H_
#define OCTOGATE_TESTS_BENCH_REPLAY_GATEWAY_H_

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/memory_store.h"
#include "gateway/server.h"
#include "octogate/v1/gateway.grpc.pb.h"
#include "tests/bench/recorded_answers.h"

namespace octogate::bench {

// What a policy gave on the test questions.
struct Outcome {
  double accuracy = 0;
  double calls = 0;   // per query
  double tokens = 0;  // written, per query
};

// Nodes as a manifest has them: one that replays the answers of a model (by its place among those
// recorded), with its expected accuracy by length; and one that votes among `members`, with what
// else it says.
std::string ReplayNode(const std::string& name, size_t model, const std::vector<LengthBin>& bins);
std::string VoteNode(const std::string& name, const std::string& members, const std::string& rest);

// Ends the process where anything fails, as there is nothing to measure then. For one thread.
class ReplayGateway {
 public:
  // Writes the recordings of all models into `root`, where its graphs find them as mN.jsonl, and
  // starts. `answers` outlives it.
  ReplayGateway(const RecordedAnswers& answers, const std::filesystem::path& root);

  // `spec`: what is below `spec:` in the manifest.
  void Apply(const std::string& spec);
  // An empty node is the graph's entry.
  v1::Finished Ask(const std::string& query, const std::string& node);
  // Of all test questions.
  Outcome Run(const std::string& node);

  const std::filesystem::path& root() const { return root_; }

 private:
  const RecordedAnswers& answers_;
  const std::filesystem::path root_;
  const std::unique_ptr<Store> store_ = MakeMemoryStore();
  std::unique_ptr<gateway::Server> server_;
  std::unique_ptr<v1::Gateway::Stub> stub_;
};

[[noreturn]] void Fail(const std::string& what);

}  // namespace octogate::bench

#endif  // OCTOGATE_TESTS_BENCH_REPLAY_GATEWAY_H_

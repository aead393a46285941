// gateway_under_test WORKER MAX_CONCURRENT: a gateway with a store in memory whose graph routes by
// the lexical head to a model on the worker; prints "ready PORT" and serves until it is killed.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/memory_store.h"
#include "gateway/server.h"

namespace {

std::string Manifest(const std::string& worker) {
  return absl::StrCat(
      "apiVersion: octogate/v1\nkind: Graph\nmetadata: {name: bench}\nspec:\n  entry: main\n"
      "  models: [{name: stub, workers: [\"",
      worker, "\"]}]\n",
      R"(  nodes:
    - name: main
      router:
        members: [talk, sum, clock]
        fallback: talk
        heads: [{threshold: 0.5, lexical: {}}]
    - name: talk
      description: answers whatever begins with the word stub
      examples: ["stub tokens=1", "stub tokens=2", "stub tokens=256 text=tok", "tell me a story"]
      model: {model: stub}
    - name: sum
      description: calculates
      examples: ["1 + 1", "12 * 3", "what is 7 / 2?", "add 4 and 5"]
      tool: {tool: calculator}
    - name: clock
      description: knows dates
      examples: ["what time is it?", "how many days until Christmas?", "what day is today?"]
      tool: {tool: clock}
)");
}

}  // namespace

int main(int argc, char** argv) {
  // As the gateway's own program does.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  octogate::gateway::ServerOptions options;
  if (argc != 3 || !absl::SimpleAtoi(argv[2], &options.admission.max_concurrent)) {
    std::cerr << "usage: gateway_under_test WORKER MAX_CONCURRENT\n";
    return EXIT_FAILURE;
  }
  options.listen = "127.0.0.1:0";
  options.admission.max_per_tenant = 1 << 20;
  options.admission.max_waiting = options.admission.max_concurrent;
  if (const char* threads = std::getenv("OCTOGATE_BENCH_THREADS")) {
    (void)absl::SimpleAtoi(threads, &options.threads);
  }
  const auto store = octogate::MakeMemoryStore();
  const auto server = octogate::gateway::Server::Start(options, store.get());
  if (!server.ok()) {
    std::cerr << server.status() << "\n";
    return EXIT_FAILURE;
  }
  (*server)->AwaitRestored(absl::Now() + absl::Seconds(30));
  octogate::v1::ApplyGraphRequest request;
  request.set_manifest(Manifest(argv[1]));
  const auto applied = (*server)->graphs().Apply(request, absl::Now() + absl::Seconds(30));
  if (!applied.ok()) {
    std::cerr << applied.status() << "\n";
    return EXIT_FAILURE;
  }
  std::cout << "ready " << (*server)->port() << std::endl;
  for (;;) pause();
}

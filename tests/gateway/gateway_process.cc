// gateway_process: a gateway on a free port with a store in memory:
// prints "ready PORT" and serves until it is killed. For tests from other languages.
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "absl/time/clock.h"
#include "common/memory_store.h"
#include "gateway/server.h"

int main() {
  const auto store = octogate::MakeMemoryStore();
  octogate::gateway::ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.threads = 3;
  const auto server = octogate::gateway::Server::Start(options, store.get());
  if (!server.ok()) {
    std::cerr << server.status() << "\n";
    return EXIT_FAILURE;
  }
  (*server)->AwaitRestored(absl::Now() + absl::Seconds(30));
  std::cout << "ready " << (*server)->port() << std::endl;
  for (;;) pause();
}

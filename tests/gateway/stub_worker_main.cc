// stub_worker ADDRESS [TOKENS]: runs a stub worker until it is killed; prints "ready HOST:PORT"
// when it listens. TOKENS is the length of the answers that no script sets.
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "tests/gateway/stub_worker.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: stub_worker ADDRESS [TOKENS]\n";
    return EXIT_FAILURE;
  }
  octogate::gateway::StubWorkerOptions options;
  options.address = argv[1];
  if (argc > 2 && !absl::SimpleAtoi(argv[2], &options.defaults.tokens)) {
    std::cerr << "TOKENS must be a number\n";
    return EXIT_FAILURE;
  }
  octogate::gateway::StubWorker worker(options);
  std::cout << "ready " << worker.address() << std::endl;
  for (;;) pause();
}

#include "tests/gateway/tools/reference.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <sstream>

namespace octogate::gateway {

uint64_t TestSeed() {
  const char* fixed = std::getenv("OCTOGATE_TEST_SEED");
  return fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : std::random_device{}();
}

std::vector<ReferenceCase> ReferenceCases(const std::string& script, uint64_t seed, int count) {
  std::vector<ReferenceCase> cases;
  const char* folder = std::getenv("OCTOGATE_TOOLS_REFERENCE");
  if (folder == nullptr) return cases;
  const std::string command = "python3 '" + std::string(folder) + "/" + script + "' " +
                              std::to_string(seed) + " " + std::to_string(count);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  if (pipe == nullptr) return cases;
  std::string output;
  char buffer[1 << 16];
  for (size_t n = 0; (n = fread(buffer, 1, sizeof(buffer), pipe.get())) > 0;) {
    output.append(buffer, n);
  }
  std::istringstream lines(output);
  ReferenceCase next;
  while (std::getline(lines, next.request, '\t') && std::getline(lines, next.check, '\t') &&
         std::getline(lines, next.expected)) {
    cases.push_back(next);
  }
  return cases;
}

}  // namespace octogate::gateway

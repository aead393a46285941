#ifndef OCTOGATE_TESTS_GATEWAY_TOOLS_REFERENCE_H_
#define OCTOGATE_TESTS_GATEWAY_TOOLS_REFERENCE_H_

#include <cstdint>
#include <string>
#include <vector>

// Cases from an independent implementation: Python scripts beside this file that generate requests
// from a seed and answer them with Python's own libraries.

namespace octogate::gateway {

struct ReferenceCase {
  std::string request;
  std::string check;  // "equal", "prefix", "contains" or "code" (the status code's name).
  std::string expected;
};

// A new seed for every run; OCTOGATE_TEST_SEED repeats one.
uint64_t TestSeed();

// `count` cases of `script`. Empty when python3 or the folder OCTOGATE_TOOLS_REFERENCE is missing:
// the caller skips.
std::vector<ReferenceCase> ReferenceCases(const std::string& script, uint64_t seed, int count);

}  // namespace octogate::gateway

#endif  // OCTOGATE_TESTS_GATEWAY_TOOLS_REFERENCE_H_

// Seeds for random tests: another one in each run, printed by whoever fails, repeated by setting
// OCTOGATE_TEST_SEED.
#ifndef OCTOGATE_TESTS_WORKERS_ENGINE_FRESH_SEED_H_
#define OCTOGATE_TESTS_WORKERS_ENGINE_FRESH_SEED_H_

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace octogate::workers {

inline uint32_t FreshSeed() {
  if (const char* seed = std::getenv("OCTOGATE_TEST_SEED")) {
    return static_cast<uint32_t>(std::strtoul(seed, nullptr, 10));
  }
  return std::random_device{}();
}

// For SCOPED_TRACE.
inline std::string DescribeSeed(uint32_t seed) {
  return "repeat with OCTOGATE_TEST_SEED=" + std::to_string(seed);
}

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_ENGINE_FRESH_SEED_H_

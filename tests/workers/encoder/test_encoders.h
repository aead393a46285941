// The encoders in tests/fixtures, for tests.
#ifndef OCTOGATE_TESTS_WORKERS_ENCODER_TEST_ENCODERS_H_
#define OCTOGATE_TESTS_WORKERS_ENCODER_TEST_ENCODERS_H_

#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "workers/model/encoder_checkpoint.h"

namespace octogate::workers {

inline std::filesystem::path EncoderPath(const std::string& name) {
  return std::filesystem::path(OCTOGATE_FIXTURES) / "encoders" / name;
}

inline std::shared_ptr<const EncoderCheckpoint> OpenEncoder(const std::string& name) {
  absl::StatusOr<EncoderCheckpoint> checkpoint = EncoderCheckpoint::Open(EncoderPath(name));
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  if (!checkpoint.ok()) return nullptr;
  return std::make_shared<const EncoderCheckpoint>(*std::move(checkpoint));
}

inline nlohmann::json ReadExpected(const std::string& name) {
  std::ifstream file(EncoderPath(name) / "expected.json");
  EXPECT_TRUE(file) << name;
  return nlohmann::json::parse(file);
}

inline std::vector<int32_t> RandomText(std::mt19937& random, int length, int vocab_size) {
  std::vector<int32_t> ids(static_cast<size_t>(length));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab_size));
  }
  return ids;
}

}  // namespace octogate::workers

#endif  // OCTOGATE_TESTS_WORKERS_ENCODER_TEST_ENCODERS_H_

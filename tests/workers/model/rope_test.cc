#include "workers/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "nlohmann/json.hpp"

namespace octogate::workers {
namespace {

nlohmann::json RecordedCases() {
  std::ifstream file(OCTOGATE_FIXTURES "/rope/frequencies.json");
  return nlohmann::json::parse(file);
}

void ExpectRecorded(const std::vector<float>& frequencies, const nlohmann::json& recorded) {
  ASSERT_EQ(frequencies.size(), recorded.size());
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double expected = recorded[i].get<double>();
    EXPECT_NEAR(frequencies[i], expected, 1e-6 * expected) << "pair " << i;
  }
}

// tests/fixtures/rope/make.py recorded them with Hugging Face transformers.
TEST(Rope, FrequenciesEqualThoseOfTransformers) {
  const nlohmann::json cases = RecordedCases();
  for (const auto& [name, recorded] : cases.items()) {
    for (const char* spelling : {"transformers_4", "transformers_5"}) {
      SCOPED_TRACE(name + ", config as written by " + spelling);
      const auto config = ParseModelConfig(recorded[spelling].dump(), "", "recorded");
      ASSERT_TRUE(config.ok()) << config.status();
      ExpectRecorded(RopeInverseFrequencies(*config, RopeRange::kShort), recorded["short"]);
      ExpectRecorded(RopeInverseFrequencies(*config, RopeRange::kLong), recorded["long"]);
      EXPECT_NEAR(config->rope_scaling.attention_scaling,
                  recorded["attention_scaling"].get<double>(), 1e-6);
    }
  }
}

TEST(Rope, OnlyLongRopeDependsOnTheLength) {
  const nlohmann::json cases = RecordedCases();
  for (const auto& [name, recorded] : cases.items()) {
    SCOPED_TRACE(name);
    const auto config = ParseModelConfig(recorded["transformers_4"].dump(), "", "recorded");
    ASSERT_TRUE(config.ok()) << config.status();
    const bool is_long_rope = config->rope_scaling.kind == RopeScaling::Kind::kLongRope;
    const int border = config->rope_scaling.original_max_position_embeddings;
    EXPECT_EQ(RopeRangeForLength(*config, border), RopeRange::kShort);
    EXPECT_EQ(RopeRangeForLength(*config, border + 1),
              is_long_rope ? RopeRange::kLong : RopeRange::kShort);
    EXPECT_EQ(RopeInverseFrequencies(*config, RopeRange::kShort) !=
                  RopeInverseFrequencies(*config, RopeRange::kLong),
              is_long_rope);
  }
}

}  // namespace
}  // namespace octogate::workers

// all-MiniLM-L6-v2, a trained public encoder, against vectors recorded with transformers. The model
// is looked for in the folder that OCTOGATE_MINILM names, or where deploy/fetch-minilm.sh puts it.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "workers/encoder/encoder_runner.h"

namespace octogate::workers {
namespace {

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double dot = 0;
  double aa = 0;
  double bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    dot += double{a[i]} * double{b[i]};
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
  }
  return dot / std::sqrt(aa * bb);
}

struct Precision {
  kernels::WeightFormat format;
  double least_cosine;
};

class MiniLmTest : public ::testing::TestWithParam<Precision> {};
INSTANTIATE_TEST_SUITE_P(Formats, MiniLmTest,
                         ::testing::Values(Precision{kernels::WeightFormat::kStored, 0.999999},
                                           Precision{kernels::WeightFormat::kBf16, 0.9999},
                                           Precision{kernels::WeightFormat::kInt8, 0.99},
                                           Precision{kernels::WeightFormat::kInt8Group, 0.999}),
                         [](const auto& info) {
                           std::string name = kernels::Name(info.param.format);
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(MiniLmTest, VectorsAreThoseOfTransformers) {
  const char* named = std::getenv("OCTOGATE_MINILM");
  const std::filesystem::path folder =
      named != nullptr ? std::filesystem::path(named)
                       : std::filesystem::path(OCTOGATE_MODELS) / "all-MiniLM-L6-v2";
  if (!std::filesystem::exists(folder / "model.safetensors")) {
    GTEST_SKIP() << folder << " holds no model; deploy/fetch-minilm.sh brings it";
  }
  std::ifstream file(std::filesystem::path(OCTOGATE_FIXTURES) / "minilm_golden.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  const auto loaded = LoadEncoder(folder, {.encoder = {.weight_format = GetParam().format}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->encoder->max_tokens(), 256);
  for (const nlohmann::json& text : golden["texts"]) {
    const auto ids = (*loaded)->EncodeText(text["text"].get<std::string>(), LongText::kRefuse);
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, text["ids"].get<std::vector<int32_t>>()) << text["text"];
    const auto vectors = (*loaded)->encoder->Embed({*ids}, absl::Now() + absl::Seconds(60));
    ASSERT_TRUE(vectors.ok()) << vectors.status();
    const double cosine = Cosine(vectors->front(), text["vector"].get<std::vector<float>>());
    EXPECT_GT(cosine, GetParam().least_cosine) << text["text"];
    RecordProperty("cosine", std::to_string(cosine));
  }
}

}  // namespace
}  // namespace octogate::workers

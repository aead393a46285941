// Models with weights in every format: still the same bits whatever the batch and the chunks, and
// at a stated distance from the model as it is stored.
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference_backend.h"
#include "nlohmann/json.hpp"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/generate.h"
#include "workers/engine/transformer.h"

namespace octogate::workers {
namespace {

using kernels::WeightFormat;

// Root mean square of the difference of all logits, divided by that of the logits. The prompts are
// fixed. Measured at most 0.011, 0.052, 0.050, 0.47 and 0.16 (the property "distance" of the tests'
// report); the fixtures' weights are random, so that errors are large against what they disturb.
const std::map<WeightFormat, double> kDistance = {{WeightFormat::kBf16, 0.02},
                                                  {WeightFormat::kInt8, 0.1},
                                                  {WeightFormat::kInt8Group, 0.1},
                                                  {WeightFormat::kInt4Group, 0.6},
                                                  {WeightFormat::kFp8, 0.25}};

class WeightFormatTest : public ::testing::TestWithParam<std::tuple<std::string, WeightFormat>> {
 protected:
  void SetUp() override {
    checkpoint_ = OpenCheckpoint(FixturePath(std::get<0>(GetParam())));
    ASSERT_NE(checkpoint_, nullptr);
  }

  std::unique_ptr<Transformer> Load(kernels::Backend* backend, WeightFormat format) {
    auto transformer =
        Transformer::Load(checkpoint_, backend, {.max_rows = 300, .max_logit_rows = 300}, format);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    return transformer.ok() ? *std::move(transformer) : nullptr;
  }

  // The logits of all positions of `ids`, in passes of `chunk` rows, alone or beside a second
  // sequence of the same tokens.
  std::vector<float> Logits(Transformer& transformer, const std::vector<int32_t>& ids, int chunk,
                            bool beside) {
    const int length = static_cast<int>(ids.size());
    const auto vocab_size = static_cast<size_t>(transformer.config().vocab_size);
    constexpr int kPageSize = 16;
    const int pages = (length + kPageSize - 1) / kPageSize;
    auto cache = transformer.CreateKvCache(2 * pages, kPageSize, kernels::DType::kF32);
    EXPECT_TRUE(cache.ok()) << cache.status();
    std::vector<int32_t> own(static_cast<size_t>(pages));
    std::vector<int32_t> others(own.size());
    for (int i = 0; i < pages; ++i) {
      own[static_cast<size_t>(i)] = 2 * i + 1;
      others[static_cast<size_t>(i)] = 2 * i;
    }
    const RopeRange range = RopeRangeForLength(transformer.config(), length);
    std::vector<float> all;
    for (int first = 0; first < length; first += chunk) {
      const int rows = std::min(chunk, length - first);
      std::vector<int32_t> step_ids(ids.begin() + first, ids.begin() + first + rows);
      std::vector<StepSequence> sequences{
          {.row_count = rows, .first_position = first, .pages = own, .rope_range = range}};
      if (beside) {
        step_ids.insert(step_ids.begin(), ids.begin() + first, ids.begin() + first + rows);
        sequences.insert(
            sequences.begin(),
            {.row_count = rows, .first_position = first, .pages = others, .rope_range = range});
      }
      std::vector<int32_t> logit_rows;
      for (int i = 0; i < rows; ++i)
        logit_rows.push_back(static_cast<int>(step_ids.size()) - rows + i);
      std::vector<float> logits(static_cast<size_t>(rows) * vocab_size);
      transformer.Forward({.ids = step_ids, .sequences = sequences, .logit_rows = logit_rows},
                          **cache, logits, {});
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
};

void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

TEST_P(WeightFormatTest, LogitsDoNotDependOnBatchChunksThreadsOrBackend) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const WeightFormat format = std::get<1>(GetParam());
  const int length =
      2 + static_cast<int>(random() % static_cast<uint32_t>(std::min(
                                          100, checkpoint_->config().max_position_embeddings - 2)));
  const auto ids = RandomIds(random, length, checkpoint_->config().vocab_size);
  const auto reference = kernels::MakeReferenceBackend();
  const auto whole = Logits(*Load(reference.get(), format), ids, length, false);
  for (const int threads : {1, 2}) {
    const auto backend = kernels::MakeCpuBackend({.threads = threads});
    const auto transformer = Load(backend.get(), format);
    ExpectSameBits(Logits(*transformer, ids, length, false), whole);
    ExpectSameBits(Logits(*transformer, ids, length, true), whole);
    ExpectSameBits(Logits(*transformer, ids, 1, true), whole);
    ExpectSameBits(Logits(*transformer, ids, 1 + static_cast<int>(random() % 40), false), whole);
  }
}

TEST_P(WeightFormatTest, LogitsAreNearThoseOfTheStoredWeights) {
  const WeightFormat format = std::get<1>(GetParam());
  std::ifstream file(FixturePath(std::get<0>(GetParam())) / "expected.json");
  const nlohmann::json expected = nlohmann::json::parse(file);
  const auto backend = kernels::MakeCpuBackend({.threads = 2});
  const auto stored = Load(backend.get(), WeightFormat::kStored);
  const auto transformer = Load(backend.get(), format);
  double squares = 0;
  double errors = 0;
  for (const auto& prompt : expected["logits"]) {
    const auto ids = prompt["ids"].get<std::vector<int32_t>>();
    const int length = static_cast<int>(ids.size());
    const auto exact = Logits(*stored, ids, std::min(length, 300), false);
    const auto rounded = Logits(*transformer, ids, std::min(length, 300), false);
    for (size_t i = 0; i < exact.size(); ++i) {
      squares += static_cast<double>(exact[i]) * exact[i];
      errors += std::pow(static_cast<double>(exact[i]) - rounded[i], 2);
    }
  }
  const double distance = std::sqrt(errors / squares);
  RecordProperty("distance", std::to_string(distance));
  EXPECT_LE(distance, kDistance.at(format));
}

TEST_P(WeightFormatTest, MemoryIsPlannedAndTheErrorIsReported) {
  const WeightFormat format = std::get<1>(GetParam());
  const auto backend = kernels::MakeCpuBackend({.threads = 2});
  const auto transformer = Load(backend.get(), format);
  const WeightReport& report = transformer->weight_report();
  EXPECT_EQ(report.format, format);
  // What is not a matrix, or is read as an embedding, comes on top.
  EXPECT_GE(Transformer::WeightBytes(*checkpoint_, *backend, format), report.bytes);
  if (kernels::IsQuantized(format)) {
    EXPECT_GT(report.mean_error, 0);
    EXPECT_GE(report.worst_error, report.mean_error);
    EXPECT_LT(report.worst_error, format == WeightFormat::kInt4Group ? 0.2 : 0.05);
    EXPECT_FALSE(report.worst_matrix.empty());
    EXPECT_LT(report.bytes, Load(backend.get(), WeightFormat::kStored)->weight_report().bytes);
  }
}

TEST_P(WeightFormatTest, AnswersTogetherAreAnswersAlone) {
  const std::filesystem::path folder = FixturePath(std::get<0>(GetParam()));
  EngineOptions options;
  options.weight_format = std::get<1>(GetParam());
  options.max_rows_per_step = 32;
  const auto engine = MakeEngine(folder, options, 2);
  ASSERT_NE(engine, nullptr);
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  std::vector<GenerateRequest> requests(4);
  std::vector<std::vector<int32_t>> alone;
  for (GenerateRequest& request : requests) {
    request.prompt =
        RandomIds(random, 1 + static_cast<int>(random() % 30), engine->config().vocab_size);
    request.max_tokens = 8;
    request.ignore_eos = true;
    const auto answer = Generate(*engine, request);
    ASSERT_TRUE(answer.ok()) << answer.status();
    alone.push_back(answer->ids);
  }
  std::vector<std::thread> threads;
  for (size_t i = 0; i < requests.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto answer = Generate(*engine, requests[i]);
      ASSERT_TRUE(answer.ok()) << answer.status();
      EXPECT_EQ(answer->ids, alone[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

std::vector<std::string> Fixtures() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath(""))) {
    if (std::filesystem::exists(entry.path() / "expected.json")) {
      names.push_back(entry.path().filename());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(
    Fixtures, WeightFormatTest,
    ::testing::Combine(::testing::ValuesIn(Fixtures()),
                       ::testing::Values(WeightFormat::kBf16, WeightFormat::kInt8,
                                         WeightFormat::kInt8Group, WeightFormat::kInt4Group,
                                         WeightFormat::kFp8)),
    [](const auto& info) {
      std::string name = std::get<0>(info.param) + "_" + kernels::Name(std::get<1>(info.param));
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

}  // namespace
}  // namespace octogate::workers

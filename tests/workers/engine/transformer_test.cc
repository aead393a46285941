// Every family against what Hugging Face transformers computed, and against itself cut differently.
#include "workers/engine/transformer.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/reference_backend.h"
#include "nlohmann/json.hpp"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/generate.h"

namespace octogate::workers {
namespace {

using Json = nlohmann::json;

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

struct Cut {
  int page_size = 16;
  std::vector<int> chunks;  // rows of each pass; what is left comes as one more
  kernels::DType kv_dtype = kernels::DType::kF32;
};

// The logits of every position of `ids`, and keys and values left in a cache of their own.
std::vector<float> ComputeLogits(std::shared_ptr<const Checkpoint> checkpoint,
                                 kernels::Backend* backend, const std::vector<int32_t>& ids,
                                 const Cut& cut) {
  const ModelConfig& config = checkpoint->config();
  const int length = static_cast<int>(ids.size());
  auto transformer =
      Transformer::Load(checkpoint, backend, {.max_rows = length, .max_logit_rows = length});
  EXPECT_TRUE(transformer.ok()) << transformer.status();
  const int pages = (length + cut.page_size - 1) / cut.page_size;
  auto cache = (*transformer)->CreateKvCache(pages + 3, cut.page_size, cut.kv_dtype);
  EXPECT_TRUE(cache.ok()) << cache.status();
  std::vector<int32_t> page_ids;  // in no particular order
  for (int i = 0; i < pages; ++i) page_ids.push_back((i * 7 + 3) % (pages + 3));
  std::sort(page_ids.begin(), page_ids.end());
  page_ids.erase(std::unique(page_ids.begin(), page_ids.end()), page_ids.end());
  for (int32_t id = 0; static_cast<int>(page_ids.size()) < pages; ++id) {
    if (std::find(page_ids.begin(), page_ids.end(), id) == page_ids.end()) page_ids.push_back(id);
  }
  std::reverse(page_ids.begin(), page_ids.end());

  std::vector<float> all;
  std::vector<int> chunks = cut.chunks;
  chunks.push_back(length);
  int position = 0;
  for (int chunk : chunks) {
    const int rows = std::min(chunk, length - position);
    if (rows <= 0) break;
    std::vector<int32_t> logit_rows(static_cast<size_t>(rows));
    for (int i = 0; i < rows; ++i) logit_rows[static_cast<size_t>(i)] = i;
    const StepSequence sequence{.row_count = rows,
                                .first_position = position,
                                .pages = page_ids,
                                .rope_range = RopeRangeForLength(config, length)};
    std::vector<float> logits(static_cast<size_t>(rows) * static_cast<size_t>(config.vocab_size));
    (*transformer)
        ->Forward({.ids = std::span(ids).subspan(static_cast<size_t>(position),
                                                 static_cast<size_t>(rows)),
                   .sequences = {&sequence, 1},
                   .logit_rows = logit_rows},
                  **cache, logits, {});
    all.insert(all.end(), logits.begin(), logits.end());
    position += rows;
  }
  return all;
}

void ExpectSameBits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

class FamilyTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::ifstream file(FixturePath(GetParam()) / "expected.json");
    expected_ = Json::parse(file);
    checkpoint_ = OpenCheckpoint(FixturePath(GetParam()));
    ASSERT_NE(checkpoint_, nullptr);
  }

  Json expected_;
  std::shared_ptr<const Checkpoint> checkpoint_;
};

TEST_P(FamilyTest, LogitsAreThoseOfTransformers) {
  const auto vocab_size = static_cast<size_t>(checkpoint_->config().vocab_size);
  const auto backend = kernels::MakeCpuBackend({.threads = 2});
  for (const Json& prompt : expected_["logits"]) {
    const auto ids = prompt["ids"].get<std::vector<int32_t>>();
    SCOPED_TRACE(ids.size());
    const std::vector<float> logits = ComputeLogits(checkpoint_, backend.get(), ids, {});
    const auto last = prompt["last"].get<std::vector<float>>();
    ASSERT_EQ(last.size(), vocab_size);
    float largest = 0;
    for (float value : last) largest = std::max(largest, std::abs(value));
    const float tolerance = 1e-4f * largest;
    for (size_t id = 0; id < vocab_size; ++id) {
      ASSERT_NEAR(logits[(ids.size() - 1) * vocab_size + id], last[id], tolerance) << id;
    }
    const auto positions = prompt["positions"].get<std::vector<size_t>>();
    const auto indexes = prompt["indexes"].get<std::vector<size_t>>();
    for (size_t p = 0; p < positions.size(); ++p) {
      const auto values = prompt["values"][p].get<std::vector<float>>();
      for (size_t i = 0; i < indexes.size(); ++i) {
        ASSERT_NEAR(logits[positions[p] * vocab_size + indexes[i]], values[i], tolerance)
            << "position " << positions[p] << ", token " << indexes[i];
      }
    }
  }
}

TEST_P(FamilyTest, GreedyAnswersAreThoseOfTransformersAloneAndTogether) {
  for (int together : {0, 1}) {
    EngineOptions options;
    options.max_rows_per_step = 64;
    options.page_size = 8;
    const auto engine = MakeEngine(FixturePath(GetParam()), options, 2);
    ASSERT_NE(engine, nullptr);
    std::vector<std::thread> threads;
    for (const Json& greedy : expected_["greedy"]) {
      const auto run = [&engine, &greedy] {
        GenerateRequest request;
        request.prompt = greedy["prompt"].get<std::vector<int32_t>>();
        const auto ids = greedy["ids"].get<std::vector<int32_t>>();
        request.max_tokens = static_cast<int>(ids.size());
        request.ignore_eos = true;
        const auto answer = Generate(*engine, request);
        ASSERT_TRUE(answer.ok()) << answer.status();
        EXPECT_EQ(answer->ids, ids) << "prompt of " << request.prompt.size() << " tokens";
      };
      if (together == 0) {
        run();
      } else {
        threads.emplace_back(run);
      }
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST_P(FamilyTest, LogitsDoNotDependOnChunksPagesThreadsOrBackend) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const auto reference = kernels::MakeReferenceBackend();
  for (int trial = 0; trial < 4; ++trial) {
    const int longest = std::min(checkpoint_->config().max_position_embeddings, 300);
    const int length = 1 + static_cast<int>(random() % static_cast<uint32_t>(longest));
    const auto ids = RandomIds(random, length, checkpoint_->config().vocab_size);
    const std::vector<float> whole = ComputeLogits(checkpoint_, reference.get(), ids, {});
    for (int threads : {1, 2, 3}) {
      const auto backend = kernels::MakeCpuBackend({.threads = threads});
      Cut cut;
      cut.page_size = 1 + static_cast<int>(random() % 20);
      for (int i = 0; i < 30; ++i) cut.chunks.push_back(1 + static_cast<int>(random() % 20));
      SCOPED_TRACE(testing::Message() << length << " tokens, " << threads << " threads");
      ExpectSameBits(ComputeLogits(checkpoint_, backend.get(), ids, cut), whole);
    }
  }
}

// A copy of a checkpoint of F32 weights in which the key and up projections have values of BF16:
// written as such where `narrow`, so that they are other than the matrices that they go with.
void WriteCopy(const std::filesystem::path& from, bool narrow, const std::filesystem::path& to) {
  std::filesystem::create_directories(to);
  std::filesystem::copy_file(from / "config.json", to / "config.json",
                             std::filesystem::copy_options::overwrite_existing);
  std::ifstream file(from / "model.safetensors", std::ios::binary);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), sizeof length);
  std::string text(length, ' ');
  file.read(text.data(), static_cast<std::streamsize>(length));
  const std::string data(std::istreambuf_iterator<char>(file), {});
  Json header = Json::parse(text);
  std::string written;
  for (auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    ASSERT_EQ(tensor["dtype"], "F32");
    const auto begin = tensor["data_offsets"][0].get<size_t>();
    std::string bytes = data.substr(begin, tensor["data_offsets"][1].get<size_t>() - begin);
    if (name.find("k_proj") != name.npos || name.find("up_proj") != name.npos) {
      std::string cut;  // the upper halves, with zeros or without
      for (size_t i = 0; i < bytes.size(); i += 4) {
        if (!narrow) cut.append(2, '\0');
        cut.append(bytes, i + 2, 2);
      }
      bytes = cut;
      if (narrow) tensor["dtype"] = "BF16";
    }
    tensor["data_offsets"] = {written.size(), written.size() + bytes.size()};
    written += bytes;
  }
  text = header.dump();
  length = text.size();
  std::ofstream out(to / "model.safetensors", std::ios::binary);
  out.write(reinterpret_cast<const char*>(&length), sizeof length);
  out << text << written;
}

// Projections of the same input are one product, or several where their types differ; with norms of
// heads and without.
TEST(JoinedProjectionsTest, ChangeNoBit) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  for (const std::string name : {"llama", "qwen3"}) {
    SCOPED_TRACE(name);
    const std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) / ("projections_" + name);
    std::vector<int32_t> ids;
    std::vector<std::vector<float>> logits;
    for (const bool narrow : {false, true}) {
      WriteCopy(FixturePath(name), narrow, folder);
      if (testing::Test::HasFatalFailure()) return;
      const auto checkpoint = OpenCheckpoint(folder);
      ASSERT_NE(checkpoint, nullptr);
      const LayerWeights& layer = checkpoint->weights().layers[0];
      EXPECT_EQ(layer.k_proj.dtype == layer.q_proj.dtype, !narrow);
      EXPECT_EQ(layer.up_proj.dtype == layer.gate_proj.dtype, !narrow);
      if (ids.empty()) ids = RandomIds(random, 40, checkpoint->config().vocab_size);
      const auto backend = kernels::MakeCpuBackend({.threads = 2});
      logits.push_back(ComputeLogits(checkpoint, backend.get(), ids, {.chunks = {7}}));
    }
    ExpectSameBits(logits[0], logits[1]);
    std::filesystem::remove_all(folder);
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, FamilyTest, ::testing::ValuesIn(Fixtures()),
                         [](const auto& info) { return info.param; });

// Were the folder empty, nothing above would run and nothing would say so.
TEST(FixturesTest, AreThere) { EXPECT_GE(Fixtures().size(), 8u); }

}  // namespace
}  // namespace octogate::workers

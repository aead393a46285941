// Every family end to end on the CUDA backend: the reference's logits, and the
// same bits for sequences alone and together, whole and in chunks. Emulated, or
// on the GPU where one answers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/reference/reference_backend.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/transformer.h"

namespace octogate::workers {
namespace {

constexpr int kPageSize = 4;

std::vector<std::string> Families() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(FixturePath(""))) {
    if (std::filesystem::exists(entry.path() / "expected.json")) {
      names.push_back(entry.path().filename());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Steps of some sequences through one transformer and one cache.
class Runner {
 public:
  Runner(std::shared_ptr<const Checkpoint> checkpoint, kernels::Backend* backend,
         std::vector<std::vector<int32_t>> prompts)
      : config_(checkpoint->config()), prompts_(std::move(prompts)), done_(prompts_.size()) {
    int rows = 0;
    int pages = 0;
    for (const auto& prompt : prompts_) {
      rows += static_cast<int>(prompt.size());
      std::vector<int32_t> own(prompt.size() / kPageSize + 1);
      for (int32_t& page : own) page = pages++;
      pages_.push_back(own);
    }
    logits_.resize(prompts_.size());
    auto transformer = Transformer::Load(std::move(checkpoint), backend,
                                         {.max_rows = rows, .max_logit_rows = rows});
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    transformer_ = *std::move(transformer);
    auto cache = transformer_->CreateKvCache(pages, kPageSize, kernels::DType::kBF16);
    EXPECT_TRUE(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
  }

  // Goes on with `rows` tokens of every prompt that has them left.
  void Step(size_t rows) {
    std::vector<int32_t> ids;
    std::vector<StepSequence> sequences;
    for (size_t s = 0; s < prompts_.size(); ++s) {
      const size_t count = std::min(rows, prompts_[s].size() - done_[s]);
      if (count == 0) continue;
      const auto begin = prompts_[s].begin() + static_cast<std::ptrdiff_t>(done_[s]);
      ids.insert(ids.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
      sequences.push_back(
          {.row_count = static_cast<int>(count),
           .first_position = static_cast<int>(done_[s]),
           .pages = pages_[s],
           .rope_range = RopeRangeForLength(config_, static_cast<int>(prompts_[s].size()))});
    }
    std::vector<int32_t> logit_rows(ids.size());
    for (size_t i = 0; i < ids.size(); ++i) logit_rows[i] = static_cast<int32_t>(i);
    const auto vocab_size = static_cast<size_t>(config_.vocab_size);
    std::vector<float> logits(ids.size() * vocab_size);
    transformer_->Forward({.ids = ids, .sequences = sequences, .logit_rows = logit_rows}, *cache_,
                          logits, {});
    auto from = logits.begin();
    for (size_t s = 0; s < prompts_.size(); ++s) {
      const size_t count = std::min(rows, prompts_[s].size() - done_[s]);
      const auto end = from + static_cast<std::ptrdiff_t>(count * vocab_size);
      logits_[s].insert(logits_[s].end(), from, end);
      from = end;
      done_[s] += count;
    }
  }

  const std::vector<float>& logits(size_t sequence) const { return logits_[sequence]; }

 private:
  ModelConfig config_;
  std::vector<std::vector<int32_t>> prompts_;
  std::vector<size_t> done_;  // tokens of each prompt that are computed
  std::vector<std::vector<int32_t>> pages_;
  std::vector<std::vector<float>> logits_;
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<kernels::KvCache> cache_;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class CudaTransformerTest : public ::testing::TestWithParam<std::string> {};

TEST_P(CudaTransformerTest, LogitsAreTheReferencesAloneTogetherAndInChunks) {
  std::string problem;
  const auto backend = kernels::cuda::MakeBackend(0, &problem);
#ifdef OCTOGATE_CUDA_EMULATED
  ASSERT_NE(backend, nullptr) << problem;
#else
  if (backend == nullptr) GTEST_SKIP() << problem;
#endif
  const auto checkpoint = OpenCheckpoint(FixturePath(GetParam()));
  ASSERT_NE(checkpoint, nullptr);
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  const std::vector<std::vector<int32_t>> prompts = {
      RandomIds(random, 11, checkpoint->config().vocab_size),
      RandomIds(random, 5, checkpoint->config().vocab_size)};

  const auto reference = kernels::MakeReferenceBackend();
  Runner expected(checkpoint, reference.get(), prompts);
  expected.Step(prompts[0].size());
  Runner together(checkpoint, backend.get(), prompts);
  together.Step(prompts[0].size());
  Runner chunks(checkpoint, backend.get(), prompts);
  for (int step = 0; step < 6; ++step) chunks.Step(2);
  for (size_t s = 0; s < prompts.size(); ++s) {
    Runner alone(checkpoint, backend.get(), {prompts[s]});
    alone.Step(prompts[s].size());
    EXPECT_TRUE(SameBits(together.logits(s), alone.logits(0))) << "sequence " << s;
    EXPECT_TRUE(SameBits(together.logits(s), chunks.logits(s))) << "sequence " << s;
    EXPECT_TRUE(SameBits(together.logits(s), expected.logits(s))) << "sequence " << s;
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, CudaTransformerTest, ::testing::ValuesIn(Families()),
                         [](const auto& info) { return info.param; });

TEST(CudaFixturesTest, AreThere) { EXPECT_GE(Families().size(), 8u); }

}  // namespace
}  // namespace octogate::workers

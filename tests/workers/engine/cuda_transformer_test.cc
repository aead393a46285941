// Every family end to end on the CUDA backend: the reference's logits (their bits
// where the weights are F32), and in every format of weights the same bits for
// sequences alone and together, whole and in chunks. Emulated, or on the GPU where
// one answers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <iterator>
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

// Of the largest logit, where weights are packed. A product is off by 2^-17 of its
// terms at most (kernels/cuda/matmul_layout.h), and these models of two layers have
// nine in a row, between which norms and softmax may enlarge what has gathered: by
// how much depends on the model. The most that was seen in 480 comparisons is
// 4.4e-5, a fortieth of this; a wrong index shows as a difference of the logits'
// own size.
constexpr float kTolerance = 0x1p-9f;

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
         std::vector<std::vector<int32_t>> prompts, kernels::DType cache_type,
         kernels::WeightFormat format)
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
                                         {.max_rows = rows, .max_logit_rows = rows}, format);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    transformer_ = *std::move(transformer);
    auto cache = transformer_->CreateKvCache(pages, kPageSize, cache_type);
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

class CudaTransformerTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string problem;
    backend_ = kernels::cuda::MakeBackend({}, &problem);
#ifdef OCTOGATE_CUDA_EMULATED
    ASSERT_NE(backend_, nullptr) << problem;
#else
    if (backend_ == nullptr) GTEST_SKIP() << "NOT RUN: " << problem;
#endif
    checkpoint_ = OpenCheckpoint(FixturePath(GetParam()));
    ASSERT_NE(checkpoint_, nullptr);
    seed_ = FreshSeed();
    random_.seed(seed_);
    for (const int length : {11, 5}) {
      prompts_.push_back(RandomIds(random_, length, checkpoint_->config().vocab_size));
    }
  }

  bool HasF32() const { return checkpoint_->weights().embed_tokens.dtype == DType::kF32; }
  // Rounding keys and values to BF16 would turn the last bits of packed products
  // into differences of 2^-9.
  kernels::DType CacheType() const {
    return HasF32() ? kernels::DType::kBF16 : kernels::DType::kF32;
  }

  // Logits of all prompts in one step, once they are seen to be the same alone and
  // in chunks.
  std::vector<std::vector<float>> Logits(kernels::WeightFormat format) {
    Runner together(checkpoint_, backend_.get(), prompts_, CacheType(), format);
    together.Step(prompts_[0].size());
    Runner chunks(checkpoint_, backend_.get(), prompts_, CacheType(), format);
    for (int step = 0; step < 6; ++step) chunks.Step(2);
    std::vector<std::vector<float>> logits;
    for (size_t s = 0; s < prompts_.size(); ++s) {
      Runner alone(checkpoint_, backend_.get(), {prompts_[s]}, CacheType(), format);
      alone.Step(prompts_[s].size());
      EXPECT_TRUE(SameBits(together.logits(s), alone.logits(0))) << "sequence " << s;
      EXPECT_TRUE(SameBits(together.logits(s), chunks.logits(s))) << "sequence " << s;
      logits.push_back(together.logits(s));
    }
    return logits;
  }

  std::unique_ptr<kernels::Backend> backend_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  uint32_t seed_ = 0;
  std::mt19937 random_;
  std::vector<std::vector<int32_t>> prompts_;
};

TEST_P(CudaTransformerTest, LogitsAreTheReferencesAloneTogetherAndInChunks) {
  SCOPED_TRACE(DescribeSeed(seed_));
  const auto logits = Logits(kernels::WeightFormat::kStored);
  const auto reference = kernels::MakeReferenceBackend();
  Runner expected(checkpoint_, reference.get(), prompts_, CacheType(),
                  kernels::WeightFormat::kStored);
  expected.Step(prompts_[0].size());
  for (size_t s = 0; s < prompts_.size(); ++s) {
    if (HasF32()) {
      EXPECT_TRUE(SameBits(logits[s], expected.logits(s))) << "sequence " << s;
      continue;
    }
    float largest = 0;
    float difference = 0;
    ASSERT_EQ(logits[s].size(), expected.logits(s).size());
    for (size_t i = 0; i < logits[s].size(); ++i) {
      ASSERT_TRUE(std::isfinite(logits[s][i]));
      largest = std::max(largest, std::fabs(expected.logits(s)[i]));
      difference = std::max(difference, std::fabs(expected.logits(s)[i] - logits[s][i]));
    }
    EXPECT_LE(difference, kTolerance * largest) << "sequence " << s;
  }
}

// One format for each run of each family; the next run draws others.
TEST_P(CudaTransformerTest, LogitsAreTheSameInAnyCompanyWithLoadedFormats) {
  SCOPED_TRACE(DescribeSeed(seed_));
  constexpr int kFormats = std::size(kernels::kWeightFormats);
  const kernels::WeightFormat format =
      kernels::kWeightFormats[std::uniform_int_distribution<int>(1, kFormats - 1)(random_)];
  SCOPED_TRACE(kernels::Name(format));
  for (const auto& logits : Logits(format)) {
    EXPECT_TRUE(
        std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }));
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, CudaTransformerTest, ::testing::ValuesIn(Families()),
                         [](const auto& info) { return info.param; });

TEST(CudaFixturesTest, AreThere) { EXPECT_GE(Families().size(), 8u); }

}  // namespace
}  // namespace octogate::workers

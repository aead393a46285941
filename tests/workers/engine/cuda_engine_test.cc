// Whole answers on the CUDA backend, which ranks logits on the device and hands over whole rows
// only where a sampler needs them: with F32 weights and keys the tokens that the CPU chooses, for
// all kinds of sampling at once. Emulated, or on the GPU where one answers.
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_models.h"

namespace octogate::workers {
namespace {

std::vector<GenerateRequest> RandomRequests(std::mt19937& random, int vocab_size) {
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 9; ++i) {
    GenerateRequest request;
    request.prompt = RandomIds(random, 1 + static_cast<int>(random() % 12), vocab_size);
    request.max_tokens = 6;
    request.ignore_eos = true;
    SamplingParameters& sampling = request.sampling;
    sampling.seed = random();
    sampling.temperature = i % 3 == 0 ? 0 : 0.8f;
    if (i == 1) sampling.top_k = 5;
    if (i == 2) sampling.top_p = 0.7f;
    if (i == 4) sampling.min_p = 0.3f;
    if (i == 5) sampling.logprobs = 2;
    if (i == 6) sampling.repetition_penalty = 1.3f;
    requests.push_back(std::move(request));
  }
  return requests;
}

TEST(CudaEngineTest, ChoosesTheTokensThatTheCpuChooses) {
  const uint32_t seed = FreshSeed();
  SCOPED_TRACE(DescribeSeed(seed));
  std::mt19937 random(seed);
  std::string problem;
  std::unique_ptr<kernels::Backend> backend = kernels::cuda::MakeBackend({}, &problem);
#ifdef OCTOGATE_CUDA_EMULATED
  ASSERT_NE(backend, nullptr) << problem;
#else
  if (backend == nullptr) GTEST_SKIP() << problem;
#endif
  const auto folder = FixturePath("llama");
  EngineOptions options;
  options.max_sequences = 4;
  options.max_rows_per_step = 16;
  options.page_size = 4;
  options.kv_tokens = 160;
  const auto expected = MakeEngine(folder, options);
  ASSERT_NE(expected, nullptr);
  const auto checkpoint = OpenCheckpoint(folder);
  const auto requests = RandomRequests(random, checkpoint->config().vocab_size);
  const kernels::Backend& counted = *backend;
  auto engine = Engine::Create(checkpoint, OpenTokenizer(folder), std::move(backend), options);
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto answers = RunAll(**engine, requests, true);
  ExpectSameAnswers(answers, RunAll(*expected, requests, false));
  EXPECT_GT(kernels::cuda::StepCountersOf(counted).replayed, 0u);
}

}  // namespace
}  // namespace octogate::workers

// Whole answers on the CUDA backend, which ranks and draws on the device and hands over whole rows
// only where a sampler needs them: with F32 weights and keys the tokens that the CPU chooses, for
// all kinds of sampling at once. Emulated, or on the GPU where one answers.
#include <cmath>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/cuda_backend.h"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/run_requests.h"
#include "tests/workers/engine/test_drafters.h"
#include "tests/workers/engine/test_models.h"
#include "workers/engine/step_probe.h"
#include "workers/engine/transformer.h"
#include "workers/engine/weight_loader.h"
#ifdef OCTOGATE_CUDA_EMULATED
#include "tests/kernels/cuda/emulation.h"
#endif

namespace octogate::workers {
namespace {

using ::testing::HasSubstr;

#ifdef OCTOGATE_CUDA_EMULATED
constexpr bool kEmulated = true;
// What grows with each piece of memory that is taken of the device.
uint64_t TakenOf(const kernels::Backend&) { return kernels::cuda::emulation::Allocations(); }
#else
constexpr bool kEmulated = false;
uint64_t TakenOf(const kernels::Backend& backend) { return ~*backend.FreeBytes(); }
#endif

std::vector<GenerateRequest> RandomRequests(std::mt19937& random, int vocab_size) {
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 11; ++i) {
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
    if (i == 6 || i == 7) sampling.repetition_penalty = 1.3f;
    if (i == 7 || i == 8) sampling.top_k = 9;
    if (i == 7 || i == 8 || i == 10) {
      sampling.temperature = 0.8f;
      sampling.presence_penalty = 0.5f;
      sampling.frequency_penalty = 0.3f;
      sampling.logit_bias = {{request.prompt[0], 1.5f}, {0, -INFINITY}};
    }
    requests.push_back(std::move(request));
  }
  requests[9].sampling.temperature = 1.5f;  // drawn from all, as 5 with logprobs and 10 with edits
  return requests;
}

class CudaEngineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string problem;
    backend_ = kernels::cuda::MakeBackend({}, &problem);
    if (backend_ == nullptr && !kEmulated) GTEST_SKIP() << "NOT RUN: " << problem;
    ASSERT_NE(backend_, nullptr) << problem;
  }

  int vocab_size() const { return checkpoint_->config().vocab_size; }
  // On the device, once.
  std::unique_ptr<Engine> MakeDeviceEngine(const EngineOptions& options,
                                           std::vector<std::unique_ptr<Drafter>> drafters = {}) {
    auto engine = Engine::Create(checkpoint_, OpenTokenizer(folder_), std::move(backend_), options,
                                 std::move(drafters));
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
  // What MeasureTransformer says of a model on the device.
  StepCost Measure(const StepProbeLimits& limits, int ranked) {
    auto transformer =
        Transformer::Load(checkpoint_, backend_.get(),
                          {.max_rows = limits.max_rows, .max_logit_rows = limits.max_sequences});
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    auto cache = (*transformer)->CreateKvCache(4, 4, kernels::DType::kF32);
    EXPECT_TRUE(cache.ok()) << cache.status();
    return MeasureTransformer(**transformer, **cache, limits, ranked, absl::Hours(1));
  }

  const uint32_t seed_ = FreshSeed();
  const ::testing::ScopedTrace trace_{__FILE__, __LINE__, DescribeSeed(seed_)};
  std::mt19937 random_{seed_};
  const std::filesystem::path folder_ = FixturePath("llama");
  const std::shared_ptr<const Checkpoint> checkpoint_ = OpenCheckpoint(folder_);
  std::unique_ptr<kernels::Backend> backend_;
};

TEST_F(CudaEngineTest, ChoosesTheTokensThatTheCpuChooses) {
  EngineOptions options;
  options.max_sequences = 4;
  options.max_rows_per_step = 16;
  options.page_size = 4;
  options.kv_tokens = 160;
  options.kv_dtype = kernels::DType::kF32;
  const auto expected = MakeEngine(folder_, options);
  ASSERT_NE(expected, nullptr);
  const auto requests = RandomRequests(random_, vocab_size());
  const kernels::Backend& counted = *backend_;
  const auto engine = MakeDeviceEngine(options);
  ASSERT_NE(engine, nullptr);
  const auto answers = RunAll(*engine, requests, true);
  ExpectSameAnswers(answers, RunAll(*expected, requests, false));
  EXPECT_GT(kernels::cuda::StepCountersOf(counted).replayed, 0u);
}

TEST_F(CudaEngineTest, SaysWhereAttentionIsSlow) {
  using kernels::DType;
  const kernels::AttentionShape shape{.heads = 32, .kv_heads = 8, .head_dim = 128};
  EXPECT_EQ(backend_->SlowAttention(shape, DType::kBF16), "");
  EXPECT_THAT(backend_->SlowAttention(shape, DType::kF16), HasSubstr("in F16; tensor cores take"));
  kernels::AttentionShape other = shape;
  other.head_dim = 80;
  EXPECT_THAT(backend_->SlowAttention(other, DType::kBF16), HasSubstr("32 heads of 80 values"));
  EngineOptions options;
  options.kv_tokens = 64;
  options.kv_dtype = DType::kF32;
  EXPECT_EQ(MakeEngine(folder_, options)->slow_attention(), "");
  std::string problem;
  const auto exact = kernels::cuda::MakeBackend({.exact_attention = true}, &problem);
  ASSERT_NE(exact, nullptr) << problem;
  EXPECT_THAT(exact->SlowAttention(shape, DType::kBF16), HasSubstr("the CPU's order"));
  EXPECT_THAT(MakeDeviceEngine(options)->slow_attention(), HasSubstr("in F32; tensor cores take"));
}

// On the device, where blocks of weights are larger than on the CPU; vectors count as stored.
TEST_F(CudaEngineTest, WeightsTakeWhatIsPlannedForThem) {
  for (const char* name : {"llama", "llama3", "qwen3"}) {
    const auto checkpoint = OpenCheckpoint(FixturePath(name));
    const ModelWeights& weights = checkpoint->weights();
    uint64_t vectors = checkpoint->weight_bytes() - weights.embed_tokens.size_bytes();
    const bool tied = weights.lm_head.data == weights.embed_tokens.data;
    if (!tied) vectors -= weights.lm_head.size_bytes();
    for (const LayerWeights& layer : weights.layers) {
      for (const WeightView& view : {layer.q_proj, layer.k_proj, layer.v_proj, layer.o_proj,
                                     layer.gate_proj, layer.up_proj, layer.down_proj}) {
        vectors -= view.size_bytes();
      }
    }
    for (const kernels::WeightFormat format : kernels::kWeightFormats) {
      const auto transformer = Transformer::Load(checkpoint, backend_.get(), {}, format);
      ASSERT_TRUE(transformer.ok()) << transformer.status();
      std::unique_ptr<kernels::Weight> table;
      WeightLoader loader(backend_.get(), format);
      loader.Table(weights.embed_tokens, table);
      ASSERT_TRUE(loader.status().ok()) << loader.status();
      const bool shared = tied && format == kernels::WeightFormat::kStored;
      EXPECT_EQ(Transformer::WeightBytes(*checkpoint, *backend_, format),
                (*transformer)->weight_report().bytes + vectors + (shared ? 0 : table->bytes))
          << name << " as " << kernels::Name(format);
    }
  }
}

TEST_F(CudaEngineTest, OtherNumericsShareNoPages) {
  std::set<std::string> descriptions;
  EngineOptions options;
  options.kv_tokens = 64;
  options.make_page_store = [&](const PageFormat& format) {
    descriptions.insert(format.description);
    return nullptr;
  };
  for (int twice = 0; twice < 2; ++twice) {
    for (const auto rounding :
         {kernels::cuda::InputRounding::kSplit, kernels::cuda::InputRounding::kRounded}) {
      for (const bool exact : {false, true}) {
        std::string problem;
        backend_ = kernels::cuda::MakeBackend(
            {.input_rounding = rounding, .exact_attention = exact}, &problem);
        ASSERT_NE(backend_, nullptr) << problem;
        ASSERT_NE(MakeDeviceEngine(options), nullptr);
      }
    }
  }
  EXPECT_EQ(descriptions.size(), 4u);
}

// Pages that leave the device while its kernels go on, and come back before they are read.
TEST_F(CudaEngineTest, SequencesThatWereSwappedOutAnswerAsOnTheCpu) {
  EngineOptions options;
  options.max_sequences = 4;
  options.max_rows_per_step = 16;
  options.page_size = 4;
  options.kv_tokens = 48;
  options.share_prefixes = false;
  options.kv_dtype = kernels::DType::kF32;
  auto requests = RandomRequests(random_, vocab_size());
  for (GenerateRequest& request : requests) request.max_tokens = 20;
  const auto expected = MakeEngine(folder_, options);
  ASSERT_NE(expected, nullptr);
  options.swap_bytes = uint64_t{1} << 20;
  const auto engine = MakeDeviceEngine(options);
  ASSERT_NE(engine, nullptr);
  ExpectSameAnswers(RunAll(*engine, requests, true), RunAll(*expected, requests, false));
  EXPECT_GT(engine->stats().preemptions_saved, 0u);
  EXPECT_GT(engine->stats().restored_tokens, 0u);
}

// Ranked on the device where the sampler needs no edits, copied row by row along the accepted path
// where it does.
TEST_F(CudaEngineTest, DraftsChangeNoAnswer) {
  EngineOptions options;
  options.max_sequences = 4;
  options.max_rows_per_step = 32;
  options.page_size = 4;
  options.kv_tokens = 160;
  options.kv_dtype = kernels::DType::kF32;
  const auto expected = MakeEngine(folder_, options);
  ASSERT_NE(expected, nullptr);
  auto requests = RandomRequests(random_, vocab_size());
  // The emulation of a step with drafts takes long where sanitizers look on.
  // Ranked, drawn with logprobs, ranked with edits.
  requests = {requests[1], requests[5], requests[8]};
  for (GenerateRequest& request : requests) request.max_tokens = 8;
  const auto answers = RunAll(*expected, requests, false);
  auto known = std::make_shared<KnownSequences>();
  for (size_t i = 0; i < requests.size(); ++i) {
    known->push_back(requests[i].prompt);
    known->back().insert(known->back().end(), answers[i].ids.begin(), answers[i].ids.end());
  }
  std::vector<std::unique_ptr<Drafter>> drafters;
  drafters.push_back(
      std::make_unique<TestDrafter>("full", Drafting::kFull, vocab_size(), random_(), known));
  options.max_draft_nodes = 12;
  options.verify_all_drafts = true;
  const auto engine = MakeDeviceEngine(options, std::move(drafters));
  ASSERT_NE(engine, nullptr);
  ExpectSameAnswers(RunAll(*engine, requests, true), answers);
  ASSERT_TRUE(engine->Drain(absl::Now() + kLong).ok());
  EXPECT_GT(engine->stats().speculation->tokens.accepted, 0);
}

// Of each shape the runs that count are the graph's alone.
TEST_F(CudaEngineTest, StepsAreMeasuredAsTheyRunInService) {
  const StepCost cost = Measure({.max_rows = 4, .max_sequences = 2, .max_context = 8}, 1);
  ASSERT_EQ(cost.rows.points().size(), 3u);
  ASSERT_EQ(cost.sequences.points().size(), 2u);
  constexpr uint64_t kShapes = 4;
  const kernels::cuda::StepCounters& counters = kernels::cuda::StepCountersOf(*backend_);
  EXPECT_EQ(counters.launched, kShapes);
  EXPECT_EQ(counters.captured, kShapes);
  EXPECT_GE(counters.replayed, 2 * kShapes);
}

#ifdef OCTOGATE_CUDA_EMULATED
// Steps are measured as most of them run: of each row the largest logits come to the host, not the
// row.
TEST_F(CudaEngineTest, StepsAreMeasuredWithTheirLogitsOnTheDevice) {
  constexpr int kRanked = 3;
  const uint64_t bytes_before = kernels::cuda::emulation::BytesToHost();
  Measure({.max_rows = 2, .max_context = 4}, kRanked);
  const kernels::cuda::StepCounters& counters = kernels::cuda::StepCountersOf(*backend_);
  const uint64_t steps = counters.launched + counters.captured + counters.replayed;
  EXPECT_GE(steps, 4u);
  constexpr size_t kRowBytes = kRanked * (sizeof(int32_t) + sizeof(float)) + 2 * sizeof(float);
  EXPECT_EQ(kernels::cuda::emulation::BytesToHost() - bytes_before, steps * kRowBytes);
}

// Of a token that is drawn from all logits, what comes to the host is the token and its logit.
TEST_F(CudaEngineTest, RowsThatAreDrawnFromStayOnTheDevice) {
  auto requests = RandomRequests(random_, vocab_size());
  requests = {requests[9], requests[9], requests[10]};
  requests[1].sampling.seed = random_();
  const auto engine = MakeDeviceEngine({.max_sequences = 4, .page_size = 4, .kv_tokens = 160});
  ASSERT_NE(engine, nullptr);
  const uint64_t bytes_before = kernels::cuda::emulation::BytesToHost();
  const auto answers = RunAll(*engine, requests, false);
  uint64_t tokens = 0;
  for (const auto& answer : answers) tokens += answer.ids.size();
  EXPECT_EQ(tokens, 18u);
  EXPECT_EQ(kernels::cuda::emulation::BytesToHost() - bytes_before,
            tokens * (sizeof(int32_t) + sizeof(float)));
}
#endif

// On a GPU that is of all of its memory, so that steps come again first: the runtime takes some for
// kernels when they run first and for graphs when they are made.
TEST_F(CudaEngineTest, TakesNoMemoryOfTheDeviceOnceItRuns) {
  const auto requests = RandomRequests(random_, vocab_size());
  const kernels::Backend& device = *backend_;
  const uint64_t at_first = TakenOf(device);
  const auto engine = MakeDeviceEngine({.max_sequences = 4,
                                        .max_rows_per_step = 16,
                                        .page_size = 4,
                                        .kv_tokens = 48,
                                        .swap_bytes = uint64_t{1} << 20});
  ASSERT_NE(engine, nullptr);
  constexpr bool kTogether = kEmulated;  // on a GPU one by one, in the same steps each time
  for (int i = 0; i < 4 && !kEmulated; ++i) RunAll(*engine, requests, kTogether);
  const uint64_t before = TakenOf(device);
  EXPECT_GT(before, at_first);
  RunAll(*engine, requests, kTogether);
  EXPECT_LE(TakenOf(device), before);
}

TEST_F(CudaEngineTest, KeysAndValuesAreInBf16WhereNothingElseIsAskedFor) {
  const EngineOptions options{.kv_tokens = 64};
  const auto device = Engine::Create(checkpoint_, nullptr, std::move(backend_), options);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ((*device)->stats().kv_dtype, kernels::DType::kBF16);
  const auto cpu = Engine::Create(checkpoint_, nullptr, kernels::MakeCpuBackend(), options);
  ASSERT_TRUE(cpu.ok()) << cpu.status();
  EXPECT_EQ((*cpu)->stats().kv_dtype, kernels::DType::kF32);
  EXPECT_EQ((*device)->stats().kv_bytes * 2, (*cpu)->stats().kv_bytes);
}

}  // namespace
}  // namespace octogate::workers

// A model as it runs on a GPU where nobody asks for anything else: BF16 weights packed for tensor
// cores, keys and values in BF16, heads of 64 values, so that attention runs on tensor cores too
// (the heads of tests/fixtures are too small for it). Logits are close to the reference's; prompts
// in chunks, trees and decoding steps of several sequences together have the bits that each has
// alone, and trees those of plain decoding; steps are replayed as graphs. Weights are random, with
// a fresh seed. Emulated, or on the GPU where one answers.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/tensor_attention.h"
#include "kernels/float16.h"
#include "kernels/reference/reference_backend.h"
#include "nlohmann/json.hpp"
#include "tests/workers/engine/fresh_seed.h"
#include "tests/workers/engine/test_models.h"
#include "tests/workers/model/test_folder.h"
#include "workers/engine/transformer.h"

namespace octogate::workers {
namespace {

constexpr int kHidden = 128;
constexpr int kHeads = 4;
constexpr int kKvHeads = 2;
constexpr int kHeadDim = 64;
constexpr int kIntermediate = 192;
constexpr int kLayers = 2;
constexpr int kVocabulary = 96;
constexpr int kPageSize = 16;
constexpr int kPages = 48;  // of a sequence
constexpr int kSequences = 3;
// Of a sequence after its tree. Each sequence comes to a further unit of attention at most once in
// them, so these steps are launched in at most 1 + kSequences ways, of each of which all runs but
// two are replays of a graph.
constexpr int kTokens = 12;
constexpr uint64_t kFewestReplays = kTokens - 2 * (1 + kSequences);

// Of the largest logit. Beside what packed products are off by (cuda_transformer_test.cc), a key or
// value that lies close to the middle between two BF16 is rounded to the other one, and off by 2^-8
// of itself. The most that was seen in 54 comparisons is 1.05e-3, a fifteenth of this.
constexpr float kTolerance = 0x1p-6f;

std::shared_ptr<const Checkpoint> RandomLlama(std::mt19937& random) {
  TestFolder folder;
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"hidden_size", kHidden},
                                 {"intermediate_size", kIntermediate},
                                 {"num_hidden_layers", kLayers},
                                 {"num_attention_heads", kHeads},
                                 {"num_key_value_heads", kKvHeads},
                                 {"head_dim", kHeadDim},
                                 {"vocab_size", kVocabulary},
                                 {"max_position_embeddings", kPages * kPageSize},
                                 {"rms_norm_eps", 1e-5},
                                 {"rope_theta", 10000.0},
                                 {"hidden_act", "silu"},
                                 {"tie_word_embeddings", false},
                                 {"torch_dtype", "bfloat16"}};
  folder.Write("config.json", config.dump());
  std::vector<TestTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, float mean,
                       float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    std::string data;
    for (int64_t i = 0; i < count; ++i) {
      const uint16_t bits = kernels::FloatToBFloat16(normal(random));
      data.push_back(static_cast<char>(bits & 0xFF));
      data.push_back(static_cast<char>(bits >> 8));
    }
    tensors.push_back({name, DType::kBF16, std::move(shape), std::move(data)});
  };
  const auto matrix = [&](const std::string& name, int rows, int cols, float gain = 1) {
    add(name, {rows, cols}, 0, gain / std::sqrt(static_cast<float>(cols)));
  };
  matrix("model.embed_tokens.weight", kVocabulary, kHidden, 8);
  matrix("lm_head.weight", kVocabulary, kHidden);
  add("model.norm.weight", {kHidden}, 1, 0.1f);
  for (int i = 0; i < kLayers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm.weight", {kHidden}, 1, 0.1f);
    add(layer + "post_attention_layernorm.weight", {kHidden}, 1, 0.1f);
    // So large that a row looks at some positions more than at others.
    matrix(layer + "self_attn.q_proj.weight", kHeads * kHeadDim, kHidden, 1.5f);
    matrix(layer + "self_attn.k_proj.weight", kKvHeads * kHeadDim, kHidden, 1.5f);
    matrix(layer + "self_attn.v_proj.weight", kKvHeads * kHeadDim, kHidden);
    matrix(layer + "self_attn.o_proj.weight", kHidden, kHeads * kHeadDim);
    matrix(layer + "mlp.gate_proj.weight", kIntermediate, kHidden);
    matrix(layer + "mlp.up_proj.weight", kIntermediate, kHidden);
    matrix(layer + "mlp.down_proj.weight", kHidden, kIntermediate);
  }
  folder.Write("model.safetensors", BuildSafetensors(tensors));
  return OpenCheckpoint(folder.path());
}

// What becomes of one sequence: its prompt in two chunks, a tree of which one path is kept, and
// tokens one by one.
struct Script {
  std::vector<int32_t> prompt;
  int cut = 0;
  std::vector<int32_t> tree;
  std::vector<kernels::AncestorMask> masks;
  std::vector<int32_t> path;
  std::vector<int32_t> tokens;
};

Script RandomScript(std::mt19937& random, int prompt_length, int tree_rows) {
  Script script;
  script.prompt = RandomIds(random, prompt_length, kVocabulary);
  script.cut = static_cast<int>(random() % static_cast<uint32_t>(prompt_length));
  script.tree = RandomIds(random, tree_rows, kVocabulary);
  std::vector<std::vector<int32_t>> paths;
  for (int row = 0; row < tree_rows; ++row) {
    kernels::AncestorMask mask;
    std::vector<int32_t> path;
    if (row > 0) {
      const size_t parent = random() % static_cast<uint32_t>(row);
      mask = script.masks[parent];
      path = paths[parent];
    }
    mask.words[0] |= uint64_t{1} << row;
    path.push_back(row);
    script.masks.push_back(mask);
    paths.push_back(path);
  }
  script.path = paths[random() % paths.size()];
  script.tokens = RandomIds(random, kTokens, kVocabulary);
  return script;
}

// Logits of a sequence: of the last row of its prompt, of its tree (or of the kept path alone,
// where that was decoded plainly), and of its tokens.
struct Logits {
  std::vector<float> prompt, tree, tokens;
};

class Model {
 public:
  Model(const std::shared_ptr<const Checkpoint>& checkpoint, kernels::Backend* backend) {
    constexpr int kMaxRows = kSequences * kPages * kPageSize;
    auto transformer =
        Transformer::Load(checkpoint, backend, {.max_rows = kMaxRows, .max_logit_rows = kMaxRows});
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    transformer_ = *std::move(transformer);
    auto cache = transformer_->CreateKvCache(kSequences * kPages, kPageSize, kernels::DType::kBF16);
    EXPECT_TRUE(cache.ok()) << cache.status();
    cache_ = *std::move(cache);
    for (int s = 0; s < kSequences; ++s) {
      for (int p = 0; p < kPages; ++p) pages_[s].push_back(p * kSequences + s);
    }
  }

  // All scripts together; trees as trees, or their kept paths token by token.
  std::vector<Logits> Run(const std::vector<Script>& scripts, bool trees) {
    std::vector<Logits> logits(scripts.size());
    std::vector<int> lengths(scripts.size(), 0);
    // The ids that each has next; logits of the last of them, or of all.
    const auto step = [&](const auto& rows_of, bool all, const auto& to, bool tree) {
      std::vector<int32_t> ids;
      std::vector<int32_t> logit_rows;
      std::vector<StepSequence> sequences;
      std::vector<size_t> counts(scripts.size());
      for (size_t s = 0; s < scripts.size(); ++s) {
        const std::vector<int32_t> own = rows_of(scripts[s]);
        if (own.empty()) continue;
        sequences.push_back({.row_count = static_cast<int>(own.size()),
                             .first_position = lengths[s],
                             .pages = pages_[s]});
        if (tree) sequences.back().ancestors = scripts[s].masks;
        for (size_t i = 0; i < own.size(); ++i) {
          if (all || i + 1 == own.size()) {
            logit_rows.push_back(static_cast<int32_t>(ids.size() + i));
            counts[s] += kVocabulary;
          }
        }
        ids.insert(ids.end(), own.begin(), own.end());
        if (!tree) lengths[s] += static_cast<int>(own.size());
      }
      if (ids.empty()) return;
      std::vector<float> values(logit_rows.size() * kVocabulary);
      transformer_->Forward({.ids = ids, .sequences = sequences, .logit_rows = logit_rows}, *cache_,
                            values, {});
      auto from = values.begin();
      for (size_t s = 0; s < scripts.size(); ++s) {
        const auto end = from + static_cast<std::ptrdiff_t>(counts[s]);
        std::vector<float>& own = to(logits[s]);
        own.insert(own.end(), from, end);
        from = end;
      }
    };
    const auto prompt = [](Logits& own) -> std::vector<float>& { return own.prompt; };
    const auto tree = [](Logits& own) -> std::vector<float>& { return own.tree; };
    const auto tokens = [](Logits& own) -> std::vector<float>& { return own.tokens; };
    step(
        [](const Script& s) {
          return std::vector<int32_t>(s.prompt.begin(), s.prompt.begin() + s.cut);
        },
        false, prompt, false);
    for (Logits& own : logits) own.prompt.clear();  // where it was cut is no row of its own
    step(
        [](const Script& s) {
          return std::vector<int32_t>(s.prompt.begin() + s.cut, s.prompt.end());
        },
        false, prompt, false);
    if (trees) {
      step([](const Script& s) { return s.tree; }, true, tree, true);
      for (size_t s = 0; s < scripts.size(); ++s) {
        transformer_->KeepPath(*cache_, pages_[s], lengths[s], scripts[s].path);
        lengths[s] += static_cast<int>(scripts[s].path.size());
      }
    } else {
      size_t longest = 0;
      for (const Script& s : scripts) longest = std::max(longest, s.path.size());
      for (size_t i = 0; i < longest; ++i) {
        step(
            [&](const Script& s) {
              if (i >= s.path.size()) return std::vector<int32_t>();
              return std::vector<int32_t>{s.tree[static_cast<size_t>(s.path[i])]};
            },
            true, tree, false);
      }
    }
    for (size_t i = 0; i < scripts[0].tokens.size(); ++i) {
      step([&](const Script& s) { return std::vector<int32_t>{s.tokens[i]}; }, true, tokens, false);
    }
    return logits;
  }

 private:
  std::unique_ptr<Transformer> transformer_;
  std::unique_ptr<kernels::KvCache> cache_;
  std::vector<int32_t> pages_[kSequences];
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void ExpectClose(const std::vector<float>& actual, const std::vector<float>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  float largest = 0;
  float difference = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(std::isfinite(actual[i]));
    largest = std::max(largest, std::fabs(expected[i]));
    difference = std::max(difference, std::fabs(expected[i] - actual[i]));
  }
  EXPECT_LE(difference, kTolerance * largest);
}

class CudaTensorModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    backend_ = Make(64);
#ifdef OCTOGATE_CUDA_EMULATED
    ASSERT_NE(backend_, nullptr) << problem_;
#else
    if (backend_ == nullptr) GTEST_SKIP() << "NOT RUN: " << problem_;
#endif
    seed_ = FreshSeed();
    random_.seed(seed_);
    checkpoint_ = RandomLlama(random_);
    ASSERT_NE(checkpoint_, nullptr);
    ASSERT_TRUE(kernels::cuda::TensorAttentionFits({kHeads, kKvHeads, kHeadDim, 1, 0},
                                                   backend_->DefaultKvDType()));
    // Trees in the middle of a unit of positions, around its end, and at its beginning.
    const auto below = [&](int n) {
      return static_cast<int>(random_() % static_cast<uint32_t>(n));
    };
    scripts_.push_back(RandomScript(random_, 64 + below(100), 1 + below(20)));
    scripts_.push_back(RandomScript(random_, 500 + below(30), 1 + below(20)));
    scripts_.push_back(RandomScript(random_, 1 + below(40), 1 + below(20)));
  }
  std::unique_ptr<kernels::Backend> Make(size_t graphs) {
    return kernels::cuda::MakeBackend({.step_graphs = graphs}, &problem_);
  }

  std::string problem_;
  std::unique_ptr<kernels::Backend> backend_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  uint32_t seed_ = 0;
  std::mt19937 random_;
  std::vector<Script> scripts_;
};

TEST_F(CudaTensorModelTest, LogitsAreCloseToTheReferences) {
  SCOPED_TRACE(DescribeSeed(seed_));
  const auto logits = Model(checkpoint_, backend_.get()).Run(scripts_, true);
  const auto reference = kernels::MakeReferenceBackend();
  const auto expected = Model(checkpoint_, reference.get()).Run(scripts_, true);
  for (size_t s = 0; s < scripts_.size(); ++s) {
    SCOPED_TRACE(s);
    ExpectClose(logits[s].prompt, expected[s].prompt);
    ExpectClose(logits[s].tree, expected[s].tree);
    ExpectClose(logits[s].tokens, expected[s].tokens);
  }
}

TEST_F(CudaTensorModelTest, SequencesTogetherHaveTheBitsThatEachHasAlone) {
  SCOPED_TRACE(DescribeSeed(seed_));
  const auto together = Model(checkpoint_, backend_.get()).Run(scripts_, true);
  EXPECT_GE(kernels::cuda::StepCountersOf(*backend_).replayed, kFewestReplays);
  const auto plain_backend = Make(0);  // every kernel by itself
  ASSERT_NE(plain_backend, nullptr) << problem_;
  for (size_t s = 0; s < scripts_.size(); ++s) {
    SCOPED_TRACE(s);
    Script whole = scripts_[s];
    whole.cut = 0;
    const Logits alone = Model(checkpoint_, plain_backend.get()).Run({whole}, true)[0];
    EXPECT_TRUE(SameBits(together[s].prompt, alone.prompt));
    EXPECT_TRUE(SameBits(together[s].tree, alone.tree));
    EXPECT_TRUE(SameBits(together[s].tokens, alone.tokens));
  }
  EXPECT_EQ(kernels::cuda::StepCountersOf(*plain_backend).replayed, 0u);
}

TEST_F(CudaTensorModelTest, TreesHaveTheBitsOfPlainDecoding) {
  SCOPED_TRACE(DescribeSeed(seed_));
  const auto verified = Model(checkpoint_, backend_.get()).Run(scripts_, true);
  const auto decoded = Model(checkpoint_, backend_.get()).Run(scripts_, false);
  for (size_t s = 0; s < scripts_.size(); ++s) {
    SCOPED_TRACE(s);
    std::vector<float> path;
    for (const int32_t row : scripts_[s].path) {
      const auto from = verified[s].tree.begin() + row * kVocabulary;
      path.insert(path.end(), from, from + kVocabulary);
    }
    EXPECT_TRUE(SameBits(path, decoded[s].tree));
    EXPECT_TRUE(SameBits(verified[s].tokens, decoded[s].tokens));
  }
}

}  // namespace
}  // namespace octogate::workers

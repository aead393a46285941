#include "workers/model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "common/hash128.h"
#include "tests/workers/model/test_folder.h"

namespace octogate::workers {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr int kHidden = 8;
constexpr int kInner = 12;
constexpr int kLayers = 2;
constexpr int kHeads = 4;
constexpr int kKvHeads = 2;
constexpr int kVocab = 10;
constexpr int kHeadDim = 4;  // so that the query width, 16, is not the hidden size
constexpr int kQ = kHeads * kHeadDim;
constexpr int kKv = kKvHeads * kHeadDim;

json ConfigJson(const std::string& model_type, const std::string& architecture) {
  return {{"model_type", model_type},
          {"architectures", {architecture}},
          {"hidden_size", kHidden},
          {"intermediate_size", kInner},
          {"num_hidden_layers", kLayers},
          {"num_attention_heads", kHeads},
          {"num_key_value_heads", kKvHeads},
          {"head_dim", kHeadDim},
          {"vocab_size", kVocab},
          {"max_position_embeddings", 32}};
}

TestTensor Tensor(std::string name, std::vector<int64_t> shape, DType dtype = DType::kBF16) {
  size_t bytes = DTypeSize(dtype);
  for (const int64_t size : shape) bytes *= static_cast<size_t>(size);
  std::string data(bytes, '\0');
  // Every tensor's bytes differ from every other's.
  std::mt19937 random(static_cast<unsigned>(std::hash<std::string>{}(name)));
  for (char& byte : data) byte = static_cast<char>(random());
  return {std::move(name), dtype, std::move(shape), std::move(data)};
}

struct Model {
  json config;
  std::vector<TestTensor> tensors;

  TestTensor& Find(const std::string& name) {
    for (TestTensor& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    ADD_FAILURE() << "no tensor " << name;
    return tensors.front();
  }
  void Remove(const std::string& name) {
    std::erase_if(tensors, [&](const TestTensor& tensor) { return tensor.name == name; });
  }
  void WriteTo(const TestFolder& folder) const {
    folder.Write("config.json", config.dump());
    folder.Write("model.safetensors", BuildSafetensors(tensors));
  }
};

// What transformers' save_pretrained writes for each family.
Model MakeModel(const std::string& family) {
  Model model;
  const bool phi3 = family == "phi3";
  model.config = ConfigJson(family, family == "llama"     ? "LlamaForCausalLM"
                                    : family == "mistral" ? "MistralForCausalLM"
                                    : family == "qwen2"   ? "Qwen2ForCausalLM"
                                    : family == "qwen3"   ? "Qwen3ForCausalLM"
                                                          : "Phi3ForCausalLM");
  auto& tensors = model.tensors;
  tensors.push_back(Tensor("model.embed_tokens.weight", {kVocab, kHidden}));
  tensors.push_back(Tensor("model.norm.weight", {kHidden}));
  tensors.push_back(Tensor("lm_head.weight", {kVocab, kHidden}));
  for (int i = 0; i < kLayers; ++i) {
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    tensors.push_back(Tensor(prefix + "input_layernorm.weight", {kHidden}));
    tensors.push_back(Tensor(prefix + "post_attention_layernorm.weight", {kHidden}));
    tensors.push_back(Tensor(prefix + "self_attn.o_proj.weight", {kHidden, kQ}));
    tensors.push_back(Tensor(prefix + "mlp.down_proj.weight", {kHidden, kInner}));
    if (phi3) {
      tensors.push_back(Tensor(prefix + "self_attn.qkv_proj.weight", {kQ + 2 * kKv, kHidden}));
      tensors.push_back(Tensor(prefix + "mlp.gate_up_proj.weight", {2 * kInner, kHidden}));
    } else {
      tensors.push_back(Tensor(prefix + "self_attn.q_proj.weight", {kQ, kHidden}));
      tensors.push_back(Tensor(prefix + "self_attn.k_proj.weight", {kKv, kHidden}));
      tensors.push_back(Tensor(prefix + "self_attn.v_proj.weight", {kKv, kHidden}));
      tensors.push_back(Tensor(prefix + "mlp.gate_proj.weight", {kInner, kHidden}));
      tensors.push_back(Tensor(prefix + "mlp.up_proj.weight", {kInner, kHidden}));
    }
    if (family == "qwen2") {
      tensors.push_back(Tensor(prefix + "self_attn.q_proj.bias", {kQ}));
      tensors.push_back(Tensor(prefix + "self_attn.k_proj.bias", {kKv}));
      tensors.push_back(Tensor(prefix + "self_attn.v_proj.bias", {kKv}));
    }
    if (family == "qwen3") {
      tensors.push_back(Tensor(prefix + "self_attn.q_norm.weight", {kHeadDim}));
      tensors.push_back(Tensor(prefix + "self_attn.k_norm.weight", {kHeadDim}));
    }
  }
  return model;
}

absl::StatusOr<Checkpoint> Open(const Model& model) {
  const TestFolder folder;
  model.WriteTo(folder);
  return Checkpoint::Open(folder.path());  // mappings outlive the folder
}

std::string Bytes(const WeightView& view) {
  return std::string(reinterpret_cast<const char*>(view.data), view.size_bytes());
}

class EachFamily : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Checkpoint, EachFamily,
                         ::testing::Values("llama", "mistral", "qwen2", "qwen3", "phi3"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(EachFamily, EveryWeightIsFoundByItsRole) {
  Model model = MakeModel(GetParam());
  const auto checkpoint = Open(model);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelConfig& config = checkpoint->config();
  const ModelWeights& weights = checkpoint->weights();
  EXPECT_EQ(Bytes(weights.embed_tokens), model.Find("model.embed_tokens.weight").data);
  EXPECT_EQ(Bytes(weights.final_norm), model.Find("model.norm.weight").data);
  EXPECT_EQ(Bytes(weights.lm_head), model.Find("lm_head.weight").data);
  ASSERT_EQ(weights.layers.size(), static_cast<size_t>(kLayers));
  for (int i = 0; i < kLayers; ++i) {
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    const LayerWeights& layer = weights.layers[static_cast<size_t>(i)];
    const auto data = [&](const char* name) { return model.Find(prefix + name).data; };
    EXPECT_EQ(Bytes(layer.input_norm), data("input_layernorm.weight"));
    EXPECT_EQ(Bytes(layer.post_attention_norm), data("post_attention_layernorm.weight"));
    EXPECT_EQ(Bytes(layer.o_proj), data("self_attn.o_proj.weight"));
    EXPECT_EQ(Bytes(layer.down_proj), data("mlp.down_proj.weight"));
    EXPECT_EQ(layer.q_proj.rows, kQ);
    EXPECT_EQ(layer.k_proj.rows, kKv);
    EXPECT_EQ(layer.up_proj.rows, kInner);
    const std::string qkv = Bytes(layer.q_proj) + Bytes(layer.k_proj) + Bytes(layer.v_proj);
    const std::string gate_up = Bytes(layer.gate_proj) + Bytes(layer.up_proj);
    if (config.fused_qkv) {
      EXPECT_EQ(qkv, data("self_attn.qkv_proj.weight"));
      EXPECT_EQ(gate_up, data("mlp.gate_up_proj.weight"));
    } else {
      EXPECT_EQ(qkv, data("self_attn.q_proj.weight") + data("self_attn.k_proj.weight") +
                         data("self_attn.v_proj.weight"));
      EXPECT_EQ(gate_up, data("mlp.gate_proj.weight") + data("mlp.up_proj.weight"));
    }
    EXPECT_EQ(static_cast<bool>(layer.q_bias), config.qkv_bias);
    EXPECT_EQ(static_cast<bool>(layer.q_norm), config.qk_norm);
    if (config.qkv_bias) {
      EXPECT_EQ(Bytes(layer.v_bias), data("self_attn.v_proj.bias"));
    }
    if (config.qk_norm) {
      EXPECT_EQ(Bytes(layer.k_norm), data("self_attn.k_norm.weight"));
    }
  }
}

TEST_P(EachFamily, ParametersAreCountedAsTheyAreStored) {
  for (const bool tied : {false, true}) {
    Model model = MakeModel(GetParam());
    model.config["tie_word_embeddings"] = tied;
    if (tied) model.Remove("lm_head.weight");
    const auto checkpoint = Open(model);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(CountParameters(checkpoint->config()) * 2, checkpoint->weight_bytes());
  }
}

TEST_P(EachFamily, EveryMissingMisshapenOrMistypedTensorIsNamed) {
  const Model whole = MakeModel(GetParam());
  for (const TestTensor& tensor : whole.tensors) {
    SCOPED_TRACE(tensor.name);
    const auto expect_named = [&](const Model& model, const char* problem) {
      const auto checkpoint = Open(model);
      ASSERT_FALSE(checkpoint.ok());
      EXPECT_EQ(checkpoint.status().code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(tensor.name));
      EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(problem));
    };
    Model missing = whole;
    missing.Remove(tensor.name);
    expect_named(missing, "missing tensor");

    Model misshapen = whole;
    std::vector<int64_t> shape = tensor.shape;
    shape.back() += 1;
    misshapen.Find(tensor.name) = Tensor(tensor.name, shape);
    expect_named(misshapen, "has shape");

    Model transposed_rank = whole;
    shape = tensor.shape;
    shape.push_back(1);
    transposed_rank.Find(tensor.name) = Tensor(tensor.name, shape);
    expect_named(transposed_rank, "has shape");

    Model mistyped = whole;
    mistyped.Find(tensor.name) = Tensor(tensor.name, tensor.shape, DType::kI8);
    expect_named(mistyped, "dtype I8");
  }
}

TEST(Checkpoint, RefusesTensorsThatTheArchitectureDoesNotHave) {
  Model model = MakeModel("llama");
  model.tensors.push_back(Tensor("model.layers.0.self_attn.q_proj.bias", {kQ}));
  EXPECT_THAT(std::string(Open(model).status().message()),
              HasSubstr("unexpected tensor \"model.layers.0.self_attn.q_proj.bias\""));

  model = MakeModel("llama");
  model.tensors.push_back(Tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {2}));
  EXPECT_TRUE(Open(model).ok()) << "old checkpoints saved this buffer";
}

TEST(Checkpoint, ReportsAFewProblemsAndCountsTheRest) {
  Model model = MakeModel("llama");
  model.config["num_hidden_layers"] = 1000;
  const auto checkpoint = Open(model);
  EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr("more"));
  EXPECT_LT(checkpoint.status().message().size(), 2000u);
}

TEST(Checkpoint, ATiedHeadIsTheEmbeddingEvenWhenTheFileHoldsACopy) {
  Model model = MakeModel("llama");
  model.config["tie_word_embeddings"] = true;
  const auto checkpoint = Open(model);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->weights().lm_head.data, checkpoint->weights().embed_tokens.data);
}

TEST(Checkpoint, NeedsAConfig) {
  const TestFolder folder;
  EXPECT_EQ(Checkpoint::Open(folder.path()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Checkpoint::Open(folder.path() / "none").status().code(), absl::StatusCode::kNotFound);
  folder.Write("config.json", std::string(5 << 20, ' '));
  EXPECT_EQ(Checkpoint::Open(folder.path()).status().code(), absl::StatusCode::kResourceExhausted);
}

std::string Fingerprint(const Model& model) {
  const auto checkpoint = Open(model);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? checkpoint->ComputeFingerprint().ToHex() : "";
}

TEST(ModelFingerprint, DependsOnContentsAndNotOnTheirArrangement) {
  Model model = MakeModel("llama");
  const std::string original = Fingerprint(model);
  EXPECT_EQ(original.size(), 32u);

  Model reordered = model;
  std::reverse(reordered.tensors.begin(), reordered.tensors.end());
  EXPECT_EQ(Fingerprint(reordered), original);

  const TestFolder folder;
  folder.Write("config.json", model.config.dump());
  json weight_map;
  std::vector<TestTensor> shards[2];
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    shards[i % 2].push_back(model.tensors[i]);
    weight_map[model.tensors[i].name] = i % 2 == 0 ? "a.safetensors" : "b.safetensors";
  }
  folder.Write("a.safetensors", BuildSafetensors(shards[0]));
  folder.Write("b.safetensors", BuildSafetensors(shards[1]));
  folder.Write("model.safetensors.index.json", json{{"weight_map", weight_map}}.dump());
  const auto sharded = Checkpoint::Open(folder.path());
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  EXPECT_EQ(sharded->ComputeFingerprint().ToHex(), original);

  Model renamed_version = model;
  renamed_version.config["transformers_version"] = "9.9";
  renamed_version.config["eos_token_id"] = 3;
  EXPECT_EQ(Fingerprint(renamed_version), original) << "changes no logit";
}

TEST(ModelFingerprint, DiffersForEveryBitAndEverySettingThatChangesResults) {
  const Model model = MakeModel("llama");
  std::set<std::string> seen = {Fingerprint(model)};
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    Model changed = model;
    std::string& data = changed.tensors[i].data;
    data[i % data.size()] = static_cast<char>(data[i % data.size()] ^ 1);
    EXPECT_TRUE(seen.insert(Fingerprint(changed)).second) << changed.tensors[i].name;
  }
  const json settings = {{"rope_theta", 10001.0},
                         {"rms_norm_eps", 1e-5},
                         {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}};
  for (const auto& [key, value] : settings.items()) {
    Model changed = model;
    changed.config[key] = value;
    EXPECT_TRUE(seen.insert(Fingerprint(changed)).second) << key;
  }
}

// Vectors of the reference implementation (smhasher, MurmurHash3_x64_128).
TEST(Hash128, EqualsMurmurHash3) {
  const auto hash = [](std::string_view text, uint32_t seed) {
    const Hash128 value = HashBytes(std::as_bytes(std::span(text)), seed);
    return ModelFingerprint{value.high, value.low}.ToHex();
  };
  EXPECT_EQ(hash("", 0), "00000000000000000000000000000000");
  EXPECT_EQ(hash("hello", 0), "cbd8a7b341bd9b025b1e906a48ae1d19");
  EXPECT_EQ(hash("The quick brown fox jumps over the lazy dog", 0),
            "e34bbc7bbc071b6c7a433ca9c49a9347");
}

TEST(MemoryEstimate, AddsUpAndRefusesWithNumbers) {
  const auto checkpoint = Open(MakeModel("llama"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  MemoryPlan plan;
  plan.weight_dtype = DType::kBF16;
  plan.kv_dtype = DType::kF16;
  plan.kv_tokens = 100;
  plan.step_tokens = 1;
  plan.logit_rows = 1;
  const MemoryEstimate estimate = EstimateMemory(checkpoint->config(), plan);
  EXPECT_EQ(estimate.weights, checkpoint->weight_bytes());
  EXPECT_EQ(estimate.kv, 100u * 2 * kLayers * kKv * 2);
  EXPECT_GE(estimate.activations, kVocab * sizeof(float));
  EXPECT_EQ(estimate.total(), estimate.weights + estimate.kv + estimate.activations);
  EXPECT_TRUE(CheckMemory(estimate, estimate.total(), "m").ok());
  const absl::Status refused = CheckMemory(estimate, estimate.total() - 1, "m");
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("model m needs"));

  plan.kv_tokens = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(EstimateMemory(checkpoint->config(), plan).total(),
            std::numeric_limits<uint64_t>::max());
}

TEST(Checkpoint, OpensAPublicCheckpoint) {
  const char* data = std::getenv("OCTOGATE_TEST_DATA");
  if (data == nullptr) GTEST_SKIP() << "OCTOGATE_TEST_DATA is not set";
  const auto checkpoint = Checkpoint::Open(std::filesystem::path(data) / "stories260K" / "hf");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(CountParameters(checkpoint->config()), 260'032u);
  EXPECT_EQ(checkpoint->weight_bytes(), 260'032u * 4);
}

// Written by transformers' save_pretrained.
TEST(Checkpoint, OpensEveryFixture) {
  const std::filesystem::path folder = OCTOGATE_FIXTURES "/checkpoints";
  if (!std::filesystem::is_directory(folder)) GTEST_SKIP() << folder << " does not exist";
  int opened = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    const auto checkpoint = Checkpoint::Open(entry.path());
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    ++opened;
  }
  EXPECT_GT(opened, 0);
}

}  // namespace
}  // namespace octogate::workers

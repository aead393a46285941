// The weights of a draft head are what the model that it is for needs, or what is wrong is said.
#include "workers/speculation/draft_head.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/workers/model/test_folder.h"

namespace octogate::workers {
namespace {

constexpr int kHidden = 8;
constexpr int kVocabulary = 12;

ModelConfig Model() {
  ModelConfig model;
  model.hidden_size = kHidden;
  model.vocab_size = kVocabulary;
  model.num_layers = 3;
  return model;
}

nlohmann::json Config() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", kHidden},
          {"intermediate_size", 6},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"vocab_size", kVocabulary},
          {"max_position_embeddings", 64}};
}

using Shapes = std::map<std::string, std::vector<int64_t>>;

Shapes Weights() {
  const std::string attention = "layers.0.self_attn.";
  const std::string mlp = "layers.0.mlp.";
  return {{"fc.weight", {kHidden, 2 * kHidden}},
          {attention + "q_proj.weight", {8, kHidden}},
          {attention + "k_proj.weight", {4, kHidden}},
          {attention + "v_proj.weight", {4, kHidden}},
          {attention + "o_proj.weight", {kHidden, 8}},
          {"layers.0.post_attention_layernorm.weight", {kHidden}},
          {mlp + "gate_proj.weight", {6, kHidden}},
          {mlp + "up_proj.weight", {6, kHidden}},
          {mlp + "down_proj.weight", {kHidden, 6}}};
}

absl::StatusOr<DraftHead> Open(const nlohmann::json& config, const Shapes& weights,
                               const ModelConfig& model = Model()) {
  const TestFolder folder;
  folder.Write("config.json", config.dump());
  std::vector<TestTensor> tensors;
  for (const auto& [name, shape] : weights) {
    size_t bytes = 2;
    for (const int64_t size : shape) bytes *= static_cast<size_t>(size);
    tensors.push_back({name, DType::kBF16, shape, std::string(bytes, 0)});
  }
  folder.Write("model.safetensors", BuildSafetensors(tensors));
  return DraftHead::Open(folder.path(), model);  // once mapped, files may go
}

TEST(DraftHeadTest, AHeadOfTheModelHasItsWeights) {
  Shapes weights = Weights();
  const auto head = Open(Config(), weights);
  ASSERT_TRUE(head.ok()) << head.status();
  EXPECT_EQ(head->join.rows, kHidden);
  EXPECT_EQ(head->join.cols, 2 * kHidden);
  EXPECT_EQ(head->k.rows, 4);
  EXPECT_EQ(head->down.cols, 6);
  EXPECT_FALSE(head->embed_tokens);
  EXPECT_FALSE(head->join_bias);
  EXPECT_GT(head->weight_bytes(), 0U);

  weights["fc.bias"] = {kHidden};
  weights["embed_tokens.weight"] = {kVocabulary, kHidden};
  const auto larger = Open(Config(), weights);
  ASSERT_TRUE(larger.ok()) << larger.status();
  EXPECT_EQ(larger->embed_tokens.rows, kVocabulary);
  EXPECT_EQ(larger->join_bias.cols, kHidden);
}

TEST(DraftHeadTest, EveryTensorThatIsMissingOrMisshapenIsNamed) {
  for (const auto& [name, shape] : Weights()) {
    Shapes weights = Weights();
    weights.erase(name);
    const absl::Status missing = Open(Config(), weights).status();
    EXPECT_TRUE(absl::IsInvalidArgument(missing)) << missing;
    EXPECT_NE(missing.message().find(name), std::string::npos) << missing;
    weights[name] = {3, 5};
    const absl::Status misshapen = Open(Config(), weights).status();
    EXPECT_TRUE(absl::IsInvalidArgument(misshapen)) << misshapen;
    EXPECT_NE(misshapen.message().find(name), std::string::npos) << misshapen;
  }
  Shapes weights = Weights();
  weights["midlayer.hidden_norm.weight"] = {kHidden};
  const absl::Status unexpected = Open(Config(), weights).status();
  EXPECT_TRUE(absl::IsInvalidArgument(unexpected)) << unexpected;
  EXPECT_NE(unexpected.message().find("midlayer"), std::string::npos) << unexpected;
}

TEST(DraftHeadTest, AHeadOfAnotherModelIsRefused) {
  for (int ModelConfig::*size : {&ModelConfig::hidden_size, &ModelConfig::vocab_size}) {
    ModelConfig model = Model();
    ++(model.*size);
    const absl::Status status = Open(Config(), Weights(), model).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_NE(status.message().find("trained for this model"), std::string::npos) << status;
  }
  nlohmann::json config = Config();
  config["num_hidden_layers"] = 2;
  const absl::Status layers = Open(config, Weights()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(layers)) << layers;
  config = Config();
  config.erase("hidden_size");
  EXPECT_TRUE(absl::IsInvalidArgument(Open(config, Weights()).status()));
}

}  // namespace
}  // namespace octogate::workers

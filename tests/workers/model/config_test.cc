#include "workers/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace octogate::workers {
namespace {

using nlohmann::json;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json Sizes() {
  return {{"hidden_size", 64},        {"intermediate_size", 172}, {"num_hidden_layers", 4},
          {"num_attention_heads", 8}, {"vocab_size", 512},        {"max_position_embeddings", 256},
          {"num_key_value_heads", 4}};
}

json Config(const char* model_type, const char* architecture) {
  json config = Sizes();
  config["model_type"] = model_type;
  config["architectures"] = {architecture};
  return config;
}

json Llama() { return Config("llama", "LlamaForCausalLM"); }
json Mistral() { return Config("mistral", "MistralForCausalLM"); }
json Qwen2() { return Config("qwen2", "Qwen2ForCausalLM"); }
json Qwen3() { return Config("qwen3", "Qwen3ForCausalLM"); }
json Phi3() { return Config("phi3", "Phi3ForCausalLM"); }

absl::StatusOr<ModelConfig> Parse(const json& config, const std::string& generation = "") {
  return ParseModelConfig(config.dump(), generation, "models/test");
}

TEST(ModelConfig, ReadsSizesAndDefaults) {
  const auto config = Parse(Llama());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, Family::kLlama);
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->intermediate_size, 172);
  EXPECT_EQ(config->num_layers, 4);
  EXPECT_EQ(config->num_heads, 8);
  EXPECT_EQ(config->num_kv_heads, 4);
  EXPECT_EQ(config->group_size(), 2);
  EXPECT_EQ(config->head_dim, 8);
  EXPECT_EQ(config->rotary_dim, 8);
  EXPECT_EQ(config->q_dim(), 64);
  EXPECT_EQ(config->kv_dim(), 32);
  EXPECT_EQ(config->rope_theta, 10000.0f);
  EXPECT_EQ(config->rms_norm_eps, 1e-6f);
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_EQ(config->torch_dtype, DType::kF32);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_THAT(config->layer_sliding_window, ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(config->eos_token_ids, IsEmpty());
  EXPECT_EQ(config->bos_token_id, std::nullopt);
}

TEST(ModelConfig, KnowsWhatEachFamilyBrings) {
  const auto llama = Parse(Llama());
  json biased = Llama();
  biased["attention_bias"] = biased["mlp_bias"] = true;
  const auto biased_llama = Parse(biased);
  const auto mistral = Parse(Mistral());
  const auto qwen2 = Parse(Qwen2());
  const auto qwen3 = Parse(Qwen3());
  const auto phi3 = Parse(Phi3());
  for (const auto* config : {&llama, &biased_llama, &mistral, &qwen2, &qwen3, &phi3}) {
    ASSERT_TRUE(config->ok()) << config->status();
  }
  EXPECT_FALSE(llama->qkv_bias || llama->o_bias || llama->mlp_bias || llama->qk_norm);
  EXPECT_TRUE(biased_llama->qkv_bias && biased_llama->o_bias && biased_llama->mlp_bias);
  EXPECT_THAT(mistral->layer_sliding_window, Each(4096));
  EXPECT_TRUE(qwen2->qkv_bias);
  EXPECT_FALSE(qwen2->o_bias || qwen2->qk_norm);
  EXPECT_TRUE(qwen3->qk_norm);
  EXPECT_FALSE(qwen3->qkv_bias);
  EXPECT_EQ(qwen3->head_dim, 128);
  EXPECT_TRUE(phi3->fused_qkv && phi3->fused_gate_up);
  EXPECT_EQ(phi3->rms_norm_eps, 1e-5f);
  EXPECT_THAT(phi3->layer_sliding_window, Each(0));
}

TEST(ModelConfig, SlidingWindowsFollowTheFamily) {
  json mistral = Mistral();
  mistral["sliding_window"] = nullptr;
  EXPECT_THAT(Parse(mistral)->layer_sliding_window, Each(0));
  mistral["sliding_window"] = 16;
  EXPECT_THAT(Parse(mistral)->layer_sliding_window, Each(16));

  json llama = Llama();
  llama["sliding_window"] = 16;  // transformers' Llama has no such thing
  EXPECT_THAT(Parse(llama)->layer_sliding_window, Each(0));

  json qwen = Qwen2();
  qwen["sliding_window"] = 16;
  qwen["max_window_layers"] = 2;
  EXPECT_THAT(Parse(qwen)->layer_sliding_window, Each(0));
  qwen["use_sliding_window"] = true;
  EXPECT_THAT(Parse(qwen)->layer_sliding_window, ElementsAre(0, 0, 16, 16));
  qwen["layer_types"] = {"sliding_attention", "full_attention", "full_attention",
                         "sliding_attention"};
  EXPECT_THAT(Parse(qwen)->layer_sliding_window, ElementsAre(16, 0, 0, 16));
  qwen["layer_types"] = {"full_attention"};
  EXPECT_EQ(Parse(qwen).status().code(), absl::StatusCode::kInvalidArgument);
  qwen["layer_types"] = {"chunked_attention", "x", "y", "z"};
  EXPECT_EQ(Parse(qwen).status().code(), absl::StatusCode::kUnimplemented);

  mistral["layer_types"] = {"full_attention", "full_attention", "full_attention",
                            "sliding_attention"};
  EXPECT_EQ(Parse(mistral).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(ModelConfig, GenerationConfigOverridesWhereGenerationEnds) {
  json config = Llama();
  config["eos_token_id"] = 2;
  config["bos_token_id"] = 1;
  EXPECT_THAT(Parse(config)->eos_token_ids, ElementsAre(2));
  EXPECT_EQ(Parse(config)->bos_token_id, 1);
  EXPECT_THAT(Parse(config, R"({"eos_token_id": [7, 5]})")->eos_token_ids, ElementsAre(7, 5));
  EXPECT_THAT(Parse(config, R"({"eos_token_id": null})")->eos_token_ids, ElementsAre(2));
  EXPECT_THAT(Parse(config, "{}")->eos_token_ids, ElementsAre(2));
  const auto broken = Parse(config, R"({"eos_token_id": [512]})");
  EXPECT_EQ(broken.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(broken.status().message()),
              HasSubstr("models/test/generation_config.json"));
}

TEST(ModelConfig, ReadsBothSpellingsOfDtype) {
  json config = Llama();
  config["torch_dtype"] = "bfloat16";
  EXPECT_EQ(Parse(config)->torch_dtype, DType::kBF16);
  config["dtype"] = "float16";
  EXPECT_EQ(Parse(config)->torch_dtype, DType::kF16);
}

struct BadValue {
  const char* key;
  json value;
  absl::StatusCode code;
  const char* message;
};

TEST(ModelConfig, RefusesEveryBrokenValue) {
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto unimplemented = absl::StatusCode::kUnimplemented;
  const BadValue cases[] = {
      {"architectures", {"GPT2LMHeadModel"}, unimplemented, "LlamaForCausalLM, MistralForCausalLM"},
      {"architectures", {"LlamaForCausalLM", "x"}, invalid, "list of one"},
      {"architectures", 3, invalid, "list of one"},
      {"model_type", "gpt2", unimplemented, "\"gpt2\""},
      {"model_type", 7, invalid, "expected a string"},
      {"hidden_size", 0, invalid, "\"hidden_size\" is 0"},
      {"hidden_size", -64, invalid, "-64"},
      {"hidden_size", 64.5, invalid, "64.5"},
      {"hidden_size", "64", invalid, "expected an integer"},
      {"hidden_size", nullptr, invalid, "is missing"},
      {"hidden_size", 1ull << 62, invalid, "expected an integer"},
      {"hidden_size", ~0ull, invalid, "expected an integer"},
      {"hidden_size", 63, invalid, "does not divide"},
      {"intermediate_size", 0, invalid, "intermediate_size"},
      {"num_hidden_layers", 1 << 20, invalid, "num_hidden_layers"},
      {"num_attention_heads", 0, invalid, "num_attention_heads"},
      {"num_key_value_heads", 3, invalid, "must divide"},
      {"num_key_value_heads", 16, invalid, "must divide"},
      {"head_dim", 7, invalid, "even"},
      {"head_dim", 1, invalid, "head_dim"},
      {"vocab_size", 0, invalid, "vocab_size"},
      {"max_position_embeddings", 0, invalid, "max_position_embeddings"},
      {"rms_norm_eps", -1e-6, invalid, "rms_norm_eps"},
      {"rms_norm_eps", "1e-6", invalid, "rms_norm_eps"},
      {"rope_theta", 0, invalid, "rope_theta"},
      {"hidden_act", "gelu", unimplemented, "silu"},
      {"torch_dtype", "int8", unimplemented, "bfloat16"},
      {"quantization_config", {{"bits", 4}}, unimplemented, "quantized"},
      {"partial_rotary_factor", 0.5, unimplemented, "phi3"},
      {"tie_word_embeddings", 1, invalid, "true or false"},
      {"eos_token_id", -1, invalid, "token ids from 0 to 511"},
      {"eos_token_id", 512, invalid, "token ids from 0 to 511"},
      {"eos_token_id", json::array({1, "2"}), invalid, "token ids"},
      {"eos_token_id", json(std::vector<int>(1000, 1)), invalid, "at most"},
      {"rope_scaling", 3, invalid, "expected an object"},
      {"rope_scaling", {{"type", "dynamic"}, {"factor", 2}}, unimplemented, "\"dynamic\""},
      {"rope_scaling", {{"type", "linear"}}, invalid, "\"factor\" is missing"},
      {"rope_scaling", {{"type", "linear"}, {"factor", 0}}, invalid, "factor"},
      {"rope_scaling", {{"type", 5}}, invalid, "expected a string"},
      {"rope_parameters",
       {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 4}},
       invalid,
       "must exceed"},
      {"rope_scaling",
       {{"type", "longrope"}, {"short_factor", {1, 1}}},
       invalid,
       "list of 4 numbers (half the rotated dimensions), but has 2"},
      {"rope_scaling",
       {{"type", "longrope"}, {"short_factor", {1, 1, 1, 0}}},
       invalid,
       "\"short_factor\"[3] is 0"},
      {"rope_scaling",
       {{"type", "longrope"}, {"short_factor", {1, 1, 1, 1}}},
       invalid,
       "\"long_factor\" must be"},
  };
  for (const BadValue& bad : cases) {
    json config = Llama();
    config[bad.key] = bad.value;
    SCOPED_TRACE(config.dump());
    const absl::Status status = Parse(config).status();
    EXPECT_EQ(status.code(), bad.code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
    EXPECT_THAT(std::string(status.message()), HasSubstr("models/test/config.json"));
  }
}

TEST(ModelConfig, RefusesWhatIsNoObject) {
  for (const char* text : {"", "{", "[]", "null", "3", "{\"a\":1}x", "{\"\xff\":1}"}) {
    EXPECT_EQ(ParseModelConfig(text, "", "m").status().code(), absl::StatusCode::kInvalidArgument)
        << text;
  }
  EXPECT_EQ(ParseModelConfig(std::string(1'000'000, '['), "", "m").status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Parse(Llama(), "[]").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ModelConfig, RandomValuesNeverCrash) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const json values[] = {nullptr,
                         0,
                         -1,
                         1,
                         2,
                         1ull << 40,
                         ~0ull,
                         1e300,
                         -0.5,
                         true,
                         "x",
                         "yarn",
                         json::array(),
                         json::object(),
                         {1, 2},
                         {"a"},
                         {{"type", "yarn"}, {"factor", 4}}};
  for (int round = 0; round < 20000; ++round) {
    json config = round % 2 == 0 ? Qwen2() : Phi3();
    for (const char* key :
         {"use_sliding_window", "sliding_window", "layer_types", "rope_scaling", "head_dim",
          "eos_token_id", "rope_theta", "partial_rotary_factor", "max_window_layers"}) {
      if (random() % 3 == 0) config[key] = values[random() % std::size(values)];
    }
    auto it = config.begin();
    std::advance(it, random() % config.size());
    it.value() = values[random() % std::size(values)];
    const auto parsed = Parse(config);
    if (!parsed.ok()) continue;
    EXPECT_EQ(parsed->num_heads % parsed->num_kv_heads, 0);
    EXPECT_EQ(parsed->rotary_dim % 2, 0);
    EXPECT_EQ(parsed->layer_sliding_window.size(), static_cast<size_t>(parsed->num_layers));
  }
}

}  // namespace
}  // namespace octogate::workers

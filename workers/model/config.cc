#include "workers/model/config.h"

#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "workers/model/config_fields.h"

namespace octogate::workers {
namespace {

using nlohmann::json;

constexpr size_t kMaxEosTokens = 256;

struct FamilyRow {
  Family family;
  const char* model_type;
  const char* architecture;
};

constexpr std::array<FamilyRow, 5> kFamilies = {{
    {Family::kLlama, "llama", "LlamaForCausalLM"},
    {Family::kMistral, "mistral", "MistralForCausalLM"},
    {Family::kQwen2, "qwen2", "Qwen2ForCausalLM"},
    {Family::kQwen3, "qwen3", "Qwen3ForCausalLM"},
    {Family::kPhi3, "phi3", "Phi3ForCausalLM"},
}};

std::string SupportedArchitectures() {
  std::string list;
  for (const FamilyRow& row : kFamilies) {
    absl::StrAppend(&list, list.empty() ? "" : ", ", row.architecture);
  }
  return list;
}

Family ParseFamily(ConfigFields& fields) {
  std::optional<std::string> architecture;
  if (const json* list = fields.Find("architectures")) {
    if (!list->is_array() || list->size() != 1 || !(*list)[0].is_string()) {
      fields.FailInvalid(absl::StrCat("\"architectures\" is ", JsonExcerpt(*list),
                                      "; expected a list of one name"));
      return Family::kLlama;
    }
    architecture = (*list)[0].get<std::string>();
  }
  const std::optional<std::string> model_type = fields.String("model_type");
  if (!architecture && !model_type) {
    fields.FailInvalid("neither \"architectures\" nor \"model_type\" is given");
    return Family::kLlama;
  }
  for (const FamilyRow& row : kFamilies) {
    if ((!architecture || *architecture == row.architecture) &&
        (!model_type || *model_type == row.model_type)) {
      return row.family;
    }
  }
  fields.Fail(
      absl::StatusCode::kUnimplemented,
      absl::StrCat("architecture ", JsonExcerpt(architecture ? json(*architecture) : json()),
                   " with model_type ", JsonExcerpt(model_type ? json(*model_type) : json()),
                   " is not supported; supported are ", SupportedArchitectures()));
  return Family::kLlama;
}

void ParseSizes(ConfigFields& fields, ModelConfig& config) {
  config.hidden_size = fields.Int("hidden_size", 1, kMaxHiddenSize);
  config.intermediate_size = fields.Int("intermediate_size", 1, kMaxHiddenSize * 8);
  config.num_layers = fields.Int("num_hidden_layers", 1, kMaxLayers);
  config.num_heads = fields.Int("num_attention_heads", 1, kMaxHeads);
  config.vocab_size = fields.Int("vocab_size", 1, kMaxVocabSize);
  config.max_position_embeddings = fields.Int("max_position_embeddings", 1, kMaxContext);

  int default_kv_heads = config.num_heads;
  if (!fields.Mentions("num_key_value_heads")) {
    if (config.family == Family::kMistral) default_kv_heads = 8;
    if (config.family == Family::kQwen2 || config.family == Family::kQwen3) default_kv_heads = 32;
  }
  config.num_kv_heads = fields.Int("num_key_value_heads", 1, kMaxHeads, default_kv_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    fields.FailInvalid(absl::StrCat("\"num_key_value_heads\" (", config.num_kv_heads,
                                    ") must divide \"num_attention_heads\" (", config.num_heads,
                                    ")"));
  }

  if (fields.Find("head_dim") != nullptr) {
    config.head_dim = fields.Int("head_dim", 2, kMaxHiddenSize);
  } else if (config.family == Family::kQwen3 && !fields.Mentions("head_dim")) {
    config.head_dim = 128;
  } else {
    if (config.hidden_size % config.num_heads != 0) {
      fields.FailInvalid(absl::StrCat("\"head_dim\" is absent and \"num_attention_heads\" (",
                                      config.num_heads, ") does not divide \"hidden_size\" (",
                                      config.hidden_size, ")"));
    }
    config.head_dim = config.hidden_size / config.num_heads;
  }
  if (config.head_dim < 2 || config.head_dim % 2 != 0) {
    fields.FailInvalid(
        absl::StrCat("the head dimension is ", config.head_dim, "; it must be even"));
  }
  if (static_cast<int64_t>(config.num_heads) * config.head_dim > kMaxHiddenSize * 8) {
    fields.FailInvalid(absl::StrCat("\"num_attention_heads\" (", config.num_heads,
                                    ") times the head dimension (", config.head_dim, ") exceeds ",
                                    kMaxHiddenSize * 8));
  }
}

// The file's attention_factor, or what each paper derives from the factor.
float AttentionScaling(ConfigFields& fields, const RopeScaling& scaling) {
  if (fields.Find("attention_factor") != nullptr) {
    return fields.Float("attention_factor", 1e-6, 1e6);
  }
  const double factor = scaling.factor;
  if (scaling.kind == RopeScaling::Kind::kLongRope) {
    if (factor <= 1.0) return 1.0f;
    return static_cast<float>(
        std::sqrt(1.0 + std::log(factor) / std::log(scaling.original_max_position_embeddings)));
  }
  const auto scale_for = [factor](double mscale) {
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
  };
  const double mscale = fields.Float("mscale", 0, 1e3, 0.0f);
  const double mscale_all_dim = fields.Float("mscale_all_dim", 0, 1e3, 0.0f);
  if (mscale != 0 && mscale_all_dim != 0) {
    return static_cast<float>(scale_for(mscale) / scale_for(mscale_all_dim));
  }
  return static_cast<float>(scale_for(1.0));
}

void ParseRope(ConfigFields& top, absl::Status& status, ModelConfig& config,
               const std::string& source_name) {
  static const json kEmpty = json::object();
  const char* key = "rope_parameters";
  const json* object = top.Find(key);
  if (object == nullptr) {
    key = "rope_scaling";
    object = top.Find(key);
  }
  if (object == nullptr) object = &kEmpty;
  if (!object->is_object()) {
    top.FailInvalid(
        absl::StrCat("\"", key, "\" is ", JsonExcerpt(*object), "; expected an object or null"));
    return;
  }
  ConfigFields fields(*object, absl::StrCat(source_name, ": ", key, ": "), status);

  constexpr double kMaxTheta = 1e15;
  const float top_theta = top.Float("rope_theta", 1.0, kMaxTheta, 10000.0f);
  config.rope_theta = fields.Float("rope_theta", 1.0, kMaxTheta, top_theta);

  const float top_partial = top.Float("partial_rotary_factor", 1e-3, 1.0, 1.0f);
  const float partial = fields.Float("partial_rotary_factor", 1e-3, 1.0, top_partial);
  if (partial != 1.0f && config.family != Family::kPhi3) {
    fields.Fail(absl::StatusCode::kUnimplemented,
                absl::StrCat("\"partial_rotary_factor\" ", partial, " is supported for phi3 only"));
  }
  config.rotary_dim = static_cast<int>(static_cast<double>(config.head_dim) * partial);
  if (config.rotary_dim < 2 || config.rotary_dim % 2 != 0) {
    fields.FailInvalid(absl::StrCat("\"partial_rotary_factor\" ", partial, " rotates ",
                                    config.rotary_dim, " of ", config.head_dim,
                                    " dimensions; the number must be even"));
    return;
  }

  std::string type = fields.String("rope_type").value_or(fields.String("type").value_or("default"));
  // Early Phi-3 checkpoints call LongRoPE by these names.
  if (config.family == Family::kPhi3 && (type == "su" || type == "yarn")) type = "longrope";

  RopeScaling& scaling = config.rope_scaling;
  const auto original_context = [&] {
    const int inner =
        fields.Int("original_max_position_embeddings", 2, kMaxContext,
                   config.family == Family::kPhi3 ? 4096 : config.max_position_embeddings);
    return top.Int("original_max_position_embeddings", 2, kMaxContext, inner);
  };
  constexpr double kMinFactor = 1e-3;
  constexpr double kMaxFactor = 1e6;
  if (type == "default") {
    return;
  } else if (type == "linear") {
    scaling.kind = RopeScaling::Kind::kLinear;
    scaling.factor = fields.Float("factor", kMinFactor, kMaxFactor);
  } else if (type == "llama3") {
    scaling.kind = RopeScaling::Kind::kLlama3;
    scaling.factor = fields.Float("factor", kMinFactor, kMaxFactor);
    scaling.low_freq_factor = fields.Float("low_freq_factor", kMinFactor, kMaxFactor);
    scaling.high_freq_factor = fields.Float("high_freq_factor", kMinFactor, kMaxFactor);
    scaling.original_max_position_embeddings = original_context();
    if (scaling.high_freq_factor <= scaling.low_freq_factor) {
      fields.FailInvalid(absl::StrCat("\"high_freq_factor\" (", scaling.high_freq_factor,
                                      ") must exceed \"low_freq_factor\" (",
                                      scaling.low_freq_factor, ")"));
    }
  } else if (type == "longrope") {
    scaling.kind = RopeScaling::Kind::kLongRope;
    const size_t pairs = static_cast<size_t>(config.rotary_dim) / 2;
    scaling.short_factor = fields.FloatList("short_factor", pairs, kMinFactor, kMaxFactor);
    scaling.long_factor = fields.FloatList("long_factor", pairs, kMinFactor, kMaxFactor);
    scaling.original_max_position_embeddings = original_context();
    scaling.factor =
        fields.Float("factor", kMinFactor, kMaxFactor,
                     static_cast<float>(static_cast<double>(config.max_position_embeddings) /
                                        scaling.original_max_position_embeddings));
    scaling.attention_scaling = AttentionScaling(fields, scaling);
  } else if (type == "yarn") {
    if (config.rope_theta <= 1.0f) {
      fields.FailInvalid("\"rope_theta\" must exceed 1 with rope type yarn");
    }
    scaling.kind = RopeScaling::Kind::kYarn;
    scaling.factor = fields.Float("factor", kMinFactor, kMaxFactor);
    scaling.original_max_position_embeddings = original_context();
    scaling.beta_fast = fields.Float("beta_fast", kMinFactor, kMaxFactor, 32.0f);
    scaling.beta_slow = fields.Float("beta_slow", kMinFactor, kMaxFactor, 1.0f);
    scaling.truncate = fields.Bool("truncate", true);
    scaling.attention_scaling = AttentionScaling(fields, scaling);
  } else {
    fields.Fail(absl::StatusCode::kUnimplemented,
                absl::StrCat("rope type ", JsonExcerpt(json(type)),
                             " is not supported; supported are default, linear, llama3, "
                             "longrope, yarn"));
  }
}

void ParseSlidingWindow(ConfigFields& fields, ModelConfig& config) {
  const size_t num_layers = static_cast<size_t>(config.num_layers);
  config.layer_sliding_window.assign(num_layers, 0);
  const bool is_qwen = config.family == Family::kQwen2 || config.family == Family::kQwen3;
  int window = 0;
  if (config.family == Family::kMistral || is_qwen) {
    window =
        fields.Int("sliding_window", 1, kMaxContext, fields.Mentions("sliding_window") ? 0 : 4096);
  } else if (config.family == Family::kPhi3) {
    window = fields.Int("sliding_window", 1, kMaxContext, 0);
  }
  if (is_qwen && !fields.Bool("use_sliding_window", false)) window = 0;
  const int first_windowed_layer =
      is_qwen ? fields.Int("max_window_layers", 0, std::numeric_limits<int>::max(), 28) : 0;
  for (size_t layer = 0; layer < num_layers; ++layer) {
    if (static_cast<int>(layer) >= first_windowed_layer)
      config.layer_sliding_window[layer] = window;
  }

  const json* types = fields.Find("layer_types");
  if (types == nullptr) return;
  if (!types->is_array() || types->size() != num_layers) {
    fields.FailInvalid(
        absl::StrCat("\"layer_types\" must be a list of ", num_layers, " names, one per layer"));
    return;
  }
  for (size_t layer = 0; layer < num_layers; ++layer) {
    const json& type = (*types)[layer];
    int layer_window = 0;
    if (type == "sliding_attention") {
      layer_window = window;
    } else if (type != "full_attention") {
      fields.Fail(absl::StatusCode::kUnimplemented,
                  absl::StrCat("\"layer_types\"[", layer, "] is ", JsonExcerpt(type),
                               "; supported are \"full_attention\" and \"sliding_attention\""));
      return;
    }
    // Only the Qwen families define a mixture of both kinds of layer.
    if (!is_qwen && layer_window != config.layer_sliding_window[layer]) {
      fields.Fail(absl::StatusCode::kUnimplemented,
                  absl::StrCat("\"layer_types\"[", layer, "] is ", JsonExcerpt(type),
                               ", but every ", std::string(FamilyName(config.family)),
                               " layer has ", window == 0 ? "full attention" : "a sliding window"));
      return;
    }
    config.layer_sliding_window[layer] = layer_window;
  }
}

void ParseFlags(ConfigFields& fields, ModelConfig& config) {
  switch (config.family) {
    case Family::kLlama:
      config.qkv_bias = config.o_bias = fields.Bool("attention_bias", false);
      config.mlp_bias = fields.Bool("mlp_bias", false);
      break;
    case Family::kMistral:
      break;
    case Family::kQwen2:
      config.qkv_bias = true;
      break;
    case Family::kQwen3:
      config.qkv_bias = config.o_bias = fields.Bool("attention_bias", false);
      config.qk_norm = true;
      break;
    case Family::kPhi3:
      config.fused_qkv = config.fused_gate_up = true;
      break;
  }
  config.tie_word_embeddings = fields.Bool("tie_word_embeddings", false);
  config.rms_norm_eps =
      fields.Float("rms_norm_eps", 0.0, 1.0, config.family == Family::kPhi3 ? 1e-5f : 1e-6f);
  const std::string activation = fields.String("hidden_act").value_or("silu");
  if (activation != "silu" && activation != "swish") {
    fields.Fail(absl::StatusCode::kUnimplemented,
                absl::StrCat("\"hidden_act\" ", JsonExcerpt(json(activation)),
                             " is not supported; supported is \"silu\""));
  }
  if (fields.Find("quantization_config") != nullptr) {
    fields.Fail(absl::StatusCode::kUnimplemented,
                "\"quantization_config\" is given, and quantized weights are not supported; use "
                "the F32, F16 or BF16 checkpoint");
  }
  const char* dtype_key = fields.Find("dtype") != nullptr ? "dtype" : "torch_dtype";
  const std::string dtype = fields.String(dtype_key).value_or("float32");
  const std::optional<DType> parsed = DTypeFromTorchName(dtype);
  if (!parsed) {
    fields.Fail(absl::StatusCode::kUnimplemented,
                absl::StrCat("\"", dtype_key, "\" ", JsonExcerpt(json(dtype)),
                             " is not supported; supported are float32, float16, bfloat16"));
  } else {
    config.torch_dtype = *parsed;
  }
}

// An id, a list of ids, or absent.
std::vector<int32_t> ParseTokenIds(ConfigFields& fields, const char* key, int vocab_size) {
  std::vector<int32_t> ids;
  const json* value = fields.Find(key);
  if (value == nullptr) return ids;
  const json list = value->is_array() ? *value : json::array({*value});
  if (list.size() > kMaxEosTokens) {
    fields.FailInvalid(absl::StrCat("\"", key, "\" lists ", list.size(), " ids; at most ",
                                    kMaxEosTokens, " are accepted"));
    return ids;
  }
  for (const json& id : list) {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= vocab_size) {
      fields.FailInvalid(absl::StrCat("\"", key, "\" holds ", JsonExcerpt(id),
                                      "; expected token ids from 0 to ", vocab_size - 1));
      return {};
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace

std::string_view FamilyName(Family family) {
  for (const FamilyRow& row : kFamilies) {
    if (row.family == family) return row.model_type;
  }
  return "unknown";
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config_json,
                                             std::string_view generation_config_json,
                                             std::string_view source_name) {
  const std::string source = absl::StrCat(std::string(source_name), "/config.json");
  const absl::StatusOr<json> object = ParseJsonObject(config_json, source);
  if (!object.ok()) return object.status();

  absl::Status status;
  ConfigFields fields(*object, source + ": ", status);
  ModelConfig config;
  config.family = ParseFamily(fields);
  if (!status.ok()) return status;
  ParseSizes(fields, config);
  if (!status.ok()) return status;  // what follows divides by and allocates for the sizes
  ParseRope(fields, status, config, source);
  ParseSlidingWindow(fields, config);
  ParseFlags(fields, config);
  config.eos_token_ids = ParseTokenIds(fields, "eos_token_id", config.vocab_size);
  const std::vector<int32_t> bos = ParseTokenIds(fields, "bos_token_id", config.vocab_size);
  if (!bos.empty()) config.bos_token_id = bos.front();
  if (!status.ok()) return status;

  if (!generation_config_json.empty()) {
    const std::string generation_source =
        absl::StrCat(std::string(source_name), "/generation_config.json");
    const absl::StatusOr<json> generation =
        ParseJsonObject(generation_config_json, generation_source);
    if (!generation.ok()) return generation.status();
    ConfigFields overrides(*generation, generation_source + ": ", status);
    std::vector<int32_t> eos = ParseTokenIds(overrides, "eos_token_id", config.vocab_size);
    if (!eos.empty()) config.eos_token_ids = std::move(eos);
  }
  if (!status.ok()) return status;
  return config;
}

}  // namespace octogate::workers

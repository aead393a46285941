#include "workers/model/encoder_config.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "workers/model/config.h"
#include "workers/model/config_fields.h"
#include "workers/model/json_file.h"

namespace octogate::workers {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kMaxFileBytes = 4 << 20;
constexpr size_t kMaxModules = 16;

// Empty where there is no such file.
absl::StatusOr<std::string> ReadOptional(const fs::path& path) {
  absl::StatusOr<std::string> text = ReadSmallFile(path, kMaxFileBytes);
  if (absl::IsNotFound(text.status())) return std::string();
  return text;
}

void ParseArchitecture(ConfigFields& fields, EncoderConfig& config) {
  if (const std::string type = fields.String("model_type").value_or("bert"); type != "bert") {
    fields.Fail(absl::StatusCode::kUnimplemented,
                absl::StrCat("model_type ", JsonExcerpt(json(type)),
                             " is no supported encoder; supported is \"bert\""));
  }
  config.hidden_size = fields.Int("hidden_size", 1, kMaxHiddenSize);
  config.intermediate_size = fields.Int("intermediate_size", 1, kMaxHiddenSize * 8);
  config.num_layers = fields.Int("num_hidden_layers", 1, kMaxLayers);
  config.num_heads = fields.Int("num_attention_heads", 1, kMaxHeads);
  config.vocab_size = fields.Int("vocab_size", 1, kMaxVocabSize);
  config.max_position_embeddings = fields.Int("max_position_embeddings", 1, kMaxContext, 512);
  config.type_vocab_size = fields.Int("type_vocab_size", 1, kMaxVocabSize, 2);
  config.layer_norm_eps = fields.Float("layer_norm_eps", 0.0, 1.0, 1e-12f);
  config.max_tokens = config.max_position_embeddings;
  if (config.num_heads > 0 && config.hidden_size % config.num_heads != 0) {
    fields.FailInvalid(absl::StrCat("\"num_attention_heads\" (", config.num_heads,
                                    ") does not divide \"hidden_size\" (", config.hidden_size,
                                    ")"));
  } else {
    config.head_dim = config.hidden_size / std::max(config.num_heads, 1);
  }

  const std::string activation = fields.String("hidden_act").value_or("gelu");
  config.tanh_gelu = activation == "gelu_new" || activation == "gelu_pytorch_tanh";
  if (activation != "gelu" && !config.tanh_gelu) {
    fields.Fail(absl::StatusCode::kUnimplemented,
                absl::StrCat("\"hidden_act\" ", JsonExcerpt(json(activation)),
                             " is not supported; supported are \"gelu\", \"gelu_new\" and "
                             "\"gelu_pytorch_tanh\""));
  }
  const std::string positions = fields.String("position_embedding_type").value_or("absolute");
  if (positions != "absolute") {
    fields.Fail(absl::StatusCode::kUnimplemented,
                absl::StrCat("\"position_embedding_type\" ", JsonExcerpt(json(positions)),
                             " is not supported; supported is \"absolute\""));
  }
  if (fields.Bool("is_decoder", false)) {
    fields.Fail(absl::StatusCode::kUnimplemented, "\"is_decoder\" is true; encoders only");
  }
  if (fields.Find("quantization_config") != nullptr) {
    fields.Fail(absl::StatusCode::kUnimplemented,
                "\"quantization_config\" is given, and quantized weights are not supported; use "
                "the F32, F16 or BF16 checkpoint");
  }
}

absl::Status ParsePooling(std::string_view text, const std::string& source, EncoderConfig& config) {
  OCTOGATE_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, source));
  absl::Status status;
  ConfigFields fields(object, source + ": ", status);
  const int width = fields.Int("word_embedding_dimension", 1, kMaxHiddenSize, config.hidden_size);
  if (width != config.hidden_size) {
    fields.FailInvalid(absl::StrCat("\"word_embedding_dimension\" is ", width,
                                    "; the model's hidden size is ", config.hidden_size));
  }
  std::vector<std::string> modes;
  for (const auto& [key, value] : object.items()) {
    if (!key.starts_with("pooling_mode_")) continue;
    if (fields.Bool(key.c_str(), false)) modes.push_back(key);
  }
  // Files of sentence-transformers since 5.3 name the mode instead.
  if (const std::optional<std::string> mode = fields.String("pooling_mode"); mode.has_value()) {
    modes.push_back(absl::StrCat("pooling_mode_", *mode, *mode == "weightedmean" ? "" : "_tokens"));
    if (*mode == "cls") modes.back() = "pooling_mode_cls_token";
  }
  if (modes.size() == 1 && modes.front() == "pooling_mode_mean_tokens") {
    config.pooling = Pooling::kMean;
  } else if (modes.size() == 1 && modes.front() == "pooling_mode_cls_token") {
    config.pooling = Pooling::kCls;
  } else {
    std::string list;
    for (const std::string& mode : modes) absl::StrAppend(&list, list.empty() ? "" : ", ", mode);
    fields.Fail(absl::StatusCode::kUnimplemented,
                absl::StrCat("the pooling is ", modes.empty() ? "none" : list,
                             "; supported are pooling_mode_mean_tokens or pooling_mode_cls_token "
                             "alone"));
  }
  return status;
}

absl::Status ParseSentenceConfig(std::string_view text, const std::string& source,
                                 EncoderConfig& config) {
  OCTOGATE_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, source));
  absl::Status status;
  ConfigFields fields(object, source + ": ", status);
  const int max_tokens = fields.Int("max_seq_length", 1, kMaxContext, config.max_tokens);
  config.max_tokens = std::min(config.max_tokens, max_tokens);
  return status;
}

// A folder inside the checkpoint's: one name.
bool IsPlainName(const std::string& path) {
  return !path.empty() && path != "." && path != ".." && path.size() < 256 &&
         path.find('/') == std::string::npos && path.find('\0') == std::string::npos;
}

absl::Status ParseModules(std::string_view text, const std::string& source,
                          const fs::path& directory, EncoderConfig& config) {
  OCTOGATE_ASSIGN_OR_RETURN(const json list, ParseJson(text, source));
  if (!list.is_array() || list.empty() || list.size() > kMaxModules) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": expected a list of 1 to ", kMaxModules, " modules"));
  }
  bool pooled = false;
  for (size_t i = 0; i < list.size(); ++i) {
    absl::Status status;
    const std::string prefix = absl::StrCat(source, ": module ", i, ": ");
    if (!list[i].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(prefix, "expected a JSON object"));
    }
    ConfigFields fields(list[i], prefix, status);
    const std::string type = fields.String("type").value_or("");
    std::string path = fields.String("path").value_or("");
    OCTOGATE_RETURN_IF_ERROR(status);
    const std::string name =
        type.substr(type.rfind('.') == std::string::npos ? 0 : type.rfind('.') + 1);
    if (name == "Transformer" && i == 0) {
      if (!path.empty()) {
        return absl::UnimplementedError(absl::StrCat(prefix, "the transformer's files are in ",
                                                     QuotedForError(path),
                                                     "; they must be in the folder itself"));
      }
    } else if (name == "Pooling" && i == 1) {
      if (!IsPlainName(path)) {
        return absl::InvalidArgumentError(absl::StrCat(prefix, "\"path\" is ", QuotedForError(path),
                                                       "; expected a folder's name"));
      }
      const fs::path file = directory / path / "config.json";
      OCTOGATE_ASSIGN_OR_RETURN(const std::string pooling, ReadSmallFile(file, kMaxFileBytes));
      OCTOGATE_RETURN_IF_ERROR(ParsePooling(pooling, file.string(), config));
      pooled = true;
    } else if (name != "Normalize" || i < 2) {
      return absl::UnimplementedError(
          absl::StrCat(prefix, "the type ", QuotedForError(type),
                       " is not supported there; supported are Transformer, Pooling and, at the "
                       "end, Normalize"));
    }
  }
  if (!pooled) return absl::UnimplementedError(absl::StrCat(source, ": no module is a Pooling"));
  return absl::OkStatus();
}

}  // namespace

std::string_view PoolingName(Pooling pooling) { return pooling == Pooling::kMean ? "mean" : "cls"; }

absl::StatusOr<bool> IsEncoderFolder(const fs::path& directory) {
  const fs::path path = directory / "config.json";
  OCTOGATE_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxFileBytes));
  OCTOGATE_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, path.string()));
  const auto type = object.find("model_type");
  return type != object.end() && *type == "bert";
}

absl::StatusOr<EncoderConfig> ReadEncoderConfig(const fs::path& directory) {
  const std::string path = (directory / "config.json").string();
  OCTOGATE_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxFileBytes));
  OCTOGATE_ASSIGN_OR_RETURN(const json object, ParseJsonObject(text, path));
  EncoderConfig config;
  absl::Status status;
  ConfigFields fields(object, path + ": ", status);
  ParseArchitecture(fields, config);
  OCTOGATE_RETURN_IF_ERROR(status);

  const fs::path sentence = directory / "sentence_bert_config.json";
  OCTOGATE_ASSIGN_OR_RETURN(const std::string sentence_text, ReadOptional(sentence));
  if (!sentence_text.empty()) {
    OCTOGATE_RETURN_IF_ERROR(ParseSentenceConfig(sentence_text, sentence.string(), config));
  }
  const fs::path modules = directory / "modules.json";
  OCTOGATE_ASSIGN_OR_RETURN(const std::string modules_text, ReadOptional(modules));
  if (!modules_text.empty()) {
    OCTOGATE_RETURN_IF_ERROR(ParseModules(modules_text, modules.string(), directory, config));
  }
  return config;
}

}  // namespace octogate::workers

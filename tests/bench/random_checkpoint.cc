#include "tests/bench/random_checkpoint.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace octogate::bench {
namespace {

struct Tensor {
  std::string name;
  int64_t rows = 0;  // 0: a vector
  int64_t cols = 0;

  uint64_t bytes() const { return 2 * static_cast<uint64_t>(std::max<int64_t>(rows, 1) * cols); }
};

std::vector<Tensor> Tensors(const RandomCheckpoint& shape) {
  const int64_t h = shape.hidden_size;
  const int64_t m = shape.intermediate_size;
  const int64_t q = int64_t{shape.num_heads} * shape.head_dim;
  const int64_t kv = int64_t{shape.num_kv_heads} * shape.head_dim;
  std::vector<Tensor> tensors = {{"model.embed_tokens.weight", shape.vocab_size, h},
                                 {"lm_head.weight", shape.vocab_size, h},
                                 {"model.norm.weight", 0, h}};
  for (int i = 0; i < shape.num_layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    tensors.push_back({layer + "input_layernorm.weight", 0, h});
    tensors.push_back({layer + "self_attn.q_proj.weight", q, h});
    tensors.push_back({layer + "self_attn.k_proj.weight", kv, h});
    tensors.push_back({layer + "self_attn.v_proj.weight", kv, h});
    tensors.push_back({layer + "self_attn.o_proj.weight", h, q});
    tensors.push_back({layer + "post_attention_layernorm.weight", 0, h});
    tensors.push_back({layer + "mlp.gate_proj.weight", m, h});
    tensors.push_back({layer + "mlp.up_proj.weight", m, h});
    tensors.push_back({layer + "mlp.down_proj.weight", h, m});
  }
  return tensors;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const workers::Checkpoint>> OpenRandomCheckpoint(
    const RandomCheckpoint& shape, const std::filesystem::path& folder) {
  OCTOGATE_RETURN_IF_ERROR(WriteRandomCheckpoint(shape, folder));
  OCTOGATE_ASSIGN_OR_RETURN(workers::Checkpoint checkpoint, workers::Checkpoint::Open(folder));
  return std::make_shared<const workers::Checkpoint>(std::move(checkpoint));
}

uint64_t BytesPerToken(const RandomCheckpoint& shape) {
  uint64_t bytes = 0;
  for (const Tensor& tensor : Tensors(shape)) {
    if (tensor.name != "model.embed_tokens.weight") bytes += tensor.bytes();
  }
  return bytes;
}

absl::Status WriteRandomCheckpoint(const RandomCheckpoint& shape,
                                   const std::filesystem::path& folder) {
  const nlohmann::json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"hidden_size", shape.hidden_size},
                                 {"intermediate_size", shape.intermediate_size},
                                 {"num_hidden_layers", shape.num_layers},
                                 {"num_attention_heads", shape.num_heads},
                                 {"num_key_value_heads", shape.num_kv_heads},
                                 {"head_dim", shape.head_dim},
                                 {"vocab_size", shape.vocab_size},
                                 {"max_position_embeddings", shape.max_position_embeddings},
                                 {"rms_norm_eps", 1e-5},
                                 {"rope_theta", 10000.0},
                                 {"hidden_act", "silu"},
                                 {"tie_word_embeddings", false},
                                 {"torch_dtype", "bfloat16"}};
  std::ofstream(folder / "config.json") << config.dump(2);

  nlohmann::ordered_json header;
  uint64_t offset = 0;
  const std::vector<Tensor> tensors = Tensors(shape);
  for (const Tensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", "BF16"}, {"data_offsets", {offset, offset + tensor.bytes()}}};
    header[tensor.name]["shape"] = tensor.rows == 0
                                       ? std::vector<int64_t>{tensor.cols}
                                       : std::vector<int64_t>{tensor.rows, tensor.cols};
    offset += tensor.bytes();
  }
  const std::string text = header.dump();
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  const uint64_t length = text.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file << text;

  // Values of ±(1/64 … 1/32): a sign, a fixed exponent, a random mantissa.
  uint64_t state = 88172645463325252u;  // xorshift64, Marsaglia 2003
  std::vector<uint16_t> values;
  for (const Tensor& tensor : tensors) {
    values.resize(tensor.bytes() / 2);
    for (uint16_t& value : values) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      value = static_cast<uint16_t>(0x3C80 | (state & 0x807F));
    }
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(tensor.bytes()));
  }
  file.close();
  if (!file) return absl::ResourceExhaustedError(absl::StrCat("cannot write ", folder.string()));
  return absl::OkStatus();
}

}  // namespace octogate::bench

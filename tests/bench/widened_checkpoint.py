"""A checkpoint that answers like a small model and takes the time of a large one.

    widened_checkpoint.py SMALL LARGE [--layers=16] [--hidden=1024] [--intermediate=4096] [--noise=0]

Widens a Llama folder by zeros: hidden states get dimensions that stay zero, layers get neurons that give nothing, and
behind the layers come others that add nothing. What is computed is the small model's function, but for rounding to BF16,
in products of the large one's shapes. So there is a pair of models whose drafts are right where no large one of a family
is at hand. --noise=S adds normal noise of S times their standard deviation to the weights of the output, which makes drafts
wrong now and then. Takes numpy and safetensors (tests/fixtures/requirements.txt).
"""

import argparse
import json
import pathlib
import shutil

import numpy as np
from safetensors.numpy import load_file


def widened(array, shape):
    wide = np.zeros(shape, dtype=np.float32)
    wide[tuple(slice(size) for size in array.shape)] = array
    return wide


def to_bf16(array):
    bits = array.astype(np.float32).view(np.uint32)
    # To the nearest, of two the even one.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def save_bf16(tensors, path):
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + 2 * tensor.size
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(to_bf16(tensor).tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("small", type=pathlib.Path)
    parser.add_argument("large", type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--intermediate", type=int, default=4096)
    parser.add_argument("--noise", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    config = json.loads((arguments.small / "config.json").read_text())
    small = load_file(arguments.small / "model.safetensors")
    hidden, old_hidden = arguments.hidden, config["hidden_size"]
    intermediate = arguments.intermediate
    heads = config["num_attention_heads"] * config["head_dim"]
    kv_heads = config["num_key_value_heads"] * config["head_dim"]
    # The mean square of a state is over more dimensions.
    scale = (old_hidden / hidden) ** 0.5
    random = np.random.default_rng(arguments.seed)

    tensors = {}
    embedding = small["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = widened(embedding, (len(embedding), hidden))
    output = embedding if config.get("tie_word_embeddings") else small["lm_head.weight"]
    noise = random.normal(0, arguments.noise * output.std(), output.shape)
    tensors["lm_head.weight"] = widened(output + noise, (len(output), hidden))
    tensors["model.norm.weight"] = widened(small["model.norm.weight"] * scale, (hidden,))
    for layer in range(arguments.layers):
        real = layer < config["num_hidden_layers"]
        name = f"model.layers.{layer}."

        def put(key, shape, factor=1, gives=False):
            if real:
                tensor = widened(small[name + key] * factor, shape)
            elif gives:  # and so the layer adds nothing
                tensor = np.zeros(shape, dtype=np.float32)
            else:
                tensor = random.normal(0, 0.02, shape)
            tensors[name + key] = tensor

        put("input_layernorm.weight", (hidden,), scale)
        put("post_attention_layernorm.weight", (hidden,), scale)
        put("self_attn.q_proj.weight", (heads, hidden))
        put("self_attn.k_proj.weight", (kv_heads, hidden))
        put("self_attn.v_proj.weight", (kv_heads, hidden))
        put("self_attn.o_proj.weight", (hidden, heads), gives=True)
        put("mlp.gate_proj.weight", (intermediate, hidden))
        put("mlp.up_proj.weight", (intermediate, hidden))
        put("mlp.down_proj.weight", (hidden, intermediate), gives=True)

    config.update(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=arguments.layers,
        rms_norm_eps=config["rms_norm_eps"] * old_hidden / hidden,
        tie_word_embeddings=False,
        torch_dtype="bfloat16",
    )
    arguments.large.mkdir(parents=True, exist_ok=True)
    for file in arguments.small.iterdir():
        if file.name not in ("config.json", "model.safetensors"):
            shutil.copy(file, arguments.large)
    (arguments.large / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_bf16(tensors, arguments.large / "model.safetensors")


if __name__ == "__main__":
    main()

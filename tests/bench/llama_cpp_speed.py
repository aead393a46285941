#!/usr/bin/env python3
"""Speed of llama.cpp on a Llama checkpoint folder, for the benchmarks to be measured beside.

    llama_cpp_speed.py MODEL_FOLDER WORK_FOLDER < requests > answers

Reads one JSON object a line, {"format": "bf16" | "q8_0" | "q4_0", "threads": N, "batch": N,
"prompt": N, "answer": N, "repetitions": N}, and answers each with one line,
{"prompt_seconds", "decode_seconds", "ids"}: the least of the repetitions for `batch` equal
sequences, each of `prompt` tokens and then `answer` steps of greedy decoding, and the ids that the
first sequence was answered with. The model is converted to GGUF in WORK_FOLDER, and quantised by
llama.cpp itself.
"""

import contextlib
import ctypes
import json
import os
import sys
import time
from pathlib import Path

import gguf
import llama_cpp
import numpy

FILE_TYPES = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}
LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "lm_head.weight": "output.weight",
    "model.norm.weight": "output_norm.weight",
}


def read_safetensors(path):
    """Yields (name, shape, BF16 values as uint16)."""
    data = numpy.memmap(path, dtype=numpy.uint8, mode="r")
    length = int(data[:8].view(numpy.uint64)[0])
    for name, entry in json.loads(bytes(data[8 : 8 + length])).items():
        if name == "__metadata__":
            continue
        if entry["dtype"] != "BF16":
            sys.exit(f"{path}: {name} is {entry['dtype']}; only BF16 is converted")
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        yield name, entry["shape"], data[begin:end].view(numpy.uint16)


def gguf_name(name):
    if name in TENSORS:
        return TENSORS[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{LAYER_TENSORS[rest.removesuffix('.weight')]}.weight"


def interleave_rotary(values, heads):
    """Rows of a projection from Hugging Face's order of rotated pairs, (i, i + half), to GGUF's, (2i, 2i + 1)."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def convert(folder, path):
    config = json.loads((folder / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    writer.add_file_type(llama_cpp.LLAMA_FTYPE_MOSTLY_BF16)
    for name, shape, bits in read_safetensors(folder / "model.safetensors"):
        values = bits.reshape(shape)
        if name.endswith("q_proj.weight"):
            values = interleave_rotary(values, heads)
        elif name.endswith("k_proj.weight"):
            values = interleave_rotary(values, kv_heads)
        if len(shape) == 1:
            writer.add_tensor(gguf_name(name), (values.astype(numpy.uint32) << 16).view(numpy.float32))
        else:
            writer.add_tensor(
                gguf_name(name),
                numpy.ascontiguousarray(values).view(numpy.uint8),
                raw_dtype=gguf.GGMLQuantizationType.BF16,
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_file(folder, work, file_format):
    path = work / f"{file_format}.gguf"
    if path.exists():
        return path
    if file_format == "bf16":
        convert(folder, path)
        return path
    source = gguf_file(folder, work, "bf16")
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = FILE_TYPES[file_format]
    parameters.pure = True  # the same format for every matrix
    if llama_cpp.llama_model_quantize(str(source).encode(), str(path).encode(), ctypes.byref(parameters)) != 0:
        sys.exit(f"llama.cpp cannot quantise {source} to {file_format}")
    return path


def decode(context, tokens, positions, sequences, wanted):
    """One pass over rows; logits of those that are `wanted`."""
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, (token, position, sequence, want) in enumerate(zip(tokens, positions, sequences, wanted)):
        batch.token[i] = token
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = want
    status = llama_cpp.llama_decode(context, batch)
    llama_cpp.llama_batch_free(batch)
    if status != 0:
        sys.exit(f"llama_decode failed with {status}")


def best_id(context, row, vocabulary):
    logits = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, row), (vocabulary,))
    return int(logits.argmax())


def measure(model, vocabulary, request):
    batch, prompt, answer = request["batch"], request["prompt"], request["answer"]
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = batch * (prompt + answer + 1)
    parameters.n_batch = max(batch * prompt, 32)
    parameters.n_ubatch = 512
    parameters.n_seq_max = batch
    parameters.n_threads = parameters.n_threads_batch = request["threads"]
    parameters.type_k = parameters.type_v = llama_cpp.GGML_TYPE_F16
    context = llama_cpp.llama_init_from_model(model, parameters)
    best = {"prompt_seconds": float("inf"), "decode_seconds": float("inf")}
    for _ in range(request["repetitions"]):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        ids = [[1 + (s * 31 + t * 7) % 300 for t in range(prompt)] for s in range(batch)]
        rows = [(ids[s][t], t, s, t + 1 == prompt) for s in range(batch) for t in range(prompt)]
        begin = time.perf_counter()
        decode(context, *zip(*rows))
        last = [best_id(context, (s + 1) * prompt - 1, vocabulary) for s in range(batch)]
        best["prompt_seconds"] = min(best["prompt_seconds"], time.perf_counter() - begin)
        answers = [[token] for token in last]
        begin = time.perf_counter()
        for step in range(answer):
            decode(context, last, [prompt + step] * batch, range(batch), [1] * batch)
            last = [best_id(context, s, vocabulary) for s in range(batch)]
            for s in range(batch):
                answers[s].append(last[s])
        best["decode_seconds"] = min(best["decode_seconds"], time.perf_counter() - begin)
        best["ids"] = answers[0]
    llama_cpp.llama_free(context)
    return best


def main():
    folder, work = Path(sys.argv[1]), Path(sys.argv[2])
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    # llama.cpp talks on both streams; the answers go where standard output went.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    log = llama_cpp.llama_log_callback(lambda level, text, data: None)
    llama_cpp.llama_log_set(log, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    models = {}
    for line in sys.stdin:
        request = json.loads(line)
        file_format = request["format"]
        if file_format not in models:
            path = gguf_file(folder, work, file_format)
            parameters = llama_cpp.llama_model_default_params()
            # Its products on AMX crash (github.com/ggml-org/llama.cpp/issues/20824); without the
            # buffers that they take it uses AVX-512 with VNNI.
            parameters.use_extra_bufts = b"AMX_INT8 = 1" not in llama_cpp.llama_print_system_info()
            models[file_format] = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
            if not models[file_format]:
                sys.exit(f"llama.cpp cannot load {path}")
        print(json.dumps(measure(models[file_format], vocabulary, request)), file=answers, flush=True)


if __name__ == "__main__":
    main()

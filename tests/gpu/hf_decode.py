#!/usr/bin/env python3
"""Decoding at batch 1 by Hugging Face transformers, to set step_bench's figures beside.

  hf_decode.py [--beside=step_bench.figures.json] [--json-to=PATH]

The model is step_bench's: Llama-3-8B's shapes with random weights in BF16. It decodes as
transformers' own guide says it does fastest: a static cache and a compiled forward pass
(torch.compile, mode "reduce-overhead": CUDA graphs), which newer versions see to by themselves
where the cache is static. What is measured is the time that more new
tokens take, prompt and start left out; the median of several runs behind those that compile.

Prints what tests/bench/report.h prints, and exits as its programs do: 0 where all was measured,
whatever the aims say; 1 where step_bench has not left a figure to set beside; 3 where no GPU
answers.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

CONTEXT = 1024
FEW, MANY = 8, 136  # new tokens of the two runs whose times are subtracted
WARM_RUNS, RUNS = 3, 5
OURS = {  # step_bench's figures at this batch and context, and the least ratio that is aimed at
    "bf16, kv bf16: decode, batch 1, context 1 Ki": 3.0,
    "fp8, kv fp8: decode, batch 1, context 1 Ki": None,
    "int4-group, kv int8: decode, batch 1, context 1 Ki": None,
}
MODEL = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}


def make_model(device):
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = LlamaForCausalLM(LlamaConfig(**MODEL)).eval()
    generation = model.generation_config
    generation.eos_token_id = None  # answers have the length that is asked for
    generation.pad_token_id = 0
    generation.cache_implementation = "static"
    if not hasattr(model, "get_compiled_call"):
        model.forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True)
    return model


def seconds(model, prompt, count):
    torch.cuda.synchronize()
    begin = time.perf_counter()
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        min_new_tokens=count,
        max_new_tokens=count,
    )
    torch.cuda.synchronize()
    elapsed = time.perf_counter() - begin
    assert out.shape[1] == prompt.shape[1] + count
    return elapsed


def tokens_per_second(model):
    prompt = torch.randint(1, MODEL["vocab_size"], (1, CONTEXT), device="cuda")
    for count in (MANY, FEW) * WARM_RUNS:
        seconds(model, prompt, count)
    token = statistics.median(
        (seconds(model, prompt, MANY) - seconds(model, prompt, FEW)) / (MANY - FEW)
        for _ in range(RUNS)
    )
    return 1 / token


def figures_of(theirs, ours):
    """`ours`: values of step_bench by name."""
    names = {"name": f"decode, batch 1, context {CONTEXT // 1024} Ki, bf16", "value": theirs}
    rows = [{**names, "unit": "tokens/s", "beside": None, "ratio": None, "aim": None, "met": None}]
    for name, aim in OURS.items():
        if name not in ours:
            continue
        ratio = ours[name] / theirs
        rows.append(
            {
                "name": "step_bench, " + name,
                "value": ours[name],
                "unit": "tokens/s",
                "beside": "transformers, compiled, bf16",
                "ratio": ratio,
                "aim": None if aim is None else f"ratio >= {aim:g}",
                "met": None if aim is None else ratio >= aim,
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", help="step_bench's --json-to file of the same run")
    parser.add_argument("--json-to")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("hf_decode: no GPU answers; nothing was measured", file=sys.stderr)
        return 3
    ours, missing = {}, []
    if options.beside:
        if os.path.exists(options.beside):
            with open(options.beside, encoding="utf-8") as file:
                ours = {row["name"]: row["value"] for row in json.load(file)["figures"]}
        missing = [name for name in OURS if name not in ours]
    with torch.inference_mode():
        theirs = tokens_per_second(make_model("cuda"))
    report = {
        "bench": "hf_decode",
        "commit": os.environ.get("OCTOGATE_COMMIT", "unknown"),
        "machine": os.environ.get("OCTOGATE_DEVICE") or torch.cuda.get_device_name(),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "figures": figures_of(theirs, ours),
    }
    print(f"{report['bench']} at {report['commit']} on {report['machine']}, {report['date']}")
    for row in report["figures"]:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} of {row['beside']}"
        met = "" if row["met"] is None else f"{row['aim']}: {'yes' if row['met'] else 'NO'}"
        print(f"{row['name']:<64} {row['value']:>9.1f} {row['unit']}  {ratio}  {met}".rstrip())
    if options.json_to:
        with open(options.json_to + ".part", "w", encoding="utf-8") as file:
            json.dump(report, file)
            file.write("\n")
        os.replace(options.json_to + ".part", options.json_to)
    for name in missing:
        print(f"hf_decode: {options.beside} lacks '{name}'", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Writes what octogate-mini may be asked, one request a line, for speculation_live_bench --model.

  speculation_prompts.py MODEL DATA OUT.jsonl

A line is {"task", "prompt": [ids], "output": [ids]}; the output is what people have written, which
only a store of drafts is made of: the model answers for itself.
- shell: instructions of tldr-pages, and their commands as output.
- explain: the commands, and the instructions as output.
- route: the instructions, and questions of grade school, in turn; no output.

The model was trained on most of the pairs, so its answers are like those of its training.
"""
import json
import subprocess
import sys

from tokenizers import Tokenizer

COUNT = 128  # of a task


def main(model, data, out):
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    pairs = subprocess.run(["zstd", "-dc", "--long=27", f"{data}/text/tldr_pairs.jsonl.zst"],
                           check=True, capture_output=True).stdout.decode().splitlines()
    pairs = [json.loads(line) for line in pairs if line.strip()]
    pairs = [pair for pair in pairs if pair["platform"] in ("common", "linux")]
    pairs = pairs[::max(1, len(pairs) // COUNT)][:COUNT]
    with open(f"{data}/text/gsm8k_train.jsonl", encoding="utf-8") as file:
        questions = [json.loads(line)["question"] for line, _ in zip(file, range(COUNT))]
    with open(out, "w", encoding="utf-8") as file:
        def write(task, system, query, answer):
            prompt = f"<|system|>{system}<|end|><|user|>{query}<|end|><|assistant|>"
            request = {"task": task, "prompt": encode(prompt)[:400], "output": encode(answer)}
            file.write(json.dumps(request) + "\n")

        for i, (pair, question) in enumerate(zip(pairs, questions)):
            command = pair["command"].replace("{{", "").replace("}}", "")
            write("shell", "shell", pair["instruction"], command)
            write("explain", "explain", command, pair["instruction"])
            write("route", "route", question if i % 4 > 1 else pair["instruction"], "")


if __name__ == "__main__":
    main(*sys.argv[1:])

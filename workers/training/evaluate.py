#!/usr/bin/env python3
"""Scores a Hugging Face folder on held-out examples and on handwritten queries, and prints Markdown tables.

Exact match means that greedy decoding gives the wanted answer, every character of it. On heldout.jsonl it is found in one
pass (all argmaxes along the wanted answer are right); handwritten queries may have several right answers and are decoded.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

import example
from batches import collate, encode
from evaluation_sets import read_handwritten
from example import END, Example

HERE = Path(__file__).resolve().parent


def name_of(e: Example) -> str:
    """The system, and for routes the wanted node."""
    return f"route to {e.assistant[4:].split('>')[0]}" if e.system == "route" else e.system


@torch.no_grad()
def score(model: LlamaForCausalLM, tokenizer: Tokenizer, examples: list[Example]) -> tuple[float, float]:
    """(share whose first token is right, share whose whole answer is right)."""
    first = whole = 0
    encoded = encode(tokenizer, examples, model.config.max_position_embeddings)
    for start in range(0, len(encoded), 50):
        batch = collate(encoded[start : start + 50])
        best = model(input_ids=batch.ids, use_cache=False).logits.argmax(-1)
        wrong = (best != batch.targets) & (batch.targets >= 0)
        whole += int((~wrong.any(dim=1)).sum())
        for row, e in enumerate(encoded[start : start + 50]):
            first += int(not wrong[row, e.prompt - 1])
    return first / len(encoded), whole / len(encoded)


@torch.no_grad()
def answer(model: LlamaForCausalLM, tokenizer: Tokenizer, system: str, query: str, limit: int = 128) -> str:
    """The greedy answer up to the end token, functional tokens included."""
    ids = tokenizer.encode(Example(system, query, "", "").prompt()).ids
    end = tokenizer.token_to_id(END)
    out = model.generate(torch.tensor([ids]), max_new_tokens=limit, do_sample=False, eos_token_id=end, pad_token_id=end)
    return tokenizer.decode(out[0, len(ids):].tolist(), skip_special_tokens=False).removesuffix(END)


def node_of(text: str) -> str:
    return text.split(">", 1)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--heldout", type=Path, help="heldout.jsonl of make_data.py")
    parser.add_argument("--handwritten", type=Path, default=HERE / "handwritten.tsv")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = LlamaForCausalLM.from_pretrained(args.model, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))

    if args.heldout:
        groups: dict[tuple[str, str], list[Example]] = defaultdict(list)
        for e in example.read(args.heldout):
            groups[(name_of(e), e.kind)].append(e)
        print("| skill | held-out kind | examples | node right | exact match |\n|---|---|---|---|---|")
        for (skill, kind), group in groups.items():
            first, whole = score(model, tokenizer, group)
            node = f"{first:.1%}" if skill.startswith("route") else ""
            print(f"| {skill} | {kind} | {len(group)} | {node} | {whole:.1%} |", flush=True)
        print()

    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    misses = []
    for system, query, wanted in read_handwritten(args.handwritten):
        got = answer(model, tokenizer, system, query)
        skill = name_of(Example(system, query, wanted[0], ""))
        counts[skill][0] += 1
        counts[skill][1] += node_of(got) == node_of(wanted[0])
        counts[skill][2] += got in wanted
        if got not in wanted:
            misses.append(f"- {system}: `{query}` gave `{got}`, wanted `{wanted[0]}`")
    print("| skill | handwritten | node right | exact match |\n|---|---|---|---|")
    for skill, (total, node, whole) in counts.items():
        print(f"| {skill} | {total} | {node if skill.startswith('route') else ''} | {whole} |")
    print("\n" + "\n".join(misses))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains the model on the output of make_data.py and keeps a resumable checkpoint.

The learning rate follows a cosine over --tokens training tokens; --minutes bounds the time as well (of
this run, when resumed), and where the machine
is too slow for the tokens the cosine follows the clock, so that a run always ends with its rate near zero.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

import example
from batches import Batch, Encoded, batches, collate, encode
from example import END
from tokenization import save_tokenizer, train_tokenizer


def make_model(vocabulary: int, args: argparse.Namespace, end: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=args.hidden,
        intermediate_size=args.intermediate,
        num_hidden_layers=args.layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=args.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=end,
        # On a CPU and for short sequences plain matrix products train faster than the fused kernel.
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def loss_and_correct(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss over the predicted tokens, and per example whether greedy decoding would give exactly its answer."""
    mask = batch.targets >= 0
    wanted = batch.targets[mask]
    places = mask.flatten().nonzero().squeeze(1)
    # The number of predicted tokens is rounded up: the matrix library keeps a kernel for every shape it meets.
    spare = -len(places) % 256
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = model.model(input_ids=batch.ids, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden.flatten(0, 1)[F.pad(places, (0, spare))])
    loss = F.cross_entropy(logits.float(), F.pad(wanted, (0, spare), value=-100))
    right = torch.ones_like(batch.targets, dtype=torch.bool)
    right[mask] = logits.detach()[: len(wanted)].argmax(-1) == wanted
    return loss, right.all(dim=1)


@torch.no_grad()
def validate(model: LlamaForCausalLM, sets: dict[str, list[Encoded]]) -> dict[str, float]:
    """Exact match by set. Teacher forcing suffices: all argmaxes right is greedy decoding giving the answer."""
    model.eval()
    scores = {}
    for name, examples in sets.items():
        right = [loss_and_correct(model, collate(part))[1] for part in (examples[i : i + 50] for i in range(0, len(examples), 50))]
        scores[name] = round(torch.cat(right).float().mean().item(), 3)
    model.train()
    return scores


def save(folder: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, tokens: int, steps: int, progress: float) -> None:
    model.save_pretrained(folder)
    state = folder / "trainer.pt"
    torch.save({"optimizer": optimizer.state_dict(), "tokens": tokens, "steps": steps, "progress": progress}, f"{state}.new")
    os.replace(f"{state}.new", state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and heldout.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--tokens", type=int, default=18_000_000)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--batch-tokens", type=int, default=1536)
    parser.add_argument("--rate", type=float, default=1.6e-3)
    parser.add_argument("--warmup", type=int, default=150, help="steps")
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--intermediate", type=int, default=704)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)

    examples = list(example.read(args.data / "train.jsonl"))
    if args.resume:
        tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    else:
        tokenizer = train_tokenizer(examples, args.vocabulary)
        save_tokenizer(tokenizer, args.out, args.context)
    train = encode(tokenizer, examples, args.context)
    held_out: dict[str, list[example.Example]] = {}
    for e in example.read(args.data / "heldout.jsonl"):
        held_out.setdefault(f"{e.system}/{e.assistant[4:].split('>')[0]}/{e.kind}" if e.system == "route" else f"{e.system}/{e.kind}", []).append(e)
    tests = {name: encode(tokenizer, part[:100], args.context) for name, part in held_out.items()}
    print(f"{len(train)} examples, {sum(len(e.ids) for e in train)} tokens, vocabulary {tokenizer.get_vocab_size()}", flush=True)

    end = tokenizer.token_to_id(END)
    model = LlamaForCausalLM.from_pretrained(args.out, attn_implementation="eager", dtype=torch.float32) if args.resume else make_model(tokenizer.get_vocab_size(), args, end)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=args.rate, betas=(0.9, 0.98), fused=True,
    )
    tokens = steps = 0
    done = 0.0
    if args.resume:
        state = torch.load(args.out / "trainer.pt")
        optimizer.load_state_dict(state["optimizer"])
        tokens, steps, done = state["tokens"], state["steps"], state["progress"]
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)

    start = last_save = last_log = time.monotonic()
    tokens_at_log, losses, progress = tokens, [], done
    for batch in batches(train, args.batch_tokens, random.Random(args.seed + steps)):
        progress = max(tokens / args.tokens, done + (1 - done) * (time.monotonic() - start) / 60 / args.minutes)
        if progress >= 1:
            break
        rate = args.rate * min(1, (steps + 1) / args.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss, _ = loss_and_correct(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens, steps = tokens + batch.tokens, steps + 1
        losses.append(loss.item())
        now = time.monotonic()
        if steps % 50 == 0:
            speed = (tokens - tokens_at_log) / (now - last_log)
            print(f"step {steps} tokens {tokens} loss {sum(losses) / len(losses):.4f} rate {rate:.2e} {speed:.0f} tokens/s {progress:.1%}", flush=True)
            last_log, tokens_at_log, losses = now, tokens, []
        if now - last_save > args.save_minutes * 60:
            save(args.out, model, optimizer, tokens, steps, progress)
            print(json.dumps(validate(model, tests)), flush=True)
            last_save = time.monotonic()
    save(args.out, model, optimizer, tokens, steps, progress)
    print(json.dumps(validate(model, tests)), flush=True)
    print(f"{tokens} tokens in {steps} steps", flush=True)


if __name__ == "__main__":
    main()

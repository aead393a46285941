"""Tokenised examples, bucketed by length so that little time goes into padding."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from example import END, Example


@dataclass(frozen=True)
class Encoded:
    ids: list[int]
    prompt: int  # the first `prompt` ids are not predicted


@dataclass(frozen=True)
class Batch:
    """`ids` is [examples, longest], padded at the end; `targets` likewise, -100 where nothing is to be predicted."""

    ids: torch.Tensor
    targets: torch.Tensor
    tokens: int


def encode(tokenizer: Tokenizer, examples: Iterable[Example], context: int) -> list[Encoded]:
    """Examples longer than the context are left out."""
    encoded = []
    examples = list(examples)
    for start in range(0, len(examples), 10_000):
        part = examples[start : start + 10_000]
        prompts = tokenizer.encode_batch_fast([e.prompt() for e in part])
        answers = tokenizer.encode_batch_fast([e.assistant + END for e in part])
        encoded += [Encoded(p.ids + a.ids, len(p.ids)) for p, a in zip(prompts, answers)]
    return [e for e in encoded if len(e.ids) <= context]


def collate(examples: list[Encoded], length: int = 0, rows: int = 0) -> Batch:
    """Pads to `length` ids and `rows` examples, or more where the examples need it."""
    length = max(length, *(len(e.ids) for e in examples))
    ids = torch.zeros(max(rows, len(examples)), length, dtype=torch.long)
    targets = torch.full_like(ids, -100)
    for row, e in enumerate(examples):
        ids[row, : len(e.ids)] = torch.tensor(e.ids)
        targets[row, e.prompt - 1 : len(e.ids) - 1] = torch.tensor(e.ids[e.prompt :])
    return Batch(ids, targets, sum(len(e.ids) for e in examples))


def batches(examples: list[Encoded], tokens: int, rng: random.Random) -> Iterator[Batch]:
    """Endless batches of about `tokens` tokens.

    Examples are sorted by length within pools of some hundred batches, which are then shuffled. Lengths are multiples of 8
    and each length has one number of rows, because the matrix library compiles and keeps a kernel for every shape it meets.
    """
    pool_size = 20_000
    while True:
        order = rng.sample(range(len(examples)), len(examples))
        for start in range(0, len(order), pool_size):
            buckets: dict[int, list[Encoded]] = {}
            for i in order[start : start + pool_size]:
                buckets.setdefault(-(-len(examples[i].ids) // 8) * 8, []).append(examples[i])
            groups = []
            for length, bucket in buckets.items():
                rows = max(1, tokens // length)
                groups += [(bucket[i : i + rows], length, rows) for i in range(0, len(bucket), rows)]
            rng.shuffle(groups)
            yield from (collate(*group) for group in groups)

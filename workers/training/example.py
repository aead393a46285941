"""One training or test example, and the names shared by data, training and evaluation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

NODES = ("shell", "explain", "calculator", "clock", "fallback")
FUNCTIONAL_TOKENS = [f"<fn:{name}>" for name in NODES]
END_OF_ARGUMENT = "<fn:end>"
SPARE_TOKENS = [f"<fn:spare_{i}>" for i in range(10)]
SYSTEM, USER, ASSISTANT, END = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIAL_TOKENS = [END, SYSTEM, USER, ASSISTANT, *FUNCTIONAL_TOKENS, END_OF_ARGUMENT, *SPARE_TOKENS]


@dataclass(frozen=True)
class Example:
    """`kind` says where the example comes from; scores are reported by (system, kind)."""

    system: str
    user: str
    assistant: str
    kind: str

    def prompt(self) -> str:
        return f"{SYSTEM}{self.system}{END}{USER}{self.user}{END}{ASSISTANT}"


def route(node: str, user: str, argument: str, kind: str) -> Example:
    return Example("route", user, f"<fn:{node}>{argument}{END_OF_ARGUMENT}", kind)


def write(path: Path, examples: Iterable[Example]) -> None:
    with path.open("w") as out:
        for example in examples:
            out.write(json.dumps(asdict(example), ensure_ascii=False) + "\n")


def read(path: Path) -> Iterator[Example]:
    with path.open() as lines:
        for line in lines:
            yield Example(**json.loads(line))

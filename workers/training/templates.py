r"""A small template language for paraphrases, and the intent files written in it.

In a paraphrase `(a|b)` picks one alternative, `[a]` keeps or drops its content, `{slot}` is filled from `slots.Slots`;
the three nest, `\(` is a parenthesis. In a command only `{slot}` is special, so that awk's and find's braces stay as they are.

An intent file holds blocks separated by empty lines, `#` starts a comment:

    $ find {dir} -type f -size +{size}          the command
    = find regular files larger than {size} in {dir}   its description
    - (find|list) files larger than {size} [(in|under)] {dir}    paraphrases in the imperative, ...
    ? files larger than {size} in {dir}         ... of any other shape,
    ~ search {dir} for files over {size}        ... and held out: never trained on
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path

from slots import Slots
from value import Value

SLOT = re.compile(r"\{([a-z]+\d*)\}")


@dataclass
class Intent:
    command: str
    description: str = ""
    imperative: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)


def read_intents(folder: Path) -> list[Intent]:
    """All intents of the `*.txt` files in `folder`; an unknown line is an error with its place."""
    intents: list[Intent] = []
    for path in sorted(folder.glob("*.txt")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            mark, text = line[0], line[1:].strip()
            if mark == "$":
                intents.append(Intent(text))
            elif mark in "=-?~" and intents:
                intent = intents[-1]
                if mark == "=":
                    intent.description = text
                else:
                    {"-": intent.imperative, "?": intent.other, "~": intent.held_out}[mark].append(text)
            else:
                raise ValueError(f"{path}:{number}: expected a line that starts with one of $ = - ? ~")
    return intents


def expand(template: str, rng: random.Random) -> str:
    """Chooses among alternatives and optional parts; slots stay."""

    def sequence(i: int, stop: str) -> tuple[list[str], int]:
        """Alternatives from position i up to a character of `stop`, and the position behind it."""
        alternatives, current = [], ""
        while i < len(template) and template[i] not in stop:
            c = template[i]
            if c == "\\":
                current, i = current + template[i + 1], i + 2
            elif c == "(":
                inner, i = sequence(i + 1, ")")
                current += rng.choice(inner)
            elif c == "[":
                inner, i = sequence(i + 1, "]")
                if rng.random() < 0.5:
                    current += rng.choice(inner)
            elif c == "|" and stop:
                alternatives.append(current)
                current, i = "", i + 1
            else:
                current, i = current + c, i + 1
        return alternatives + [current], i + 1

    text = sequence(0, "")[0][0]
    return re.sub(r"  +", " ", text).strip()


def slots_in(*texts: str) -> set[str]:
    return {name for text in texts for name in SLOT.findall(text)}


def fill(text: str, values: dict[str, Value], as_argument: bool) -> str:
    """Puts slot values in; names that are not slots stay as written."""

    def one(match: re.Match[str]) -> str:
        value = values.get(match.group(1))
        return match.group(0) if value is None else value.arg if as_argument else value.text

    return SLOT.sub(one, text)


def draw_all(names: set[str], slots: Slots) -> dict[str, Value]:
    """Values for all slots of one example, no two of one kind alike."""
    values: dict[str, Value] = {}
    for name in sorted(names):
        for _ in range(20):
            value = slots.draw(name)
            if all(value.arg != other.arg for other in values.values()):
                break
        values[name] = value
    return values

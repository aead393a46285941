#!/usr/bin/env python3
"""Writes the training set and the held-out sets: train.jsonl and heldout.jsonl in the output folder.

Held-out kinds, never trained on: `slots` (known phrasing, names never seen), `paraphrase` (phrasing never seen), `tldr`
(one in twenty of the tldr pairs), `corpus` (out-of-scope text set aside). Own pairs come in with --pairs, a JSONL file of
objects with `instruction` and `command`, and optionally `description`.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path

import corpora
import example
import tldr
from example import Example, route
from slots import Slots
from synonyms import PREFIXES, SUFFIXES, vary
from templates import Intent, draw_all, expand, fill, read_intents, slots_in
from value import Value

HERE = Path(__file__).resolve().parent
SHELL_PREFIXES = (
    "how do i |how can i |how to |please |can you |could you |i want to |i need to |show me how to |command to |"
    "what is the command to |give me a command to |what command can i use to |how would i |help me |i'd like to "
).split("|")
PLACES = {".": "the current directory", "~": "the home directory"}  # as descriptions name them
ASK_PREFIXES = "what is |what is |what's |give me |i need |do you know |find |calculate |compute |how much is |tell me |can you calculate |please compute |work out ".split("|")
ASK_IMPERATIVE_PREFIXES = ["please ", "can you ", "could you "]
EXPLAIN_FRAMES = (
    "what does {c} do|what does the command {c} do|explain {c}|explain the command {c}|explain: {c}|what is {c} doing|"
    "describe {c}|describe what {c} does|tell me what {c} does|can you explain {c}|what is the meaning of {c}|{c}|"
    "what happens when i run {c}|explain this command: {c}|what will {c} do|explain what {c} does|help me understand {c}"
).split("|")
EXPLAIN_FRAMES_HELD_OUT = "what would running {c} cause|in plain words, what does {c} achieve|is {c} doing what i think".split("|")


@dataclass
class Phrasing:
    """One way to say an intent, its slots filled: courtesies, the request itself, courtesies."""

    prefix: str
    core: str
    suffix: str
    command: str
    description: str

    @property
    def query(self) -> str:
        return self.prefix + self.core + self.suffix


def polish(query: str, rng: random.Random) -> str:
    """A query as typed: sometimes capitalised, sometimes with a mark at its end."""
    if rng.random() < 0.35:
        query = query[0].upper() + query[1:]
    return query + rng.choice(["", "", "", "?", "."])


def phrase(
    intent: Intent, slots: Slots, rng: random.Random, templates: list[tuple[str, bool]],
    prefixes: tuple[list[str], list[str]], plain: bool,
) -> Phrasing:
    """Draws a phrasing; `templates` pairs each template with whether it is imperative, `prefixes` has those for both.

    A `plain` phrasing is as the intent file has it, otherwise words may be replaced and courtesies added.
    """
    template, imperative = rng.choice(templates)
    core = expand(template, rng)
    if not plain and rng.random() < 0.4:
        core = vary(core, rng)
    values = draw_all(slots_in(core, intent.command), slots)
    core = fill(core, values, as_argument=False)
    prefix = suffix = ""
    choices = prefixes[0] if imperative else prefixes[1]
    if choices and rng.random() < 0.4 and not core.startswith(("what", "how", "which", "who", "where", "is ", "on ", "do ")):
        prefix = rng.choice(choices)
    elif not plain and rng.random() < 0.08:
        prefix = rng.choice(PREFIXES)
    if not plain and rng.random() < 0.1:
        suffix = rng.choice(SUFFIXES)
    described = {name: Value(value.text, PLACES.get(value.arg, value.arg)) for name, value in values.items()}
    description = fill(intent.description, described, as_argument=True)
    return Phrasing(prefix, core, suffix, fill(intent.command, values, as_argument=True), description)


def paraphrases(intent: Intent, held_out: bool) -> list[tuple[str, bool]]:
    if held_out:
        return [(t, False) for t in intent.held_out]
    return [(t, True) for t in intent.imperative] + [(t, False) for t in intent.other]


def shell_example(p: Phrasing, rng: random.Random, kind: str) -> Example:
    query = polish(p.query if rng.random() < 0.4 else p.core, rng)
    return Example("shell", query, p.command, kind)


def explain_example(command: str, description: str, rng: random.Random, kind: str) -> Example:
    if rng.random() < 0.1:
        command = command.removeprefix("sudo ")
    if rng.random() < 0.3:
        command = command.replace("tar -", "tar ", 1)
    return Example("explain", command, description, kind)


def route_shell(p: Phrasing, rng: random.Random, kind: str) -> Example:
    query = polish(p.query, rng)
    return route("shell", query, query[len(p.prefix) : len(p.prefix) + len(p.core)], kind)


def route_explain(command: str, frames: list[str], rng: random.Random, kind: str) -> Example:
    quote = rng.choice(["", "", "", "`", "'", '"']) if "'" not in command and '"' not in command else ""
    frame = rng.choice(frames)
    if frame == "{c}":
        return route("explain", command, command, kind)
    query = frame.format(c=f"{quote}{command}{quote}")
    if rng.random() < 0.3:
        query = query[0].upper() + query[1:]
    return route("explain", query + (rng.choice(["", "?"]) if rng.random() < 0.6 and not query.endswith(command) else ""), command, kind)


def route_tool(node: str, p: Phrasing, rng: random.Random, kind: str) -> Example:
    return route(node, polish(p.query, rng), p.command, kind)


class Generator:
    """Draws examples of every kind from one seeded source."""

    def __init__(self, rng: random.Random, words: list[str], pairs: list[tldr.Pair], fallback_texts: list[str], held_out_names: bool) -> None:
        self.rng = rng
        self.slots = Slots(rng, held_out_names, words)
        self.plain = held_out_names
        self.pairs = pairs
        self.popular = [p for p in pairs if p.popular]
        self.fallback_texts = fallback_texts
        self.intents = {node: read_intents(HERE / "intents" / node) for node in ("shell", "calculator", "clock", "fallback")}

    def phrasing(self, node: str, held_out: bool) -> Phrasing:
        prefixes = (SHELL_PREFIXES, []) if node == "shell" else (ASK_IMPERATIVE_PREFIXES, ASK_PREFIXES if node == "calculator" else [])
        while True:
            intent = self.rng.choice(self.intents[node])
            if templates := paraphrases(intent, held_out):
                # Calculator intents with many phrasings come up more often.
                if node != "shell" and not held_out and self.rng.random() > len(templates) / 12:
                    continue
                return phrase(intent, self.slots, self.rng, templates, prefixes, plain=node == "fallback" or self.plain)

    def tldr(self, popular: bool) -> tuple[str, str, str]:
        return tldr.concrete_pair(self.rng.choice(self.popular if popular else self.pairs), self.slots, self.rng)

    def draw(self, system: str, kind: str, held_out: bool = False) -> Example:
        """One example; `kind` is `tldr` for pairs of tldr, otherwise generated."""
        rng = self.rng
        if system == "shell":
            if kind == "tldr":
                instruction, command, _ = self.tldr(popular=True)
                return Example("shell", polish(instruction[0].lower() + instruction[1:], rng), command, kind)
            return shell_example(self.phrasing("shell", held_out), rng, kind)
        if system == "explain":
            if kind == "tldr":
                _, command, description = self.tldr(popular=rng.random() < 0.6)
            else:
                p = self.phrasing("shell", held_out)
                command, description = p.command, p.description
            return explain_example(command, description, rng, kind)
        return self.draw_route(system.removeprefix("route:"), kind, held_out)

    def draw_route(self, node: str, kind: str, held_out: bool) -> Example:
        rng = self.rng
        if node in ("calculator", "clock"):
            return route_tool(node, self.phrasing(node, held_out), rng, kind)
        if node == "shell":
            if kind == "tldr":
                instruction, command, _ = self.tldr(popular=rng.random() < 0.8)
                core = instruction[0].lower() + instruction[1:]
                p = Phrasing(rng.choice(SHELL_PREFIXES) if rng.random() < 0.5 else "", core, "", command, "")
            else:
                p = self.phrasing("shell", held_out)
            return route_shell(p, rng, kind)
        if node == "explain":
            command = self.tldr(popular=rng.random() < 0.7)[1] if kind == "tldr" else self.phrasing("shell", False).command
            return route_explain(command, EXPLAIN_FRAMES_HELD_OUT if held_out else EXPLAIN_FRAMES, rng, kind)
        if kind == "corpus":
            query = rng.choice(self.fallback_texts)
        else:
            query = polish(self.phrasing("fallback", False).core, rng)
        return route("fallback", query, query, kind)


# Shares of the training set, by examples.
MIXTURE = {
    ("shell", "slots"): 0.33, ("shell", "tldr"): 0.02,
    ("explain", "slots"): 0.09, ("explain", "tldr"): 0.03,
    ("route:shell", "slots"): 0.07, ("route:shell", "tldr"): 0.03,
    ("route:explain", "slots"): 0.03, ("route:explain", "tldr"): 0.02,
    ("route:calculator", "slots"): 0.14, ("route:clock", "slots"): 0.12,
    ("route:fallback", "slots"): 0.03, ("route:fallback", "corpus"): 0.08,
}
HELD_OUT = [
    ("shell", "slots"), ("shell", "paraphrase"), ("shell", "tldr"), ("explain", "slots"), ("explain", "tldr"),
    ("route:shell", "slots"), ("route:shell", "paraphrase"), ("route:shell", "tldr"), ("route:explain", "slots"),
    ("route:explain", "paraphrase"), ("route:calculator", "slots"), ("route:calculator", "paraphrase"),
    ("route:clock", "slots"), ("route:clock", "paraphrase"), ("route:fallback", "corpus"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with text/ and routing/clinc150/")
    parser.add_argument("--pairs", type=Path, help="JSONL file of own instruction/command pairs")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=350_000)
    parser.add_argument("--held-out", type=int, default=200, help="examples of each held-out kind")
    parser.add_argument("--seed", type=int, default=20)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    pairs = tldr.read_pairs(args.data / "text" / "tldr_pairs.jsonl.zst")
    texts, texts_held_out = corpora.out_of_scope(args.data, random.Random(args.seed))
    words = corpora.frequent_words(args.data)

    rng = random.Random(args.seed)
    train = Generator(rng, words, [p for p in pairs if not p.held_out], texts, held_out_names=False)
    kinds, shares = zip(*MIXTURE.items())
    examples = [train.draw(system, kind) for system, kind in rng.choices(kinds, shares, k=args.examples)]
    if args.pairs:
        for line in args.pairs.read_text().splitlines():
            row = json.loads(line)
            examples.append(Example("shell", row["instruction"], row["command"], "own"))
            examples.append(route("shell", row["instruction"], row["instruction"], "own"))
            if "description" in row:
                examples.append(Example("explain", row["command"], row["description"], "own"))
        rng.shuffle(examples)
    example.write(args.out / "train.jsonl", examples)

    seen = {(e.system, e.user) for e in examples}
    rng = random.Random(args.seed + 1)
    held_out = Generator(rng, words, [p for p in pairs if p.held_out], texts_held_out, held_out_names=True)
    tests: list[Example] = []
    for system, kind in HELD_OUT:
        chosen: dict[tuple[str, str], Example] = {}
        for _ in range(args.held_out * 20):
            e = held_out.draw(system, kind, held_out=kind == "paraphrase")
            if (e.system, e.user) not in seen:
                chosen[(e.system, e.user)] = e
            if len(chosen) == args.held_out:
                break
        tests += chosen.values()
    example.write(args.out / "heldout.jsonl", tests)
    print(f"{len(examples)} training examples, {len(tests)} held out")


if __name__ == "__main__":
    main()

"""The intents and generators of workers/training, with Python's standard library alone."""

from __future__ import annotations

import random
import sys
import unittest
from pathlib import Path

TRAINING = Path(__file__).resolve().parents[3] / "workers" / "training"
sys.path.insert(0, str(TRAINING))

from evaluation_sets import read_handwritten  # noqa: E402
from example import NODES, route  # noqa: E402
from numbers_dates import in_words  # noqa: E402
from slots import Slots  # noqa: E402
from synonyms import vary  # noqa: E402
from templates import draw_all, expand, fill, read_intents, slots_in  # noqa: E402

SEED = random.randrange(1 << 30)


class IntentsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.rng = random.Random(SEED)
        self.intents = {node: read_intents(TRAINING / "intents" / node) for node in NODES if (TRAINING / "intents" / node).is_dir()}

    def test_every_paraphrase_says_what_the_command_needs(self) -> None:
        for node in ("shell", "calculator", "clock"):
            for intent in self.intents[node]:
                for template in intent.imperative + intent.other + intent.held_out:
                    for _ in range(20):
                        said = slots_in(vary(expand(template, self.rng), self.rng))
                        needed = slots_in(intent.command)
                        self.assertLessEqual(needed, said, f"{intent.command}: {template} (seed {SEED})")

    def test_every_slot_is_known(self) -> None:
        slots = Slots(self.rng, held_out=False)
        for intents in self.intents.values():
            for intent in intents:
                for text in [intent.command, intent.description, *intent.imperative, *intent.other, *intent.held_out]:
                    for name in slots_in(text) - {"print"}:
                        self.assertIn(name, slots, f"{intent.command}: {text}")

    def test_no_intent_repeats_a_command(self) -> None:
        for node in ("shell", "clock"):
            commands = [intent.command for intent in self.intents[node]]
            self.assertEqual(len(commands), len(set(commands)), {c for c in commands if commands.count(c) > 1})

    def test_every_shell_intent_is_described(self) -> None:
        for intent in self.intents["shell"]:
            self.assertTrue(intent.description.endswith("."), intent.command)
            self.assertTrue(intent.imperative or intent.other, intent.command)


class TemplatesTest(unittest.TestCase):
    def test_alternatives_options_and_escapes(self) -> None:
        rng = random.Random(SEED)
        seen = {expand(r"(a|b [c]) \(d)", rng) for _ in range(500)}
        self.assertEqual(seen, {"a (d)", "b (d)", "b c (d)"})

    def test_filling_leaves_braces_that_are_no_slots(self) -> None:
        values = draw_all({"col"}, Slots(random.Random(SEED), held_out=False))
        self.assertRegex(fill("awk '{print ${col}}' {}", values, as_argument=True), r"^awk '\{print \$\d+\}' \{\}$")


class SlotsTest(unittest.TestCase):
    def test_held_out_names_are_never_drawn_for_training(self) -> None:
        drawn = [{Slots(random.Random(SEED + i), held_out).identifier() for i in range(3000)} for held_out in (False, True)]
        self.assertFalse(drawn[0] & drawn[1], f"seed {SEED}")

    def test_numbers_in_words(self) -> None:
        self.assertEqual(in_words(0), "zero")
        self.assertEqual(in_words(85), "eighty-five")
        self.assertEqual(in_words(12_305), "twelve thousand three hundred and five")


class HandwrittenTest(unittest.TestCase):
    def test_routes_name_known_nodes_and_close_their_argument(self) -> None:
        for system, query, wanted in read_handwritten(TRAINING / "handwritten.tsv"):
            self.assertIn(system, {"shell", "explain", "route"})
            if system == "route":
                for answer in wanted:
                    node, argument = answer.removeprefix("<fn:").removesuffix("<fn:end>").split(">", 1)
                    self.assertEqual(answer, route(node, query, argument, "").assistant)
                    self.assertIn(node, NODES)


if __name__ == "__main__":
    unittest.main()

"""Text from the data folder: queries that no node answers, and frequent English words for names."""

from __future__ import annotations

import collections
import json
import random
import re
import subprocess
from pathlib import Path

# Intents of CLINC150 (CC BY 3.0) that our own nodes may answer; the others are out of scope for this model.
ANSWERED = {"calculator", "date", "time", "timezone", "measurement_conversion", "next_holiday", "exchange_rate", "roll_dice"}
LONGEST = 160


def _tar_text(path: Path) -> str:
    return subprocess.run(
        ["tar", "-I", "zstd -d --long=27", "-xOf", str(path)], check=True, capture_output=True
    ).stdout.decode(errors="ignore")


def _sentences(text: str) -> list[str]:
    text = re.sub(r"\s+", " ", re.sub(r"[#*_`\[\]|]", "", text))
    return [s for s in re.split(r"(?<=[.?!]) ", text) if 20 <= len(s) <= LONGEST and s.isprintable()]


def clinc(data: Path, splits: tuple[str, ...]) -> list[str]:
    sets = json.loads((data / "routing" / "clinc150" / "data_full.json").read_text())
    return [query for split in splits for query, intent in sets[split] if intent not in ANSWERED]


def out_of_scope(data: Path, rng: random.Random) -> tuple[list[str], list[str]]:
    """(training, held out) texts for the fallback: CLINC150 train and validation, word problems, prose, manuals."""
    problems = [json.loads(line)["question"] for line in (data / "text" / "gsm8k_train.jsonl").read_text().splitlines()]
    problems = [p for p in problems if len(p) <= 220]
    prose = _sentences(_tar_text(data / "text" / "classic_books_sample.tar.zst"))
    manual = _sentences(_tar_text(data / "text" / "cpp_docs_md.tar.zst"))
    rng.shuffle(prose)
    rng.shuffle(manual)
    train, held_out = [], []
    for texts in (problems[:1500], prose[:2500], manual[:1200]):
        train += texts[len(texts) // 20:]
        held_out += texts[: len(texts) // 20]
    return clinc(data, ("train", "oos_train", "oos_val")) + train, clinc(data, ("val",)) + held_out


def frequent_words(data: Path, count: int = 2000) -> list[str]:
    text = _tar_text(data / "text" / "classic_books_sample.tar.zst").lower()
    words = collections.Counter(re.findall(r"\b[a-z]{3,9}\b", text))
    return [word for word, _ in words.most_common(count)]

"""A slot's value in its two spellings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """`text` as a person says it ("100 MB"), `arg` as a command takes it ("100M")."""

    text: str
    arg: str

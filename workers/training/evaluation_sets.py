"""Reads the queries written by hand."""

from __future__ import annotations

from pathlib import Path


def read_handwritten(path: Path) -> list[tuple[str, str, list[str]]]:
    """(system, query, right answers) of each line; "#" starts a comment line."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return [(system, query, wanted.split(" || ")) for system, query, wanted in rows]

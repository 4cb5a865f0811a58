"""Counts what is in a text."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """How much there is of what."""

    lines: int
    words: int
    characters: int


def stats(text: str) -> Stats:
    """Counts lines, words and characters."""
    return Stats(len(text.splitlines()), len(text.split()), len(text))

"""Notes as files, one each."""

import re
from pathlib import Path

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class BadName(ValueError):
    """A name that is no name for a file."""


class Store:
    """Keeps notes in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> list[str]:
        """Lists the notes, sorted."""
        return sorted(path.stem for path in self._folder.glob("*.txt"))

    def read(self, name: str) -> str | None:
        """Gives a note's text, or none."""
        try:
            return self._path(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """Keeps a note; one of the same name is replaced whole or not at all."""
        path = self._path(name)
        unfinished = path.with_suffix(".unfinished")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise BadName(name)
        return self._folder / f"{name}.txt"

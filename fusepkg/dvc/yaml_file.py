"""A YAML file of DVC's, in which each thing has a line for messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fusepkg.dvc.files import parse_yaml


@dataclass(frozen=True, slots=True)
class YamlFile:
    """One file: ``name`` for people, ``content`` with values of their types."""

    name: str
    text: bytes
    content: Any

    @property
    def top(self) -> YamlPlace:
        """The file as a whole."""
        return YamlPlace(self)


@dataclass(frozen=True, slots=True)
class YamlPlace:
    """Something in a file, by the keys and numbers that lead there. As text: the file and its line."""

    document: YamlFile
    keys: tuple[str | int, ...] = ()

    def at(self, *keys: str | int) -> YamlPlace:
        """Return a place in this one."""
        return YamlPlace(self.document, (*self.keys, *keys))

    def __str__(self) -> str:
        line = self._line()
        return self.document.name if line is None else f"{self.document.name}, line {line}"

    def _line(self) -> int | None:
        """Return the line of the last of the keys that is there. The file is read once more, with its lines."""
        at: Any = parse_yaml(self.document.text, self.document.name, "rt")
        line: int | None = None
        for key in self.keys:
            try:
                line = (at.lc.key(key) if hasattr(at, "keys") else at.lc.item(key))[0] + 1
                at = at[key]
            except (AttributeError, LookupError, TypeError):
                break
        return line


def read_yaml_file(text: bytes, name: str) -> YamlFile:
    """Read a file. Raises RepositoryUnfit, MissingExtra."""
    return YamlFile(name, text, parse_yaml(text, name, "safe"))

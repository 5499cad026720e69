"""What `.dvcignore` files leave out of a DVC repository: git's rules for its own ignore files."""

from __future__ import annotations

import hashlib
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

from fusepkg.errors import RepositoryUnfit
from fusepkg.publish.ignore_patterns import parse_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from fusepkg.publish.ignore_patterns import IgnorePattern

IGNORE_FILE = ".dvcignore"

_NEVER = (".git", ".hg", ".dvc")
"""Directories that DVC leaves out wherever they are; `.git` may also be a file."""


class Ignores:
    """The patterns of one repository, each file read when its directory is first asked about.

    ``read`` gives the `.dvcignore` of a directory, by its path from the top (empty: the top); None without one.
    """

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read
        self._patterns: dict[str, list[IgnorePattern]] = {}
        self._texts: dict[str, bytes] = {}

    @classmethod
    def of_tree(cls, root: Path) -> Ignores:
        """Return those of the working tree below ``root``."""

        def read(directory: str) -> bytes | None:
            try:
                return Path(root, directory, IGNORE_FILE).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

        return cls(read)

    def leaves_out(self, path: str, *, is_directory: bool) -> bool:
        """Return whether DVC does not see a path, from the top: because of itself, or of a directory above it.

        Raises RepositoryUnfit for an ignore file that is not UTF-8, OSError.
        """
        names = path.split("/")
        return any(
            self.leaves_out_itself("/".join(names[:depth]), is_directory=is_directory or depth < len(names))
            for depth in range(1, len(names) + 1)
        )

    def leaves_out_itself(self, path: str, *, is_directory: bool) -> bool:
        """Return whether a path is left out, if all directories above it are not. Raises as ``leaves_out``."""
        names = path.split("/")
        if names[-1] == ".git" or (is_directory and names[-1] in _NEVER):
            return True
        for depth in range(len(names) - 1, -1, -1):
            for pattern in self._patterns_of("/".join(names[:depth])):
                if pattern.matches(names[depth:], is_directory):
                    return pattern.leaves_out
        return False

    def mark(self, path: str) -> str:
        """Return what changes with the patterns that can concern what lies below a path; empty without any."""
        above = ["", *("/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1))]
        texts = [(one, self._texts[one]) for one in above if self._patterns_of(one)]
        return hashlib.sha256(repr((path, texts)).encode()).hexdigest() if texts else ""

    def _patterns_of(self, directory: str) -> list[IgnorePattern]:
        """Return the patterns of a directory's file, the last one first."""
        if directory not in self._patterns:
            text = self._read(directory) or b""
            try:
                lines = [line.strip() for line in text.decode().splitlines()]
            except UnicodeDecodeError as exc:
                raise RepositoryUnfit(f"{posixpath.join(directory, IGNORE_FILE)} is not UTF-8") from exc
            found = [pattern for line in lines if (pattern := parse_pattern(line)) is not None]
            self._patterns[directory], self._texts[directory] = found[::-1], text
        return self._patterns[directory]

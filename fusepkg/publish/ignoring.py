"""Which files of a workspace are not published: what ignore files say, by git's own rules.

Owns: the names of ignore files, and which of several has the last word. Must not know: scanning, what is published.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fusepkg.errors import FolderUnfit

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from pathspec import GitIgnoreSpec

IGNORE_FILES = (".quiltignore", ".fusepkgignore")
"""Read in this order in every directory, as one file: in ours the last word, quilt3's for those who have one."""

NEVER_PUBLISHED = frozenset((".git",))
"""Names that are left out wherever they stand."""


class Ignoring:
    """The ignore files of one folder, each read when its directory is first asked about.

    ``own`` are logical keys left out whatever the files say: state of ours, mounts of packages.
    """

    def __init__(self, directory: Path, own: Collection[str] = ()) -> None:
        self._root = directory
        self._own = frozenset(own)
        self._specs: dict[str, GitIgnoreSpec | None] = {}

    def leaves_out(self, key: str, is_directory: bool) -> bool:
        """Whether a name is not published; what lies in a directory that is left out is never asked about.

        The deepest ignore file that has a pattern for it decides, in it the last such pattern.
        """
        if key in self._own or key.rpartition("/")[2] in NEVER_PUBLISHED:
            return True
        directory = key
        while directory:
            directory = directory.rpartition("/")[0]
            spec = self._spec(directory)
            if spec is not None:
                name = key[len(directory) + 1 :] if directory else key
                verdict = spec.check_file(f"{name}/" if is_directory else name).include
                if verdict is not None:
                    return verdict
        return False

    def _spec(self, directory: str) -> GitIgnoreSpec | None:
        if directory not in self._specs:
            lines = [line for name in IGNORE_FILES for line in self._lines(os.path.join(directory, name))]
            self._specs[directory] = self._parse(directory, lines) if lines else None
        return self._specs[directory]

    def _lines(self, name: str) -> list[str]:
        path = self._root / name
        try:
            return path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as exc:
            raise FolderUnfit(f"{path} cannot be read: {exc}", hint="Mend it or remove it") from exc

    def _parse(self, directory: str, lines: list[str]) -> GitIgnoreSpec:
        from pathspec import GitIgnoreSpec  # here: few commands meet an ignore file

        try:
            return GitIgnoreSpec.from_lines(lines)
        except ValueError as exc:
            raise FolderUnfit(
                f"An ignore file in {self._root / directory} has a pattern that means nothing: {exc}",
                hint="Its syntax is that of .gitignore",
            ) from exc

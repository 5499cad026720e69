"""Which files of a workspace are not published: what ignore files say, by git's own rules."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fusepkg.errors import FolderUnfit
from fusepkg.publish.ignore_patterns import parse_pattern
from fusepkg.state.trusted_file import hint_for, why_not_ours

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from fusepkg.publish.ignore_patterns import IgnorePattern

IGNORE_FILES = (".quiltignore", ".fusepkgignore")
"""Read in this order in every directory, as one file: in ours the last word, quilt3's for those who have one."""

NEVER_PUBLISHED = frozenset((".git",))
"""Names that are left out wherever they stand."""

_MAX_BYTES = 1 << 20
"""Of one ignore file: every pattern is compared with every name."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Ignoring:
    """The ignore files of one folder, each read when its directory is first asked about.

    ``own`` are logical keys left out whatever the files say: state of ours, mounts of packages.
    """

    def __init__(self, directory: Path, own: Collection[str] = ()) -> None:
        self._root = directory
        self._own = frozenset(own)
        self._patterns: dict[str, list[IgnorePattern]] = {}

    def leaves_out(self, key: str, is_directory: bool) -> bool:
        """Return whether a name is not published. What lies in a directory that is left out is never asked about.

        The deepest ignore file that has a pattern for it decides, in it the last such pattern.

        Raises FolderUnfit for an ignore file that cannot be read, or that another user may have written.
        """
        names = key.split("/")
        if key in self._own or names[-1] in NEVER_PUBLISHED:
            return True
        for depth in range(len(names) - 1, -1, -1):
            for pattern in self._patterns_of("/".join(names[:depth])):
                if pattern.matches(names[depth:], is_directory):
                    return pattern.leaves_out
        return False

    def _patterns_of(self, directory: str) -> list[IgnorePattern]:
        """Return the patterns of a directory's ignore files, the last one first."""
        if directory not in self._patterns:
            lines = [line for name in IGNORE_FILES for line in self._lines(os.path.join(directory, name))]
            found = [pattern for line in lines if (pattern := parse_pattern(line)) is not None]
            self._patterns[directory] = found[::-1]
        return self._patterns[directory]

    def _lines(self, name: str) -> list[str]:
        path = self._root / name
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            why = why_not_ours(path) if data else ""
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise FolderUnfit(
                f"the ignore file {path} cannot be read: {exc.strerror}", hint="Make it readable, or remove it"
            ) from exc
        if why:
            raise FolderUnfit(f"the ignore file {path} is not used: it {why}", hint=hint_for(path))
        if len(data) > _MAX_BYTES:
            raise FolderUnfit(
                f"the ignore file {path} has more than {_MAX_BYTES:,} bytes",
                hint="Leave out directories, not each file",
            )
        return [
            _decoded(line.removesuffix(b"\r"), path, number)
            for number, line in enumerate(data.removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1)
        ]


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as exc:
        raise FolderUnfit(
            f"line {number} of the ignore file {path} is not UTF-8: {line[:50]!r}",
            hint="Save it as UTF-8: names in a package are UTF-8 too",
        ) from exc

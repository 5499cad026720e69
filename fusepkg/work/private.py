"""Directories of this user alone."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_private_directories(directory: Path) -> None:
    """Make a directory, and each that is missing above it, with mode 0700 whatever the umask. Raises OSError.

    ``Path.mkdir`` gives its mode to the last one only, and under a loose umask others could then replace that.
    """
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir(mode=0o700)
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is not a directory")

"""Which blobs were used lately, so that what is evicted is what nobody used for long.

Owns: noting a use without writing, and writing the notes now and then. Must not know: who evicts.

A use is noted in memory only; the notes of many reads are written in one transaction, and only where the last written
use is some time ago. What is lost with a killed process is a little of the order of eviction.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fusepkg_cache.changes import Changes
    from fusepkg_cache.commits import Commits

NOTES = 8192
"""Blobs noted before the notes are written: under a MiB of memory, and tens of milliseconds of a transaction."""

RESOLUTION_S = 600
"""Uses closer together than this are one: a blob read all day costs 144 small writes, an epoch of training one each."""


class Recency:
    """The notes of one process."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._noted: dict[bytes, None] = {}

    def note(self, key: bytes) -> None:
        """Note that a blob was read. Never waits. (Adding to a dict is atomic; a note lost in a race costs nothing.)"""
        self._noted[key] = None
        if len(self._noted) >= NOTES:
            self._commits.submit(self._change())

    def write(self) -> None:
        """Write the notes there are, and wait for it. Raises: CacheClosed, lmdb.Error."""
        if self._noted:
            self._commits.change(self._change())

    def _change(self) -> partial[None]:
        noted, self._noted = self._noted, {}
        return partial(_use, keys=noted)


def _use(changes: Changes, keys: Iterable[bytes]) -> None:
    changes.use(keys, RESOLUTION_S)

"""What was read lately: so that what is evicted is what nobody used for long, and ``info`` knows hits and misses.

Owns: noting a read without writing, and writing the notes now and then. Must not know: who evicts, who asks.

A read is noted in memory only; the notes of many are written in one transaction, and a use only where the last one
written is some time ago. What is lost with a killed process is a little of the order of eviction, and a minute's
counts.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from fusepkg_cache.records import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from concurrent.futures import Future

    from fusepkg_cache.changes import Changes
    from fusepkg_cache.commits import Commits

NOTES = 8192
"""Blobs noted before the notes are written: under a MiB of memory, and tens of milliseconds of a transaction."""

WRITE_AFTER_S = 60.0
"""How long the first of the notes waits: other processes evict by what was written, and a read an hour is a use."""

RESOLUTION_S = 600
"""Uses closer together than this are one: a blob read all day costs 144 small writes, an epoch of training one each."""


class Recency:
    """The notes of one process. Adding to an attribute or a dict is atomic; a note lost in a race costs nothing."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._noted: dict[bytes, None] = {}
        self._write_at = 1  # notes at which something is to be done: the first wakes the writer, for later
        self._due_s = 0.0
        self._small_hits = 0
        self._large_hits = 0
        self._lower_hits = 0
        self._misses = 0
        self._writing: Future[None] | None = None

    def note_small(self, key: bytes) -> None:
        """Note that a small blob was read. Never waits."""
        self._small_hits += 1
        self._noted[key] = None
        if len(self._noted) >= self._write_at:
            self._arrange()

    def note_large(self, key: bytes) -> None:
        """Note that a large blob was read. Never waits."""
        self._large_hits += 1
        self._noted[key] = None
        if len(self._noted) >= self._write_at:
            self._arrange()

    def note_lower(self) -> None:
        """Note that the lower tier had what was missed. Never waits."""
        self._lower_hits += 1

    def note_miss(self) -> None:
        """Note that a blob was not found. Never waits."""
        self._misses += 1
        if self._write_at == 1:
            self._arrange()

    @property
    def noted(self) -> Container[bytes]:
        """The blobs that were read since notes were written."""
        return self._noted

    @property
    def counts(self) -> Counts:
        """What is counted and not written yet."""
        return Counts(
            small_hits=self._small_hits,
            large_hits=self._large_hits,
            lower_hits=self._lower_hits,
            misses=self._misses,
        )

    @property
    def due(self) -> bool:
        """Whether notes have waited for long enough."""
        return self._write_at > 1 and time.monotonic() >= self._due_s

    def write(self) -> None:
        """Write the notes there are, and wait for it. Raises: CacheClosed, lmdb.Error."""
        if self._noted or self.counts != Counts():
            self._commits.change(self.taken())

    def submit(self) -> None:
        """Have the notes there are written, and do not wait. Raises CacheClosed.

        While those before are not written, perhaps for hours, uses are forgotten rather than piled up.
        """
        if self._writing is None or self._writing.done():
            self._writing = self._commits.submit(self.taken())
        else:
            self._noted = {}

    def taken(self) -> Callable[[Changes], None]:
        """The change that writes the notes, which are no longer here."""
        noted, self._noted, self._write_at = self._noted, {}, 1
        counts = self.counts
        self._small_hits -= counts.small_hits
        self._large_hits -= counts.large_hits
        self._lower_hits -= counts.lower_hits
        self._misses -= counts.misses
        return partial(_use, keys=noted, counts=counts)

    def _arrange(self) -> None:
        if self._write_at == 1:
            self._write_at = NOTES
            self._due_s = time.monotonic() + WRITE_AFTER_S
            self._commits.wake(WRITE_AFTER_S)
        else:
            self.submit()


def _use(changes: Changes, keys: Iterable[bytes], counts: Counts) -> None:
    changes.use(keys, RESOLUTION_S)
    changes.count(counts)

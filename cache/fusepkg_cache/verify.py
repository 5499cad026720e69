"""Checking a whole cache, every byte against its hash.

Blobs that come or go during the walk are seen or not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Digest, compute_digest
from fusepkg_cache.files import check_in_full
from fusepkg_cache.index_page import SMALL
from fusepkg_cache.reading import (
    drop_damaged_file,
    drop_damaged_small,
    drop_entry_of_missing,
    known_sums,
    put_large,
)
from fusepkg_cache.records import digest_of, key_of

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable

    from fusepkg_cache.index_page import IndexEntry
    from fusepkg_cache.open_directory import OpenDirectory


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check found.

    ``blobs`` and ``bytes`` were hashed. ``damaged`` ones do not hash to their name. ``missing`` ones have an entry but
    no file, and ``unrecorded`` ones a sound file but no block sums, or wrong ones: both are harmless, and come from
    changes by others or from a process that was killed. ``repaired`` says that all three were put right, and what the
    cache holds was counted again.
    """

    blobs: int
    bytes: int
    damaged: tuple[Digest, ...]
    missing: tuple[Digest, ...]
    unrecorded: tuple[Digest, ...]
    repaired: bool

    @property
    def ok(self) -> bool:
        """Whether every blob is whole."""
        return not self.damaged


@dataclass(slots=True)
class _Check:
    opened: OpenDirectory
    repair: bool
    report: Callable[[int], None]
    blobs: int = 0
    bytes: int = 0
    damaged: list[Digest] = field(default_factory=list)
    missing: list[Digest] = field(default_factory=list)
    unrecorded: list[Digest] = field(default_factory=list)
    seen: set[builtins.bytes] = field(default_factory=set)

    def _hashed(self, size: int) -> None:
        self.blobs += 1
        self.bytes += size
        self.report(self.bytes)

    def entries(self) -> None:
        """Check the small blobs, and find the entries whose files are gone."""
        for run in self.opened.index.runs():
            for entry in run:
                digest = digest_of(entry.key)
                if digest is None or entry.key in self.seen:
                    continue
                if entry.kind == SMALL:
                    self.seen.add(entry.key)
                    self._small(digest, entry)
                elif self.opened.files.size(digest) is None:
                    self.missing.append(digest)
                    if self.repair:
                        self.opened.index.change(partial(drop_entry_of_missing, opened=self.opened, digest=digest))

    def _small(self, digest: Digest, entry: IndexEntry) -> None:
        data = self.opened.segments.read(entry, digest)
        if data is None:
            now = self.opened.index.find(entry.key)
            if now is None or now.kind != SMALL:
                return  # removed meanwhile
            data = self.opened.segments.read(now, digest)
            entry = now
        if data is None or not digest.matches(compute_digest(digest.algorithm, data)):
            self.damaged.append(digest)
            if self.repair:
                self.opened.index.change(partial(drop_damaged_small, opened=self.opened, digest=digest, entry=entry))
        self._hashed(entry.length)

    def files(self, digests: list[Digest]) -> None:
        """Check the files."""
        for digest in digests:
            descriptor = self.opened.files.open(digest)
            if descriptor is None:
                continue  # removed meanwhile
            try:
                size = os.fstat(descriptor).st_size
                record = check_in_full(descriptor, digest)
                if record is None:
                    self.damaged.append(digest)
                    if self.repair:
                        drop_damaged_file(self.opened, digest, descriptor)
                elif known_sums(self.opened, digest, self.opened.index.find(key_of(digest))) != record:
                    self.unrecorded.append(digest)
                    if self.repair:
                        self.opened.index.change(partial(put_large, opened=self.opened, digest=digest, record=record))
            finally:
                os.close(descriptor)
            self._hashed(size)


def verify(opened: OpenDirectory, *, repair: bool, progress: Callable[[int, int], None] | None) -> VerifyReport:
    """Check all blobs. See ``Cache.verify``."""
    opened.index.refresh()
    digests = list(opened.files)
    there_are = opened.index.header().small_bytes + sum(opened.files.size(digest) or 0 for digest in digests)
    check = _Check(opened, repair, lambda done: progress(done, max(done, there_are)) if progress else None)
    check.entries()
    check.files(digests)
    if repair:
        opened.index.change(lambda change: change.recount())
    return VerifyReport(
        blobs=check.blobs,
        bytes=check.bytes,
        damaged=tuple(check.damaged),
        missing=tuple(check.missing),
        unrecorded=tuple(check.unrecorded),
        repaired=repair,
    )

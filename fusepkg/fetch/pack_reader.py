"""Many small blobs of a version with few requests, out of its packs, for callers that wait in threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fusepkg_cache.digest import compute_digest

from fusepkg.errors import AccessDenied, FusepkgError, ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.packs import PackedAt, VersionPacks
    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

    Packed = tuple[PackedAt, Entry]

GAP_BYTES = 64 * 1024
"""Two blobs with more between them are read by two requests."""


class PackReader:
    """Reads blobs that lie close together in packs. Safe for many threads."""

    def __init__(self, packs: VersionPacks, store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]]) -> None:
        self._packs = packs
        self._store_for = store_for
        self._lock = threading.Lock()

    def read(self, entries: Iterable[Entry]) -> dict[Digest, bytes]:
        """Return the verified bytes of those that packs hold; the others are to be read as objects.

        A pack that is missing or wrong is dropped with one warning. Raises nothing but what is a bug.
        """
        found: dict[Digest, bytes] = {}
        for run in _runs(self._find(entries)):
            if len(run) > 1:  # one blob is one request either way
                found |= self._read_run(run)
        return found

    def _find(self, entries: Iterable[Entry]) -> list[Packed]:
        packed = []
        with self._lock:
            for entry in entries:
                number = self._packs.number_of(entry)
                at = None if number is None else self._packs.find(number)
                if at is not None:
                    packed.append((at, entry))
        return sorted(packed, key=lambda one: (one[0].row, one[0].member))

    def _read_run(self, run: list[Packed]) -> dict[Digest, bytes]:
        first, last = run[0][0], run[-1][0]
        key, start = first.pack.key, first.pack.offsets[first.member]
        store, name = self._store_for(key)
        try:
            data = store.get(name, offset=start, length=last.pack.end(last.member) - start)
        except FusepkgError as exc:
            if isinstance(exc, ObjectMissing | AccessDenied):
                self._drop(key, exc.message)
            return {}
        right: dict[Digest, bytes] = {}
        for at, entry in run:
            blob = data[at.pack.offsets[at.member] - start : at.pack.end(at.member) - start]
            if entry.digest.matches(compute_digest(entry.digest.algorithm, blob)):
                right[entry.digest] = blob
        if len(right) < len({entry.digest for _, entry in run}):
            self._drop(key, f"{key} does not hold what its name says")
        return right

    def _drop(self, key: PhysicalKey, reason: str) -> None:
        with self._lock:
            self._packs.drop(key, reason)


def _runs(packed: list[Packed]) -> Iterator[list[Packed]]:
    """Yield those that one request gets; they come in order of packs and places in them."""
    run: list[Packed] = []
    for at, entry in packed:
        if run:
            before = run[-1][0]
            gap = at.pack.offsets[at.member] - before.pack.end(before.member)
            if before.row != at.row or gap > GAP_BYTES:
                yield run
                run = []
        run.append((at, entry))
    if run:
        yield run

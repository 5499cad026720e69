"""Check every object a manifest names, in the bucket itself: by the checksum its server keeps, else by reading it.

Hints are not used. S3 returns its checksum of an object in answer to a HEAD; if that proves the digest right or
wrong, no byte is downloaded.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fusepkg.check.directory import Difference, DifferenceKind
from fusepkg.errors import IntegrityError, ObjectMissing, RemoteError
from fusepkg.fetch.verified import expected_object, is_right
from fusepkg.model.checksums import matches_checksums
from fusepkg.work.progress import Phase, PhaseCounters, no_progress
from fusepkg.work.threads import StopFlag, run_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore
    from fusepkg.work.progress import ProgressCallback

ASK_THREADS = 32
"""Objects asked for at a time: only latency."""

READ_THREADS = 8
"""Objects read at a time: hashing is all CPU, and more would only share the line."""


@dataclass(slots=True)
class Checked:
    """The result of a check: differences in order of logical keys, and how many objects were checked how.

    ``by_checksum`` objects were found right or wrong by the server's own checksum or by their size; ``read`` ones were
    downloaded and hashed. Those that are missing or denied are in neither.
    """

    differences: list[Difference] = field(default_factory=list)
    by_checksum: int = 0
    by_checksum_bytes: int = 0
    read: int = 0
    read_bytes: int = 0


def check_objects(
    entries: Iterable[Entry],
    store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]],
    *,
    count: int,
    total_bytes: int,
    progress: ProgressCallback = no_progress,
) -> Checked:
    """Return all entries whose object is missing, unreadable or has other bytes.

    Raises RemoteUnavailable if the bucket cannot be reached.
    """
    counters = PhaseCounters(progress, Phase.CHECK, total=count, total_bytes=total_bytes)
    checked = Checked()
    stop = StopFlag()
    check = _Check(store_for, stop)

    def collect(outcome: _Outcome) -> None:
        counters.add(1, outcome.entry.size)
        if outcome.difference is not None:
            checked.differences.append(outcome.difference)
        if outcome.by_checksum:
            checked.by_checksum += 1
            checked.by_checksum_bytes += outcome.entry.size
        checked.read += outcome.read_bytes is not None
        checked.read_bytes += outcome.read_bytes or 0

    run_threads(check.run, entries, collect, threads=ASK_THREADS, name="fusepkg-check", stop=stop)
    checked.differences.sort(key=lambda difference: difference.logical_key)
    return checked


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result for one object; ``read_bytes`` is None if it was not read."""

    entry: Entry
    problem: str | None = None
    kind: DifferenceKind = DifferenceKind.CHANGED
    by_checksum: bool = False
    read_bytes: int | None = None

    @property
    def difference(self) -> Difference | None:
        if self.problem is None:
            return None
        return Difference(self.entry.logical_key, self.problem, self.kind, self.entry)


class _Check:
    def __init__(self, store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]], stop: StopFlag) -> None:
        self._store_for = store_for
        self._stop = stop
        self._readers = threading.Semaphore(READ_THREADS)

    def run(self, entry: Entry) -> _Outcome:
        self._stop.check()
        place = entry.physical_key
        try:
            store, key = self._store_for(place)
            info = store.head(key, version=place.version)
            if info.size != entry.size:
                return _Outcome(entry, _wrong_size(entry, info.size), by_checksum=True)
            proven = matches_checksums(entry.size, info.checksums, entry.digest)
            if proven is not None:
                return _Outcome(entry, None if proven else _wrong_contents(entry), by_checksum=True)
            with self._readers:
                return self._read(entry)
        except ObjectMissing:
            return _Outcome(entry, f"is missing: {place}", DifferenceKind.MISSING)
        except (RemoteError, IntegrityError) as exc:
            if exc.retryable:
                raise
            return _Outcome(entry, f"cannot be read: {exc.message}")

    def _read(self, entry: Entry) -> _Outcome:
        right = is_right(expected_object(entry), self._store_for, self._stop.check)
        return _Outcome(entry, None if right else _wrong_contents(entry), read_bytes=entry.size)


def _wrong_size(entry: Entry, size: int) -> str:
    return f"has {size} bytes instead of {entry.size}: {entry.physical_key}"


def _wrong_contents(entry: Entry) -> str:
    return f"has other contents than the manifest says: {entry.physical_key}"

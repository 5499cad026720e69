"""A stage: many blobs that become visible together.

Owns: keeping them invisible until ``commit``, in bounded memory. Must not know: how blobs are looked up.

Small blobs wait in memory, or past a limit in an unnamed file; large ones are files in the staging directory already.
``commit`` is not one atomic step: others may see some of the blobs a moment before the rest, each of them whole.
"""

from __future__ import annotations

import tempfile
import threading
from functools import partial
from typing import TYPE_CHECKING

from fusepkg_cache._translate import translated
from fusepkg_cache.commits import BATCH_BYTES
from fusepkg_cache.digest import require_match
from fusepkg_cache.records import key_of, record_of, seal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import IO, Self

    from fusepkg_cache.changes import Changes
    from fusepkg_cache.digest import Digest
    from fusepkg_cache.session import Session

MEMORY_BYTES = 8 * 1024 * 1024
"""Small blobs a stage keeps in memory before it writes them to a file."""


class Stage:
    """Made by ``Cache.stage``; use it as a context manager. Leaving without ``commit`` discards what was added.

    Any thread may add; ``commit`` makes visible what was added before it, and the stage can then be used further.
    """

    def __init__(self, session: Session, small_limit_bytes: int, present: Callable[[Digest], bool]) -> None:
        self._session = session
        self._small_limit_bytes = small_limit_bytes
        self._present = present
        self._lock = threading.Lock()
        self._values: IO[bytes] | None = None
        self._small: list[tuple[bytes, int]] = []  # key and length of each value in _values, in order
        self._large: dict[Digest, tuple[Path, bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._discard()

    def add(self, digest: Digest, data: bytes) -> None:
        """Take a blob; nobody sees it yet. Raises DigestMismatch, BlobTooLarge, CacheUnusable."""
        self._session.check_process()
        self._session.bound.require_room(len(data))
        require_match(digest, data)
        if self._present(digest):
            return
        with translated(f"cannot stage {digest}"):
            if len(data) <= self._small_limit_bytes != 0:
                self._add_small(key_of(digest), seal(digest, data))
            else:
                self._add_large(digest, data)

    def commit(self) -> None:
        """Make all that was added visible to all processes. Raises CacheUnusable: then only some of it may be."""
        self._session.check_process()
        with self._lock, translated("cannot commit what was staged"):
            records = []
            while self._large:
                digest, (path, record) = self._large.popitem()
                self._session.blobs.publish(path, digest)
                records.append((key_of(digest), record))
            if records:
                self._session.commits.change(partial(_put_records, records=records))
            for batch, weight in self._batches():
                self._session.commits.change(partial(_put_small, blobs=batch), weight)
            self._discard()

    def _add_small(self, key: bytes, value: bytes) -> None:
        with self._lock:
            if self._values is None:
                staging = str(self._session.staging.directory())
                self._values = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=staging)  # noqa: SIM115  # _discard
            self._values.write(value)
            self._small.append((key, len(value)))

    def _add_large(self, digest: Digest, data: bytes) -> None:
        path = self._session.staging.write((data,))
        with self._lock:
            known = self._large.setdefault(digest, (path, record_of(digest, data)))
        if known[0] is not path:
            path.unlink()  # another thread added the same blob

    def _batches(self) -> Iterator[tuple[list[tuple[bytes, bytes]], int]]:
        """The small blobs, a transaction's worth at a time, with their size."""
        if self._values is None:
            return
        self._values.seek(0)
        batch: list[tuple[bytes, bytes]] = []
        weight = 0
        for key, length in self._small:
            batch.append((key, self._values.read(length)))
            weight += len(key) + length
            if weight >= BATCH_BYTES:
                yield batch, weight
                batch, weight = [], 0
        if batch:
            yield batch, weight

    def _discard(self) -> None:
        for path, _ in self._large.values():
            if self._session.ours:  # in a forked child they are its parent's
                path.unlink(missing_ok=True)
        self._large.clear()
        self._small.clear()
        if self._values is not None:
            self._values.close()
            self._values = None


def _put_records(changes: Changes, records: list[tuple[bytes, bytes]]) -> None:
    for key, record in records:
        changes.put_record(key, record)


def _put_small(changes: Changes, blobs: list[tuple[bytes, bytes]]) -> None:
    for key, value in blobs:
        changes.put_small(key, value)

"""Embeddings of a run that is under way, on this machine: what an interrupted run has done is not done again.

Two files that only grow: ``vectors.f32``, and ``records.jsonl`` with a line for each object whose rows are there. A
line has a checksum of itself and its rows; what follows the first line that does not fit is cut off. Losing all of it
costs time only.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from fusepkg.errors import PoolUnfit
from fusepkg.pool.libraries import np
from fusepkg.work.private import make_private_directories

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fusepkg.pool.farthest import Vectors

_KEPT_S = 30 * 86400
"""What an interrupted run left that was never repeated is removed after so long."""


class EmbeddedFrame(msgspec.Struct, frozen=True, omit_defaults=True):
    """One picture or frame: its number and time in the video, what was measured."""

    frame: int | None = None
    time_s: float | None = None
    measures: dict[str, Any] = {}


class EmbeddedObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object that was looked at: its items, whose vectors are the rows from ``first`` on; or why it is skipped."""

    name: str
    identity: str
    first: int
    dimension: int
    checksum: str
    items: list[EmbeddedFrame] = []
    wrong: str = ""


class Embedded:
    """The two files. Used by one thread; another process is kept out by ``open_embedded``."""

    def __init__(self, directory: Path) -> None:
        self._vectors_path = directory / "vectors.f32"
        self._records = (directory / "records.jsonl").open("ab+")
        self._vectors = self._vectors_path.open("ab+")
        self.records: dict[tuple[str, str], EmbeddedObject] = {}
        self.dimension = 0
        self._rows = 0
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        self._records.seek(0)
        good = 0
        for line in self._records:
            record = self._checked(line)
            if record is None:
                break
            self._note(record)
            good += len(line)
        self._records.truncate(good)
        self._vectors.truncate(self._rows * self.dimension * 4)

    def _checked(self, line: bytes) -> EmbeddedObject | None:
        """Return what a line says, if its rows are there."""
        if not line.endswith(b"\n"):
            return None
        try:
            record = msgspec.json.decode(line, type=EmbeddedObject)
        except (msgspec.DecodeError, ValueError):  # the second of bytes that are not UTF-8
            return None
        is_next = record.first == self._rows and (
            not record.items or record.dimension == (self.dimension or record.dimension)
        )
        if not is_next or record.dimension < 0:
            return None
        self._vectors.seek(record.first * record.dimension * 4)
        data = self._vectors.read(len(record.items) * record.dimension * 4)
        return record if _checksum(record, data) == record.checksum else None

    def _note(self, record: EmbeddedObject) -> None:
        self.records[record.name, record.identity] = record
        self._rows += len(record.items)
        if record.items:
            self.dimension = record.dimension

    def add(
        self, key: tuple[str, str], items: Sequence[EmbeddedFrame], vectors: Vectors | None, wrong: str = ""
    ) -> None:
        """Keep what came of an object. Raises PoolUnfit for vectors of another length than those before."""
        data, dimension = (b"", self.dimension) if vectors is None else (vectors.tobytes(), vectors.shape[1])
        if items and self.dimension and dimension != self.dimension:
            raise PoolUnfit(f"the embedder gives {dimension} numbers for {key[0]}, and gave {self.dimension} before")
        self._vectors.write(data)
        self._vectors.flush()  # before the line that says so
        record = EmbeddedObject(key[0], key[1], self._rows, dimension, "", list(items), wrong)
        record = msgspec.structs.replace(record, checksum=_checksum(record, data))
        self._records.write(msgspec.json.encode(record) + b"\n")
        self._records.flush()
        self._note(record)

    def vectors(self) -> Vectors:
        """Return all rows; they stay in the file until they are read."""
        if not self._rows:
            return np.zeros((0, max(self.dimension, 1)), np.float32)
        mapped: Vectors = np.memmap(self._vectors_path, np.float32, "r", shape=(self._rows, self.dimension))
        return mapped

    def close(self) -> None:
        """Close the files."""
        self._vectors.close()
        self._records.close()


@contextmanager
def open_embedded(parent: Path, key: str) -> Iterator[tuple[Embedded, Path]]:
    """Open what is kept under a key, and its directory, for one process at a time. Raises PoolUnfit, OSError.

    The directory is the caller's to remove, with ``forget``, when the run is over.
    """
    directory = parent / key
    make_private_directories(directory)
    _remove_old(parent)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise PoolUnfit("another run of this pool is under way here", hint="Wait for it, or end it") from exc
        os.utime(directory)
        embedded = Embedded(directory)
        try:
            yield embedded, directory
        finally:
            embedded.close()
    finally:
        os.close(lock)


def forget(directory: Path) -> None:
    """Remove what a run that is over has kept."""
    shutil.rmtree(directory, ignore_errors=True)


def _remove_old(parent: Path) -> None:
    for directory in parent.iterdir():
        with suppress(OSError):
            if time.time() - directory.stat().st_mtime > _KEPT_S:
                forget(directory)


def _checksum(record: EmbeddedObject, data: bytes) -> str:
    """Return the checksum of a record, without its own, and of its rows."""
    return xxhash.xxh3_64_hexdigest(msgspec.json.encode(msgspec.structs.replace(record, checksum="")) + data)

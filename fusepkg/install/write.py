"""Write one entry, replacing an existing file only if an install wrote it. Safe for many threads.

A file that is as an earlier install wrote it may be replaced, as may one that has the bytes it wrote. Anything else is
the user's: it stays, and shows as a difference when the directory is verified.
"""

from __future__ import annotations

import enum
import hashlib
import os
import stat
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fusepkg_cache.digest import Algorithm, chunk_count, chunk_size, combine_chunks

from fusepkg.check.directory import hash_found
from fusepkg.fetch.verified import expected_object, mismatch
from fusepkg.install.target import Blocked, cannot_write
from fusepkg.model.entry import EntryKind
from fusepkg.model.links import blunted
from fusepkg.model.times import entry_time_s
from fusepkg.state.install_record import written_file
from fusepkg.work.walk import WalkEntry, kind_of_mode

if TYPE_CHECKING:
    from fusepkg_cache.digest import Digest

    from fusepkg.fetch.direct import DirectReader
    from fusepkg.fetch.pack_reader import PackReader
    from fusepkg.install.target import Target
    from fusepkg.model.entry import Entry
    from fusepkg.state.install_record import WrittenFile
    from fusepkg.work.threads import StopFlag

LARGE_PIECES = 8
"""Chunks of large files in memory at a time, 8 MiB each, over all threads."""


class Result(enum.Enum):
    """The result for one entry."""

    WRITTEN = "written"
    THERE = "there"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Outcome:
    """``file`` is what to record: None for a directory, for the user's files, and for what is recorded already."""

    entry: Entry
    result: Result
    file: WrittenFile | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One entry to bring up to date. ``known`` is what an earlier install wrote.

    ``replace`` overwrites the user's files too.
    """

    entry: Entry
    known: WrittenFile | None = None
    replace: bool = False


@dataclass(slots=True)
class LargeFile:
    """A file that several threads write, chunk by chunk."""

    job: Job
    name: str
    descriptor: int
    digests: list[Digest] | None
    begun_bytes: int
    values: list[bytes] = field(default_factory=list)
    missing: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """Close the descriptor, once."""
        with self.lock:
            descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Writer:
    """Writes entries into a target. ``time_s`` is the one time of what it writes, None for that of its content."""

    def __init__(
        self,
        target: Target,
        reader: DirectReader,
        stop: StopFlag,
        *,
        outside_links: bool = False,
        time_s: int | None = None,
    ) -> None:
        self._target = target
        self._outside_links = outside_links
        self._time_s = time_s
        self._reader = reader
        self._stop = stop
        self._pieces = threading.BoundedSemaphore(LARGE_PIECES)

    def settle(self, job: Job) -> Outcome | None:
        """Return the outcome of an entry that needs no bytes; None if it has to be written.

        Raises InstallError.
        """
        entry = job.entry
        try:
            if entry.kind is EntryKind.EMPTY_DIRECTORY:
                directory = entry.logical_key.rpartition("/")[0]
                result = Result.THERE if self._target.is_directory(directory) else Result.WRITTEN
                self._target.make_directory(directory)
                return Outcome(entry, result)
            if job.replace:
                return None
            status = self._target.status(entry.logical_key)
            return None if status is None else self._settle_found(job, status)
        except Blocked:
            return Outcome(entry, Result.KEPT)

    def _settle_found(self, job: Job, status: os.stat_result) -> Outcome | None:
        entry, known = job.entry, job.known
        if known is not None and known.is_untouched(status):
            if known.is_cut_off(status):
                return None
            if known.digest == entry.digest:
                if entry.kind is EntryKind.SYMLINK and status.st_size != len(self._link_text(entry)):
                    return None  # it is to be written the other way now
                if known.kind is entry.kind:
                    return Outcome(entry, Result.THERE)  # it is recorded
                if EntryKind.SYMLINK not in (known.kind, entry.kind):
                    return self._made_executable(entry)
            return None
        kind = kind_of_mode(status.st_mode)
        if kind is None:
            return Outcome(entry, Result.KEPT)
        found = WalkEntry(
            entry.logical_key,
            os.path.join(os.fsencode(self._target.directory), entry.logical_key.encode()),
            kind,
            status,
        )
        if entry.leads_out and kind is EntryKind.SYMLINK:
            return self._settle_link_out(entry, found)
        if kind is entry.kind and status.st_size == entry.size and self._holds(found, entry.digest):
            return Outcome(entry, Result.THERE, written_file(entry.logical_key, kind, entry.digest, status))
        if (
            known is not None
            and kind is known.kind
            and status.st_size == known.size
            and self._holds(found, known.digest)
        ):
            return None
        return Outcome(entry, Result.KEPT)

    def _settle_link_out(self, entry: Entry, found: WalkEntry) -> Outcome | None:
        text = os.readlink(found.path)
        if text == self._link_text(entry):
            written = written_file(entry.logical_key, EntryKind.SYMLINK, entry.digest, found.status)
            return Outcome(entry, Result.THERE, written)
        is_ours = text in (entry.link_text.encode(), _blunted(entry))
        return None if is_ours else Outcome(entry, Result.KEPT)

    def _link_text(self, entry: Entry) -> bytes:
        """Return what to write into a link: one that leads out of the package only if the reader asked for it."""
        return _blunted(entry) if entry.leads_out and not self._outside_links else entry.link_text.encode()

    def _holds(self, found: WalkEntry, digest: Digest) -> bool:
        try:
            return digest.matches(hash_found(found, digest, self._stop))
        except OSError:  # unreadable: not ours
            return False

    def _made_executable(self, entry: Entry) -> Outcome:
        status = self._target.set_executable(entry.logical_key, entry.kind is EntryKind.EXECUTABLE)
        return Outcome(entry, Result.WRITTEN, written_file(entry.logical_key, entry.kind, entry.digest, status))

    # --- small files, and links ------------------------------------------------------------------------------

    def read_together(self, entries: list[Entry], packs: PackReader | None) -> dict[Digest, bytes]:
        """Return the bytes of those small files that the cache or packs have. The others are objects to be read."""
        if packs is None:
            return {}
        files = [entry for entry in entries if entry.kind is not EntryKind.SYMLINK and entry.size]
        cached = {entry.digest: data for entry in files if (data := self._reader.cached(entry)) is not None}
        return cached | packs.read(entry for entry in files if entry.digest not in cached)

    def write(self, job: Job, data: bytes | None = None) -> Outcome:
        """Write a link or a file of one chunk, read here unless ``data`` is given.

        Raises RemoteError, IntegrityError, InstallError.
        """
        entry, name = job.entry, self._target.new_name()
        if entry.kind is EntryKind.SYMLINK:
            self._target.link_new(name, self._link_text(entry))
            return self._place(job, name)
        data = self._reader.whole(entry) if data is None else data
        descriptor = self._target.open_new(name, entry.kind)
        try:
            self._write_at(entry, descriptor, data, 0)
        finally:
            os.close(descriptor)
        return self._place(job, name)

    # --- large files -----------------------------------------------------------------------------------------

    def begin(self, job: Job) -> LargeFile:
        """Open the unfinished file, which an interrupted install may have begun. Raises RemoteError, InstallError."""
        entry = job.entry
        # The same for the next try, and for no other entry.
        name = hashlib.sha256(f"{entry.logical_key}\n{entry.digest}".encode()).hexdigest()
        descriptor = self._target.open_new(name, entry.kind)
        try:
            digests = self._reader.chunks(entry)
            large = LargeFile(job, name, descriptor, digests, os.fstat(descriptor).st_size)
            is_parallel = entry.digest.algorithm is Algorithm.SHA2_256_CHUNKED
            large.missing = chunk_count(entry.size) if is_parallel else 1
            large.values = [b""] * large.missing
            os.ftruncate(descriptor, entry.size)
        except OSError as exc:
            os.close(descriptor)
            raise cannot_write(self._target.directory, entry.logical_key, exc) from exc
        except BaseException:
            os.close(descriptor)
            raise
        return large

    def write_part(self, large: LargeFile, index: int) -> Outcome | None:
        """Write one of its ``missing`` parts; the last part finishes the file.

        Raises RemoteError, IntegrityError, InstallError.
        """
        entry = large.job.entry
        with self._pieces:
            self._stop.check()
            if entry.digest.algorithm is Algorithm.SHA2_256_CHUNKED:
                large.values[index] = self._write_chunk(large, index)
            else:
                offset = 0
                for piece in self._reader.pieces(entry):
                    self._stop.check()
                    self._write_at(entry, large.descriptor, piece, offset)
                    offset += len(piece)
        with large.lock:
            large.missing -= 1
            if large.missing:
                return None
        large.close()
        if entry.digest.algorithm is Algorithm.SHA2_256_CHUNKED and combine_chunks(large.values) != entry.digest:
            self._target.drop(large.name)
            raise mismatch(expected_object(entry))
        return self._place(large.job, large.name)

    def _write_chunk(self, large: LargeFile, index: int) -> bytes:
        """Write one chunk unless the file has it already; return its raw SHA-256."""
        entry = large.job.entry
        size = chunk_size(entry.size)
        expected = large.digests[index] if large.digests is not None else None
        if expected is not None and index * size < large.begun_bytes:
            there = os.pread(large.descriptor, min(size, entry.size - index * size), index * size)
            if hashlib.sha256(there).digest() == expected.value:
                return expected.value
        data = self._reader.chunk(entry, index, expected)
        self._write_at(entry, large.descriptor, data, index * size)
        return hashlib.sha256(data).digest() if expected is None else expected.value

    # --- both ------------------------------------------------------------------------------------------------

    def _write_at(self, entry: Entry, descriptor: int, data: bytes, offset: int) -> None:
        try:
            view = memoryview(data)
            while view:
                done = os.pwrite(descriptor, view, offset)
                view, offset = view[done:], offset + done
        except OSError as exc:
            raise cannot_write(self._target.directory, entry.logical_key, exc) from exc

    def _place(self, job: Job, name: str) -> Outcome:
        entry = job.entry
        time_s = entry_time_s(entry) if self._time_s is None else self._time_s
        try:
            status = self._target.place(name, entry.logical_key, time_s)
        except Blocked:
            self._target.drop(name)
            return Outcome(entry, Result.KEPT)
        assert not stat.S_ISDIR(status.st_mode), "a rename over a directory fails"
        return Outcome(entry, Result.WRITTEN, written_file(entry.logical_key, entry.kind, entry.digest, status))


def _blunted(entry: Entry) -> bytes:
    return blunted(entry.logical_key.encode(), entry.link_text.encode())

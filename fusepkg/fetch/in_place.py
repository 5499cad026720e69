"""Blobs that are files of this machine, read where they lie: nothing is copied, every byte is verified.

A file of up to 128 KiB is hashed at each read. Of a larger one each chunk (8 MiB) is hashed when it is first read, or
all of it where there is no list of chunks, and a hash of each 64 KiB remembered; later reads compare these. Nothing
is believed because of a file's stat data. Files on network file systems are copied into the cache, as objects are.
On a wrong hash or an error the pipeline reads the object again, and reports what is wrong with it.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

import trio
from fusepkg_cache.digest import Hashing, chunk_size

from fusepkg.errors import FusepkgError
from fusepkg.fetch.chunks import chunk_spans, is_chunked, nth_digest
from fusepkg.state.file_identity import is_on_local_disk
from fusepkg.store.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from fusepkg_cache.digest import Digest

    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

HASHED_EACH_TIME_BYTES = 128 * 1024
"""Files up to this are hashed at each read: most often one read takes all of it."""

BLOCK_BYTES = 64 * 1024
"""What one remembered hash covers."""

SUMS_BYTES = 64 * 1024 * 1024
"""Hashes that are remembered: those of 256 GiB of files."""

_SUM_BYTES = 16
"""Kept of each SHA-256: with 128 bits nobody who may write to the files finds other bytes of the same hash."""

READING_THREADS = 16
"""Reads of large files at a time: each may hash a chunk."""

_READ_BYTES = 1024 * 1024
_AHEAD_BYTES = 1024 * 1024
"""Asked of the disk beyond a read of a large file: each read opens it anew, which loses the kernel's own readahead."""

_DIRECTORIES_KEPT = 10_000
"""Directories of which it is remembered whether they are on a disk of this machine."""


_T = TypeVar("_T")

_PartKey: TypeAlias = "tuple[Digest, PhysicalKey]"


class _Part(NamedTuple):
    """A part of a file that is verified as a whole: a chunk, or all of a blob; ``low`` to ``high`` of it is wanted."""

    name: Digest
    start: int
    length: int
    low: int
    high: int


class FilesInPlace:
    """The files of this machine that entries name. Call it from one trio thread; methods that block say so.

    ``chunk_list`` gives the raw hashes of a large blob's chunks, if there is a list.
    """

    def __init__(
        self,
        store_for: Callable[[PhysicalKey], tuple[ObjectStore, str]],
        chunk_list: Callable[[Entry], Awaitable[bytes | None]],
    ) -> None:
        self._store_for = store_for
        self._chunk_list = chunk_list
        self._sums: OrderedDict[_PartKey, bytes] = OrderedDict()
        self._sums_bytes = 0
        self._busy: dict[_PartKey, trio.Event] = {}
        self._is_local: OrderedDict[str, bool] = OrderedDict()
        self._threads = trio.CapacityLimiter(READING_THREADS)

    def has(self, entry: Entry) -> bool:
        """Whether an entry's bytes may be read so: its file is there, has the right size, on a local disk. Blocks."""
        if not _is_file(entry):
            return False
        try:
            descriptor = self._open(entry)
        except (FusepkgError, OSError):
            return False
        try:
            directory = _directory(entry)
            is_local = self._is_local.get(directory)
            if is_local is None:
                is_local = self._is_local[directory] = is_on_local_disk(descriptor)
                while len(self._is_local) > _DIRECTORIES_KEPT:
                    self._is_local.popitem(last=False)
            return is_local
        finally:
            os.close(descriptor)

    async def holds(self, entry: Entry) -> bool:
        """Whether an entry's object lies on a disk of this machine, as far as is known of what lies beside it."""
        if not _is_file(entry):
            return False
        known = self._is_local.get(_directory(entry))
        return await self._in_thread(partial(self.has, entry)) if known is None else known

    async def read(self, entry: Entry, offset: int, end: int) -> bytes | None:
        """Return bytes ``offset`` to ``end`` of an entry, verified; None if no file of this machine gives them."""
        if not await self.holds(entry):
            return None
        try:
            if entry.size <= HASHED_EACH_TIME_BYTES:
                data = await self._read_small(entry)
                return None if data is None else data[offset:end]
            return await self._read_large(entry, offset, end)
        except (FusepkgError, OSError):
            return None

    # --- small files -------------------------------------------------------------------------------------------

    async def _read_small(self, entry: Entry) -> bytes | None:
        """Read all of a file, without a thread: a disk of this machine answers soon, or with an error."""
        descriptor = self._open(entry)
        try:
            data = _read_now(descriptor, entry.size)
            if data is None:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                await trio.lowlevel.checkpoint()  # others begin meanwhile, and the disk reads for all
                data = os.pread(descriptor, entry.size, 0)
        finally:
            os.close(descriptor)
        hashing = Hashing(entry.digest.algorithm, entry.size)
        hashing.update(data)
        return data if len(data) == entry.size and entry.digest.matches(hashing.digest()) else None

    # --- large files -------------------------------------------------------------------------------------------

    async def _read_large(self, entry: Entry, offset: int, end: int) -> bytes | None:
        digests = await self._chunk_list(entry) if is_chunked(entry) else None
        pieces: list[bytes] = []
        for part in _parts(entry, digests, offset, end):
            piece = await self._read_part(entry, part)
            if piece is None:
                return None
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _read_part(self, entry: Entry, part: _Part) -> bytes | None:
        """Return what is wanted of a part, which is verified as a whole if it was not yet."""
        key = part.name, entry.physical_key
        while key in self._busy:
            await self._busy[key].wait()
        sums = self._sums.get(key)
        if sums is not None:
            self._sums.move_to_end(key)
            data = await self._in_thread(partial(self._read_blocks, entry, part, sums))
            if data is not None:
                return data
            self._forget(key)
            return await self._read_part(entry, part)
        self._busy[key] = trio.Event()
        try:
            checked = await self._in_thread(partial(self._check, entry, part))
        finally:
            self._busy.pop(key).set()
        if checked is None:
            return None
        data, self._sums[key] = checked
        self._sums_bytes += len(self._sums[key])
        while self._sums_bytes > SUMS_BYTES and len(self._sums) > 1:
            self._forget(next(iter(self._sums)))
        return data

    def _forget(self, key: _PartKey) -> None:
        self._sums_bytes -= len(self._sums.pop(key, b""))

    def _read_blocks(self, entry: Entry, part: _Part, sums: bytes) -> bytes | None:
        """Read blocks whose sums are known; None if they have others. Blocks."""
        first = part.low // BLOCK_BYTES
        start, stop = first * BLOCK_BYTES, min(-(-part.high // BLOCK_BYTES) * BLOCK_BYTES, part.length)
        descriptor = self._open(entry)
        try:
            os.posix_fadvise(descriptor, part.start + start, stop - start + _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
            data = os.pread(descriptor, stop - start, part.start + start)
        finally:
            os.close(descriptor)
        found = _sums_of(data)
        if len(data) != stop - start or found != sums[first * _SUM_BYTES :][: len(found)]:
            return None
        return data[part.low - start : part.high - start]

    def _check(self, entry: Entry, part: _Part) -> tuple[bytes, bytes] | None:
        """Hash a part; return what is wanted of it and the sums of its blocks, None if it is another. Blocks."""
        hashing, sums, kept = Hashing(part.name.algorithm, part.length), bytearray(), bytearray()
        descriptor = self._open(entry)
        try:
            for at in range(0, part.length, _READ_BYTES):
                data = os.pread(descriptor, min(_READ_BYTES, part.length - at), part.start + at)
                hashing.update(data)
                sums += _sums_of(data)
                kept += data[max(0, part.low - at) : max(0, part.high - at)]
        finally:
            os.close(descriptor)
        is_right = part.name.matches(hashing.digest()) and len(kept) == part.high - part.low
        return (bytes(kept), bytes(sums)) if is_right else None

    # --- all of them -------------------------------------------------------------------------------------------

    async def _in_thread(self, read: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=self._threads)

    def _open(self, entry: Entry) -> int:
        """Open an entry's file, if it has the entry's size. Raises FusepkgError, OSError."""
        store, key = self._store_for(entry.physical_key)
        if not isinstance(store, DirectoryStore):
            raise OSError
        descriptor = store.open_file(key)
        if os.fstat(descriptor).st_size != entry.size:
            os.close(descriptor)
            raise OSError
        return descriptor


def _is_file(entry: Entry) -> bool:
    return entry.physical_key.scheme == "file" and entry.physical_key.version is None


def _directory(entry: Entry) -> str:
    return entry.physical_key.key.rpartition("/")[0]


def _sums_of(data: bytes) -> bytes:
    """Return the joined hashes of the blocks of ``data``."""
    view = memoryview(data)
    blocks = (view[at : at + BLOCK_BYTES] for at in range(0, len(view), BLOCK_BYTES))
    return b"".join([hashlib.sha256(block).digest()[:_SUM_BYTES] for block in blocks])


def _read_now(descriptor: int, size: int) -> bytes | None:
    """Return the bytes of a small file that is in the page cache; None if the disk has to be asked."""
    buffer = bytearray(size)
    try:
        got = os.preadv(descriptor, [buffer], 0, os.RWF_NOWAIT)
    except OSError:  # EAGAIN, or a file system that cannot tell
        return None
    return bytes(buffer) if got == size else None


def _parts(entry: Entry, digests: bytes | None, offset: int, end: int) -> Iterator[_Part]:
    """Yield the parts that bytes ``offset`` to ``end`` lie in: chunks if their hashes are known, else all of it."""
    if digests is None:
        yield _Part(entry.digest, 0, entry.size, offset, end)
        return
    size = chunk_size(entry.size)
    for index, low, high in chunk_spans(entry, offset, end):
        yield _Part(nth_digest(digests, index), index * size, min(size, entry.size - index * size), low, high)

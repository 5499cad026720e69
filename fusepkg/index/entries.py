"""The entry table of a package: everything the manifest says of its entries, by number and by data block.

    header (one block) | heap | records | start blocks | package header (JSON) | directory metadata (JSON) | padding

Numbers are little-endian. The heap holds each entry's logical key, physical key URL and meta (JSON) one after another;
a record has 64 bytes; the start blocks are one u32 each, ascending, for a binary search. Entries are numbered in tree
order. The file has whole blocks, whose sums the seal of the index holds.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from fusepkg_cache.digest import MIN_CHUNK_BYTES, Algorithm, Digest

from fusepkg.errors import IndexDamaged
from fusepkg.index.erofs import BLOCK_BYTES
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import EMPTY_META

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from fusepkg.index.checked import CheckedFile
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.record import EntryRecord

MAGIC = b"fusepkgE"
VERSION = 2

_RECORD = struct.Struct("<QQ32sIIIHBB")
"""Start of its heap piece, size, digest value, bytes of URL, of meta, start block, bytes of key, algorithm, kind."""

RECORD_BYTES = _RECORD.size

RECORD_COLUMNS = (
    ("heap_at", "<u8"), ("size", "<u8"), ("value", "V32"), ("url_bytes", "<u4"), ("meta_bytes", "<u4"),
    ("start_block", "<u4"), ("key_bytes", "<u2"), ("algorithm", "u1"), ("kind", "u1"),
)  # fmt: skip
"""The same record for NumPy: names and types of its fields."""

_START = struct.Struct("<I")
_STARTS_PER_BLOCK = BLOCK_BYTES // _START.size

_ALGORITHMS = (
    Algorithm.SHA2_256,
    Algorithm.SHA2_256_CHUNKED,
    Algorithm.CRC64NVME,
    Algorithm.MD5,
    Algorithm.MD5_DOS2UNIX,
)
"""By code: new ones go to the end."""

ALGORITHM_NAMES = tuple(algorithm.value for algorithm in _ALGORITHMS)
"""By code, as hashes begin."""

_BATCH = 4096
"""Records written at once."""

_READ_BATCH = 1024
"""Records read at once where all are read."""


class _Header(NamedTuple):
    magic: bytes
    version: int
    top_hash: bytes
    entries: int
    data_blocks: int
    total_bytes: int
    records_at: int
    starts_at: int
    package_header_at: int
    package_header_bytes: int
    directories_at: int
    directories_bytes: int
    inodes_end: int


_HEADER = struct.Struct("<8sQ32s10Q")


class StoredContent(NamedTuple):
    """The bytes of an entry: how many, what they hash to, where they lie."""

    size: int
    digest: Digest
    url: str
    meta_text: bytes = EMPTY_META

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the manifest says of a blob of several chunks; {} for others."""
        meta: dict[str, Any] = json.loads(self.meta_text)
        return meta

    @property
    def physical_key(self) -> PhysicalKey:
        """Where they lie, taken apart only if somebody asks."""
        return parse_physical_key(self.url)


class EntryTableWriter:
    """Writes ``entries``; ``scratch`` is an empty file for the records, which follow the heap."""

    def __init__(self, file: BinaryIO, scratch: BinaryIO) -> None:
        self.count = 0
        self._file = file
        self._scratch = scratch
        self._starts = array("I")
        self._heap: list[bytes] = []
        self._heap_at = BLOCK_BYTES
        self._records: list[bytes] = []
        self._total_bytes = 0
        file.seek(BLOCK_BYTES)

    def add(self, record: EntryRecord, start_block: int) -> None:
        """Add the next entry in tree order."""
        _, key, url, size, algorithm, value, kind, meta, _ = record
        heap = key + url + meta
        code = 1 if algorithm is _ALGORITHMS[1] else _ALGORITHMS.index(algorithm)  # not a dict: enums hash slowly
        fields = (self._heap_at, size, value, len(url), len(meta), start_block, len(key), code, kind)
        self._records.append(_RECORD.pack(*fields))
        self._heap.append(heap)
        self._heap_at += len(heap)
        self._starts.append(start_block)
        self._total_bytes += size
        self.count += 1
        if not self.count % _BATCH:
            self._write_out()

    def _write_out(self) -> None:
        self._scratch.write(b"".join(self._records))
        self._records.clear()
        self._file.write(b"".join(self._heap))
        self._heap.clear()

    def finish(
        self,
        top_hash: str,
        data_blocks: int,
        inodes_end: int,
        package_header: Mapping[str, Any],
        directories: Mapping[str, Any],
    ) -> None:
        """Write what follows the heap, and the header. The inodes in the image end at byte ``inodes_end``."""
        self._write_out()
        records_at = self._align(RECORD_BYTES)
        self._scratch.seek(0)
        shutil.copyfileobj(self._scratch, self._file, 1024 * 1024)
        starts_at = self._align(BLOCK_BYTES)
        if sys.byteorder == "big":
            self._starts.byteswap()
        self._file.write(memoryview(self._starts).cast("B"))
        sections = [json.dumps(value, ensure_ascii=False).encode() for value in (package_header, directories)]
        package_header_at = self._file.tell()
        self._file.write(b"".join(sections))
        self._align(BLOCK_BYTES)
        header = _Header(
            MAGIC,
            VERSION,
            bytes.fromhex(top_hash),
            self.count,
            data_blocks,
            self._total_bytes,
            records_at,
            starts_at,
            package_header_at,
            len(sections[0]),
            package_header_at + len(sections[0]),
            len(sections[1]),
            inodes_end,
        )
        self._file.seek(0)
        self._file.write(_HEADER.pack(*header).ljust(BLOCK_BYTES, b"\0"))
        self._file.flush()

    def _align(self, alignment: int) -> int:
        at = self._file.tell()
        self._file.write(bytes(-at % alignment))
        return self._file.tell()


class EntryTable:
    """The entries of one package. Calls raise IndexDamaged if a block is damaged and cannot be repaired.

    Safe to use from many threads.
    """

    __slots__ = ("_file", "_header", "top_hash")

    def __init__(self, file: CheckedFile) -> None:
        self._file = file
        self._header = header = _Header(*_HEADER.unpack_from(file.block(0)))
        if (header.magic, header.version) != (MAGIC, VERSION):
            raise IndexDamaged(f"{file.path} is not an entry table of version {VERSION}")
        self.top_hash = header.top_hash.hex()

    def __len__(self) -> int:
        return self._header.entries

    def __iter__(self) -> Iterator[Entry]:
        """All entries in tree order."""
        return (_entry(fields, heap) for fields, heap in self._records())

    @property
    def data_blocks(self) -> int:
        """Blocks of the data device."""
        return self._header.data_blocks

    @property
    def total_bytes(self) -> int:
        """Sum of all sizes."""
        return self._header.total_bytes

    @property
    def inodes_end(self) -> int:
        """Where the inodes in the image end, in bytes."""
        return self._header.inodes_end

    def entry(self, number: int) -> Entry:
        """The entry of that number. Raises IndexError past the last one."""
        return _entry(*self._record(number))

    def contents(self) -> Iterator[StoredContent]:
        """The bytes of all entries in tree order, in a third of the time that the entries take."""
        for (_, size, value, url_bytes, _, _, key_bytes, algorithm, _), heap in self._records():
            url = heap[key_bytes : key_bytes + url_bytes].decode()
            meta = heap[key_bytes + url_bytes :] if size > MIN_CHUNK_BYTES else EMPTY_META
            yield StoredContent(size, Digest(_ALGORITHMS[algorithm], value), url, meta)

    def between(self, first: int, stop: int) -> Iterator[Entry]:
        """Entries ``first`` to ``stop - 1``, in a third of the time of asking for each."""
        return (_entry(fields, heap) for fields, heap in self._records(first, stop))

    def blobs_between(self, first: int, stop: int) -> Iterator[tuple[int, Digest]]:
        """Size and hash of entries ``first`` to ``stop - 1``: a million in a second."""
        for start in range(first, min(stop, len(self)), _READ_BATCH):
            count = min(_READ_BATCH, stop - start, len(self) - start)
            packed = self._file.read(self._header.records_at + start * RECORD_BYTES, count * RECORD_BYTES)
            for _, size, value, _, _, _, _, algorithm, _ in _RECORD.iter_unpack(packed):
                yield size, Digest(_ALGORITHMS[algorithm], value)

    def logical_key(self, number: int) -> str:
        """The name of an entry, in a quarter of the time. Raises IndexError past the last one."""
        fields, heap = self._record(number)
        return heap[: fields[6]].decode()

    def _record(self, number: int) -> tuple[tuple[Any, ...], bytes]:
        """The fields of ``_RECORD``, and the piece of the heap they cut up."""
        fields = self._fields(number)
        return fields, self._file.read(fields[0], fields[3] + fields[4] + fields[6])

    def _fields(self, number: int) -> tuple[Any, ...]:
        if not 0 <= number < self._header.entries:
            raise IndexError(number)
        block, at = divmod(self._header.records_at + number * RECORD_BYTES, BLOCK_BYTES)
        return _RECORD.unpack_from(self._file.block(block), at)

    def _records(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[tuple[Any, ...], bytes]]:
        """As ``_record``, for entries ``start`` to ``stop - 1`` (all that follow, unless given) in order."""
        end = len(self) if stop is None else min(stop, len(self))
        for first in range(start, end, _READ_BATCH):
            count = min(_READ_BATCH, end - first)
            packed = self._file.read(self._header.records_at + first * RECORD_BYTES, count * RECORD_BYTES)
            batch = list(_RECORD.iter_unpack(packed))
            heap_at, last = batch[0][0], batch[-1]
            heap = self._file.read(heap_at, last[0] + last[3] + last[4] + last[6] - heap_at)
            for fields in batch:
                at = fields[0] - heap_at
                yield fields, heap[at : at + fields[3] + fields[4] + fields[6]]

    def packed(self, count: int) -> Iterator[tuple[bytes, bytes]]:
        """Records as ``RECORD_COLUMNS`` says, ``count`` at a time, and the bytes of the heap that they cut up."""
        for first in range(0, len(self), count):
            here = min(count, len(self) - first)
            records = self._file.read(self._header.records_at + first * RECORD_BYTES, here * RECORD_BYTES)
            start, last = _RECORD.unpack_from(records)[0], _RECORD.unpack_from(records, (here - 1) * RECORD_BYTES)
            yield records, self._file.read(start, last[0] + last[3] + last[4] + last[6] - start)

    def start_block(self, number: int) -> int:
        """The data block an entry's bytes start in; for an entry without blocks, where the next one's do."""
        start: int = self._fields(number)[5]
        return start

    def extent(self, number: int) -> tuple[int, int]:
        """The data block an entry's bytes start in, as ``start_block``, and how many bytes there are."""
        fields = self._fields(number)
        return fields[5], fields[1]

    def find(self, block: int) -> int | None:
        """The entry whose bytes lie in that data block; None past the end of the data."""
        if not 0 <= block < self._header.data_blocks:
            return None
        # Entries without blocks share their start with the next one that has some: the last of them is wanted.
        blocks = -(-len(self) // _STARTS_PER_BLOCK)
        number = bisect_right(range(blocks), block, key=self._first_start) - 1
        return number * _STARTS_PER_BLOCK + bisect_right(self._starts(number), block) - 1

    def _first_start(self, number: int) -> int:
        start: int = _START.unpack_from(self._file.block(self._header.starts_at // BLOCK_BYTES + number))[0]
        return start

    def _starts(self, number: int) -> memoryview[int] | array[int]:
        """The start blocks in one block of them."""
        data = self._file.block(self._header.starts_at // BLOCK_BYTES + number)
        starts = memoryview(data)[: _START.size * (len(self) - number * _STARTS_PER_BLOCK)]
        if sys.byteorder == "big":
            swapped = array("I", starts.tobytes())
            swapped.byteswap()
            return swapped
        return starts.cast("I")

    def package_header(self) -> dict[str, Any]:
        """The header of the manifest."""
        return self._section(self._header.package_header_at, self._header.package_header_bytes)

    def directory_meta(self) -> dict[str, dict[str, Any]]:
        """The metadata of directories that have some, by logical key with a closing slash."""
        return self._section(self._header.directories_at, self._header.directories_bytes)

    def check(self) -> None:
        """Check the whole table. Raises IndexDamaged."""
        self._file.check()

    def _section(self, at: int, length: int) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self._file.read(at, length))
        return value


def _entry(fields: tuple[Any, ...], heap: bytes) -> Entry:
    _, size, value, url_bytes, _, _, key_bytes, algorithm, _ = fields
    url = heap[key_bytes : key_bytes + url_bytes]
    meta = heap[key_bytes + url_bytes :]
    return Entry(
        heap[:key_bytes].decode(),
        parse_physical_key(url.decode()),
        size,
        Digest(_ALGORITHMS[algorithm], value),
        {} if meta == EMPTY_META else json.loads(meta),
    )

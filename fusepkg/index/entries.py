"""The entry table of a package: everything the manifest says of its entries, by number and by data block.

Owns: the file ``entries``, its writer and its reader. Must not know: the image, how manifests are written.

    header (one block) | heap | records | start blocks | package header (JSON) | directory metadata (JSON)

Numbers are little-endian. The heap holds each entry's logical key, physical key URL and meta (JSON) one after another;
a record has 64 bytes, with a sum (XXH3) of itself, its number and its piece of the heap; the start blocks are one u64
each, ascending, for a binary search. Entries are numbered in tree order.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

import xxhash
from fusepkg_cache.digest import Algorithm, Digest

from fusepkg.errors import IndexDamaged
from fusepkg.index.checked import BLOCK_BYTES, damage_found, map_file
from fusepkg.model.entry import Entry
from fusepkg.model.physical_key import parse_physical_key
from fusepkg.model.record import EMPTY_META

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.model.record import EntryRecord

MAGIC = b"fusepkgE"
VERSION = 1

_RECORD = struct.Struct("<QQ32sIIHBB")
"""Where its heap piece starts, size, digest value, bytes of URL, of meta, of key, algorithm, kind."""

_RECORD_SUM = struct.Struct("<I")
RECORD_BYTES = _RECORD.size + _RECORD_SUM.size

_ALGORITHMS = (Algorithm.SHA2_256, Algorithm.SHA2_256_CHUNKED, Algorithm.CRC64NVME)
"""By code: new ones go to the end."""

_BATCH = 4096
"""Records written at once."""


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
    starts_sum: int
    package_header_sum: int
    directories_sum: int


_HEADER = struct.Struct("<8sQ32s12Q")
_SUM = struct.Struct("<Q")


class StoredContent(NamedTuple):
    """The bytes of an entry: how many, what they hash to, where they lie."""

    size: int
    digest: Digest
    url: str

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
        self._starts = array("Q")
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
        packed = _RECORD.pack(self._heap_at, size, value, len(url), len(meta), len(key), code, kind)
        self._records.append(packed + _RECORD_SUM.pack(_record_sum(self.count, packed + heap)))
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
        self, top_hash: str, data_blocks: int, package_header: Mapping[str, Any], directories: Mapping[str, Any]
    ) -> None:
        """Write what follows the heap, and the header."""
        self._write_out()
        records_at = self._align(64)
        self._scratch.seek(0)
        shutil.copyfileobj(self._scratch, self._file, 1024 * 1024)
        starts_at = self._file.tell()
        if sys.byteorder == "big":
            self._starts.byteswap()
        starts = memoryview(self._starts).cast("B")
        self._file.write(starts)
        sections = [json.dumps(value, ensure_ascii=False).encode() for value in (package_header, directories)]
        package_header_at = self._file.tell()
        self._file.write(b"".join(sections))
        header = _HEADER.pack(
            *_Header(
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
                _section_sum(starts),
                _section_sum(sections[0]),
                _section_sum(sections[1]),
            )
        )
        self._file.seek(0)
        self._file.write((header + _SUM.pack(_section_sum(header))).ljust(BLOCK_BYTES, b"\0"))
        self._file.flush()

    def _align(self, alignment: int) -> int:
        at = self._file.tell()
        self._file.write(bytes(-at % alignment))
        return self._file.tell()


def _record_sum(number: int, record_and_heap: bytes) -> int:
    return xxhash.xxh3_64_intdigest(record_and_heap, number) & 0xFFFFFFFF


def _section_sum(data: bytes | memoryview) -> int:
    return xxhash.xxh3_64_intdigest(data)


class EntryTable:
    """The entries of one package, mapped; checked as they are read. Calls raise IndexDamaged where that fails.

    Safe to use from many threads.
    """

    __slots__ = ("_data", "_header", "_path", "_starts", "_starts_checked", "_view", "top_hash")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = map_file(path, least_bytes=BLOCK_BYTES)
        self._view = memoryview(self._data)
        packed = self._view[: _HEADER.size]
        if _SUM.unpack_from(self._view, _HEADER.size)[0] != _section_sum(packed):
            raise IndexDamaged(f"the header of {path} is damaged")
        self._header = header = _Header(*_HEADER.unpack(packed))
        if (header.magic, header.version) != (MAGIC, VERSION):
            raise IndexDamaged(f"{path} is not an entry table of version {VERSION}")
        if len(self._data) != header.directories_at + header.directories_bytes:
            raise IndexDamaged(f"{path} is not of the size it had")
        self._starts = self._view[header.starts_at : header.starts_at + 8 * header.entries]
        self._starts_checked = False
        self.top_hash = header.top_hash.hex()

    def __len__(self) -> int:
        return self._header.entries

    def __iter__(self) -> Iterator[Entry]:
        """All entries in tree order."""
        return map(self.entry, range(len(self)))

    @property
    def data_blocks(self) -> int:
        """Blocks of the data device."""
        return self._header.data_blocks

    @property
    def total_bytes(self) -> int:
        """Sum of all sizes."""
        return self._header.total_bytes

    def entry(self, number: int) -> Entry:
        """The entry of that number. Raises IndexError past the last one."""
        (_, size, value, url_bytes, _, key_bytes, algorithm, _), heap = self._record(number)
        url = heap[key_bytes : key_bytes + url_bytes]
        meta = heap[key_bytes + url_bytes :]
        return Entry(
            heap[:key_bytes].decode(),
            parse_physical_key(url.decode()),
            size,
            Digest(_ALGORITHMS[algorithm], value),
            {} if meta == EMPTY_META else json.loads(meta),
        )

    def contents(self) -> Iterator[StoredContent]:
        """The bytes of all entries in tree order, in a third of the time that the entries take."""
        for number in range(len(self)):
            (_, size, value, url_bytes, _, key_bytes, algorithm, _), heap = self._record(number)
            url = heap[key_bytes : key_bytes + url_bytes].decode()
            yield StoredContent(size, Digest(_ALGORITHMS[algorithm], value), url)

    def logical_key(self, number: int) -> str:
        """The name of an entry, in a quarter of the time. Raises IndexError past the last one."""
        fields, heap = self._record(number)
        return heap[: fields[5]].decode()

    def _record(self, number: int) -> tuple[tuple[Any, ...], bytes]:
        """The fields of ``_RECORD``, and the piece of the heap they cut up, checked."""
        if not 0 <= number < self._header.entries:
            raise IndexError(number)
        at = self._header.records_at + number * RECORD_BYTES
        packed = self._data[at : at + _RECORD.size]
        fields = _RECORD.unpack(packed)
        heap = self._data[fields[0] : fields[0] + fields[3] + fields[4] + fields[5]]
        if _RECORD_SUM.unpack_from(self._view, at + _RECORD.size)[0] != _record_sum(number, packed + heap):
            raise damage_found(self._path, f"the record of entry {number} in {self._path} is damaged")
        return fields, heap

    def start_block(self, number: int) -> int:
        """The data block an entry's bytes start in; for an entry without blocks, where the next one's do."""
        if not 0 <= number < self._header.entries:
            raise IndexError(number)
        return self._checked_starts()[number]

    def find(self, block: int) -> int | None:
        """The entry whose bytes lie in that data block; None past the end of the data."""
        if not 0 <= block < self._header.data_blocks:
            return None
        # Entries without blocks share their start with the next one that has some: the last of them is wanted.
        return bisect_right(self._checked_starts(), block) - 1

    def package_header(self) -> dict[str, Any]:
        """The header of the manifest."""
        header = self._header
        return self._section(header.package_header_at, header.package_header_bytes, header.package_header_sum)

    def directory_meta(self) -> dict[str, dict[str, Any]]:
        """The metadata of directories that have some, by logical key with a closing slash."""
        header = self._header
        return self._section(header.directories_at, header.directories_bytes, header.directories_sum)

    def check(self) -> None:
        """Check the whole table. Raises IndexDamaged."""
        self.package_header()
        self.directory_meta()
        self._checked_starts()
        for _ in self:
            pass

    def _section(self, at: int, length: int, expected: int) -> dict[str, Any]:
        data = self._data[at : at + length]
        if _section_sum(data) != expected:
            raise damage_found(self._path, f"{self._path} is damaged")
        value: dict[str, Any] = json.loads(data)
        return value

    def _checked_starts(self) -> memoryview[int]:
        """All start blocks; checked as a whole, once: 8 bytes an entry, a millisecond for a million."""
        if not self._starts_checked:
            if _section_sum(self._starts) != self._header.starts_sum:
                raise damage_found(self._path, f"the start blocks in {self._path} are damaged")
            if sys.byteorder == "big":
                swapped = array("Q", bytes(self._starts))
                swapped.byteswap()
                self._starts = memoryview(swapped).cast("B")
            self._starts_checked = True
        return self._starts.cast("Q")

"""The text of a manifest: one header line, then directory records and entries, as JSON lines.

Lines are written byte for byte as quilt3 writes them. A manifest is read strictly and never held as a whole; what only
shows between lines, order and duplicates, is checked here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from fusepkg.errors import ManifestInvalid
from fusepkg.model.logical_key import check_logical_key
from fusepkg.model.record import DirectoryRecord, EntryRecord, FastRecords, parse_json, parse_record
from fusepkg.model.tophash import HEADER_KEY_NOT_HASHED, hash_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fusepkg.model.entry import Entry

FORMAT_VERSION = "v0"
"""``version`` of every header; the only one there has ever been."""

MAX_LINE_BYTES = 1_000_000
"""Longest line without its line feed: quilt3's limit, which keeps S3 Select and Athena working."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


# --- writing -------------------------------------------------------------------------------------------------


def write_header(header: Mapping[str, Any]) -> bytes:
    """The first line, keys in the order given."""
    record = {key: value for key, value in header.items() if key != HEADER_KEY_NOT_HASHED}
    _check_header(record)
    return _line(record, "the header")


def write_directory(logical_key: str, meta: Mapping[str, Any]) -> bytes:
    """The line that keeps a directory's metadata; ``logical_key`` ends with ``/``."""
    check_logical_key(logical_key.removesuffix("/"))
    return _line({"logical_key": logical_key, "meta": dict(meta)}, repr(logical_key))


def write_entry(entry: Entry) -> bytes:
    """The line of one entry; raises ManifestInvalid where it could not be read again."""
    check_logical_key(entry.logical_key)
    if not entry.meta:  # as most are: a third of the time
        found = hash_object(entry.digest)
        return (
            f'{{"logical_key": {encode_basestring(entry.logical_key)}, '
            f'"physical_keys": [{encode_basestring(str(entry.physical_key))}], "size": {entry.size}, '
            f'"hash": {{"type": "{found["type"]}", "value": "{found["value"]}"}}, "meta": {{}}}}\n'
        ).encode()
    record = {
        "logical_key": entry.logical_key,
        "physical_keys": [str(entry.physical_key)],
        "size": entry.size,
        "hash": hash_object(entry.digest),
        "meta": dict(entry.meta),
    }
    return _line(record, repr(entry.logical_key))


def _line(record: Mapping[str, Any], what: str) -> bytes:
    try:
        line = _encode(record).encode()
    except (ValueError, TypeError, RecursionError) as exc:  # NaN, lone surrogates, sets, endless nesting
        raise ManifestInvalid(f"the metadata of {what} cannot be written as JSON: {exc}") from exc
    if len(line) > MAX_LINE_BYTES:
        raise ManifestInvalid(
            f"the record of {what} has {len(line)} bytes, the limit is {MAX_LINE_BYTES}",
            hint="Keep large metadata in a file of the package",
        )
    return line + b"\n"


# --- reading -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ManifestReader:
    """A manifest being read: its header, and the records below it in the order of the file, once."""

    header: dict[str, Any]
    records: Iterator[EntryRecord | DirectoryRecord]


def read_manifest(pieces: Iterable[bytes], *, allow_file_keys: bool, allow_md5: bool = False) -> ManifestReader:
    """Start to read a manifest given in pieces cut anywhere: lines, or what a download hands over.

    The header is read at once, records as they are asked for; memory does not grow with the manifest. Every breach of
    the format raises ManifestInvalid (or UnsupportedFormat) with its line. ``allow_file_keys`` is False for a manifest
    that came from a bucket: it may not name files of this machine. ``allow_md5`` is True for one that was made here of
    a DVC repository, whose files have no other hash.
    """
    lines = _Lines(pieces)
    numbered = enumerate(lines, 1)
    for number, line in numbered:
        if line.startswith(b"\xef\xbb\xbf"):
            raise ManifestInvalid("starts with a byte order mark", line=number)
        header = _parse_header(lines, line, number)
        return ManifestReader(header, _records(lines, numbered, allow_file_keys, allow_md5))
    raise ManifestInvalid("the manifest is empty", line=1)


def _records(
    lines: _Lines, numbered: Iterator[tuple[int, bytes]], allow_file_keys: bool, allow_md5: bool
) -> Iterator[EntryRecord | DirectoryRecord]:
    parse_fast = FastRecords(allow_file_keys=allow_file_keys).parse
    for number, line in numbered:
        record = parse_fast(line, number) if len(line) <= MAX_LINE_BYTES else None
        if record is not None:
            yield record
        else:
            _check_line(lines, line, number)
            yield parse_record(line, number, allow_file_keys=allow_file_keys, allow_md5=allow_md5)


def _parse_header(lines: _Lines, line: bytes, number: int) -> dict[str, Any]:
    _check_line(lines, line, number)
    header = parse_json(line, number)
    header.pop(HEADER_KEY_NOT_HASHED, None)
    try:
        _check_header(header)
    except ManifestInvalid as exc:
        raise ManifestInvalid(exc.message.removeprefix("manifest: "), line=number) from exc
    return header


def _check_header(header: Mapping[str, Any]) -> None:
    version = header.get("version")
    if version != FORMAT_VERSION:
        raise ManifestInvalid(f"the header has version {str(version)[:40]!r} and not {FORMAT_VERSION!r}")
    for name, kind in (("message", str), ("user_meta", dict), ("workflow", dict)):
        if not isinstance(header.get(name), kind | None):
            raise ManifestInvalid(f"{name!r} of the header is of the wrong type")


def _check_line(lines: _Lines, line: bytes, number: int) -> None:
    """Refuse lines that are wrong before they are JSON."""
    if len(line) > MAX_LINE_BYTES:
        raise ManifestInvalid(f"is longer than {MAX_LINE_BYTES} bytes", line=number)
    if not line.strip():
        raise ManifestInvalid("is blank", line=number)
    if lines.unterminated:
        try:
            parse_json(line, number)
        except ManifestInvalid as exc:
            raise ManifestInvalid("is cut off", line=number, hint="Fetch the manifest again") from exc


class _Lines:
    """Lines without their line feed, out of pieces cut anywhere; holds one piece and one line at most."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.unterminated = False
        """True once the line handed out is the last one and has no line feed."""

    def __iter__(self) -> Iterator[bytes]:
        held: list[bytes] = []
        held_bytes = 0
        for piece in self._pieces:
            first, *rest = piece.split(b"\n")
            held.append(first)
            held_bytes += len(first)
            if held_bytes > MAX_LINE_BYTES:
                break  # the reader refuses it: no need to hold more of it
            if rest:
                yield b"".join(held)
                held = [rest.pop()]
                held_bytes = len(held[0])
                yield from rest
        if held_bytes:
            self.unterminated = True
            yield b"".join(held)


# --- between lines -------------------------------------------------------------------------------------------


class OutOfOrder(Exception):
    """A record comes before one that precedes it in tree order: no fault, but the manifest has to be sorted first."""


def in_tree_order(
    records: Iterable[EntryRecord | DirectoryRecord], directories: dict[str, dict[str, Any]]
) -> Iterator[EntryRecord]:
    """The entries of a manifest that is in tree order, each name once; fills ``directories`` with their metadata.

    Raises ManifestInvalid for duplicates and for a file and a directory of one name, and OutOfOrder where the answer
    would need memory: an entry too early, or a directory record below the first entry.
    """
    previous = b""
    known: set[bytes] = set()
    for record in records:
        if isinstance(record, DirectoryRecord):
            if previous:
                raise OutOfOrder
            if record.logical_key in directories:
                raise ManifestInvalid(f"the directory {record.logical_key!r} comes twice", line=record.line)
            directories[record.logical_key] = record.meta
            known.update(_with_parents(record.logical_key[:-1].encode()))
            continue
        place = record.key.replace(b"/", b"\0")
        if place <= previous and previous:
            if place == previous:
                raise ManifestInvalid(f"the entry {_shown(record)} comes twice", line=record.line)
            raise OutOfOrder
        if (previous and place.startswith(previous + b"\0")) or record.key in known:
            raise ManifestInvalid(f"{_shown(record)}: a file and a directory of one name", line=record.line)
        previous = place
        yield record


def sorted_in_tree_order(records: Iterable[EntryRecord | DirectoryRecord]) -> list[EntryRecord | DirectoryRecord]:
    """All records of a manifest that is not in tree order, directories first; holds it in memory."""
    return sorted(records, key=_place)


def _place(record: EntryRecord | DirectoryRecord) -> tuple[bool, bytes]:
    if isinstance(record, DirectoryRecord):
        return False, record.logical_key.replace("/", "\0").encode()
    return True, record.key.replace(b"/", b"\0")


def _with_parents(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _shown(record: EntryRecord) -> str:
    return repr(record.key[:120].decode(errors="replace"))

"""One line of a manifest below the header, read strictly.

Lines exactly as quilt3 and fusepkg write them take a fast path; all others are parsed as JSON.

Manifests come from buckets that others write to, so a record is either a file a mount can show, or refused.
"""

from __future__ import annotations

import binascii
import json
import re
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, NamedTuple

from fusepkg_cache.digest import CRC_BYTES, DIGEST_BYTES, MD5_BYTES, Algorithm, Digest, compute_digest

from fusepkg.errors import ManifestInvalid, UnsupportedFormat
from fusepkg.model.entry import (
    EMPTY_DIRECTORY_NAME,
    MAX_NAME_BYTES,
    META_KEY,
    Entry,
    EntryKind,
    kind_of,
    leads_out,
)
from fusepkg.model.links import text_stays_inside
from fusepkg.model.logical_key import check_logical_key
from fusepkg.model.physical_key import MAX_PATH_BYTES, parse_physical_key
from fusepkg.model.tophash import MD5_TYPES, canonical_json

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SIZE_BYTES = 2**63 - 1
"""Largest size of one object: what a kernel's signed file offset can express."""

_MD5_ALGORITHMS = {name: algorithm for algorithm, name in MD5_TYPES.items()}

EMPTY_META = b"{}"
"""Text of the meta of an entry that has none, as nearly all have."""


class EntryRecord(NamedTuple):
    """An entry as one line has it; a tuple of bytes because a million of them pass by.

    ``key``, ``url`` and ``meta`` (JSON) are UTF-8; ``value`` is the raw hash; ``canonical`` is the top hash's text.
    """

    line: int
    key: bytes
    url: bytes
    size: int
    algorithm: Algorithm
    value: bytes
    kind: EntryKind
    meta: bytes
    canonical: bytes

    @property
    def symlink_target(self) -> bytes:
        """Where a symbolic link points to; only for records of that kind."""
        target: str = json.loads(self.meta)[META_KEY]["symlink"]
        return target.encode()

    @property
    def leads_out(self) -> bool:
        """Whether it is a symbolic link that its publisher kept although it leads out of the package."""
        return leads_out(json.loads(self.meta))

    def entry(self) -> Entry:
        """The record as the value the rest of fusepkg knows."""
        return Entry(
            self.key.decode(),
            parse_physical_key(self.url.decode()),
            self.size,
            Digest(self.algorithm, self.value),
            json.loads(self.meta),
        )


class DirectoryRecord(NamedTuple):
    """User metadata of a directory; ``logical_key`` ends with ``/``. No part of the top hash."""

    line: int
    logical_key: str
    meta: dict[str, Any]


def parse_json(line: bytes, number: int) -> dict[str, Any]:
    """Read one line as a JSON object without duplicate keys, at any depth; raises ManifestInvalid."""
    try:
        text = line.decode()
        value = _decode(text)
        if "\\u" in text:
            # Only an escape can bring in a lone surrogate, which no file name and no UTF-8 output can hold.
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as exc:
        raise ManifestInvalid("is not UTF-8", line=number) from exc
    except UnicodeEncodeError as exc:
        raise ManifestInvalid("holds an unpaired surrogate", line=number) from exc
    except RecursionError as exc:
        raise ManifestInvalid("is nested too deeply", line=number) from exc
    except ValueError as exc:
        raise ManifestInvalid(f"is not JSON: {exc}", line=number) from exc
    if not isinstance(value, dict):
        raise ManifestInvalid("is not a JSON object", line=number)
    return value


def parse_record(
    line: bytes, number: int, *, allow_file_keys: bool, allow_md5: bool = False
) -> EntryRecord | DirectoryRecord:
    """Read one line strictly, however it is written; raises ManifestInvalid or UnsupportedFormat with the line."""
    record = parse_json(line, number)
    try:
        if not record.get("physical_keys"):
            return _directory_record(record, number)
        return _entry_record(record, number, allow_file_keys=allow_file_keys, allow_md5=allow_md5)
    except ManifestInvalid as exc:
        if exc.line:
            raise
        raise ManifestInvalid(exc.message.removeprefix("manifest: "), line=number) from exc
    except RecursionError as exc:
        raise ManifestInvalid("is nested too deeply", line=number) from exc


def _directory_record(record: dict[str, Any], number: int) -> DirectoryRecord:
    key = _field(record, "logical_key", str)
    if not key.endswith("/"):
        raise ManifestInvalid(f"{key[:100]!r} has no physical_keys and is not a directory")
    check_logical_key(key[:-1])
    return DirectoryRecord(number, key, _meta(record))


def _entry_record(record: dict[str, Any], number: int, *, allow_file_keys: bool, allow_md5: bool) -> EntryRecord:
    key = _field(record, "logical_key", str)
    check_logical_key(key)
    urls = _field(record, "physical_keys", list)
    if not isinstance(urls[0], str):
        raise ManifestInvalid("physical_keys does not hold text")
    if parse_physical_key(urls[0]).scheme == "file" and not allow_file_keys:
        raise ManifestInvalid(f"the entry {key[:100]!r} names a file of this machine, {urls[0][:100]!r}")
    size = _field(record, "size", int)
    if not 0 <= size <= MAX_SIZE_BYTES:
        raise ManifestInvalid(f"size {str(size)[:30]} is not between 0 and {MAX_SIZE_BYTES}")
    digest = _digest(_field(record, "hash", dict), number, allow_md5=allow_md5)
    meta = _meta(record)
    canonical = {"hash": record["hash"], "logical_key": key, "meta": meta, "size": size}
    return EntryRecord(
        number,
        key.encode(),
        urls[0].encode(),
        size,
        digest.algorithm,
        digest.value,
        check_kind(key, size, digest, meta),
        json.dumps(meta, ensure_ascii=False, separators=(",", ":")).encode(),
        canonical_json(canonical).encode("ascii"),
    )


def _field(record: dict[str, Any], name: str, kind: type[Any]) -> Any:  # noqa: ANN401 -- what `kind` says
    try:
        value = record[name]
    except KeyError as exc:
        raise ManifestInvalid(f"has no {name!r}") from exc
    if type(value) is not kind:  # not isinstance: true is no size
        raise ManifestInvalid(f"{name!r} is of the wrong type")
    return value


def _meta(record: dict[str, Any]) -> dict[str, Any]:
    if "meta" in record and record["meta"] is None:
        return {}
    meta: dict[str, Any] = _field(record, "meta", dict)
    return meta


def _digest(hash_object: dict[str, Any], number: int, *, allow_md5: bool) -> Digest:
    kind = _field(hash_object, "type", str)
    value = _field(hash_object, "value", str)
    if kind not in ("SHA256", "sha2-256-chunked", "CRC64NVME") and not (allow_md5 and kind in _MD5_ALGORITHMS):
        raise UnsupportedFormat(
            f"manifest line {number}: the hash type {kind[:40]!r} is not supported",
            hint="Push the package again with quilt3 or fusepkg, which write sha2-256-chunked",
        )
    if len(hash_object) != 2:
        raise ManifestInvalid("'hash' has keys besides type and value")
    try:
        if kind == "SHA256":
            return Digest(Algorithm.SHA2_256, _exact(bytes.fromhex(value), value, bytes.hex))
        if kind == "CRC64NVME":
            checksum = _exact(binascii.a2b_base64(value), value, _base64, length=CRC_BYTES)
            return Digest(Algorithm.CRC64NVME, checksum.ljust(DIGEST_BYTES, b"\0"))  # a manifest knows no scope
        if kind in _MD5_ALGORITHMS:
            checksum = _exact(bytes.fromhex(value), value, bytes.hex, length=MD5_BYTES)
            return Digest(_MD5_ALGORITHMS[kind], checksum.ljust(DIGEST_BYTES, b"\0"))
        return Digest(Algorithm.SHA2_256_CHUNKED, _exact(binascii.a2b_base64(value), value, _base64))
    except ValueError as exc:
        raise ManifestInvalid(f"hash value {value[:80]!r} is not a {kind} value") from exc


def _exact(
    raw: bytes,
    text: str,
    write: Any,  # noqa: ANN401 -- bytes.hex has no simpler type
    *,
    length: int = DIGEST_BYTES,
) -> bytes:
    """Refuse the other spellings of a hash: they would change the top hash without changing the bytes."""
    if len(raw) != length or write(raw) != text:
        raise ValueError
    return raw


def _base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode("ascii")


# --- entries that are more than a plain file -----------------------------------------------------------------


def check_kind(key: str, size: int, digest: Digest, meta: Mapping[str, Any]) -> EntryKind:
    """The kind of an entry; refuses links and empty directories that are not what they say (no line in the error)."""
    if META_KEY not in meta:
        return EntryKind.FILE
    kind = kind_of(meta)
    if kind is EntryKind.SYMLINK:
        _check_symlink(key, meta[META_KEY]["symlink"], size, digest, may_lead_out=leads_out(meta))
    if kind is EntryKind.EMPTY_DIRECTORY and (key.rpartition("/")[2] != EMPTY_DIRECTORY_NAME or size):
        raise ManifestInvalid(f"{key[:100]!r} is no marker of an empty directory")
    return kind


def _check_symlink(key: str, target: str, size: int, digest: Digest, *, may_lead_out: bool) -> None:
    raw = target.encode()
    shown = f"the symbolic link {key[:100]!r} to {target[:100]!r}"
    if not raw or len(raw) > MAX_PATH_BYTES or "\0" in target:
        raise ManifestInvalid(f"{shown} is empty, too long or holds a NUL character")
    if not may_lead_out and not text_stays_inside(key, target):
        raise ManifestInvalid(f"{shown} leaves the package")
    if len(raw) != size or compute_digest(digest.algorithm, raw) != digest:
        raise ManifestInvalid(f"{shown} does not have the size and hash of its target's text")


# --- the fast path -------------------------------------------------------------------------------------------

_STANDARD_LINE = re.compile(
    rb'\{"logical_key": "((?:[^"\\\x00-\x1f\x7f]+/)?)([^"\\\x00-\x1f\x7f/]+)", '
    rb'"physical_keys": \["((?:s3://[A-Za-z0-9][A-Za-z0-9._-]{0,254}|file://)/[A-Za-z0-9_.~/%-]{1,1024}'
    rb'(?:\?versionId=[A-Za-z0-9_.~%-]{1,1024})?)"\], '
    rb'"size": (0|[1-9][0-9]{0,18}), '
    rb'"hash": \{"type": "(?:SHA256", "value": "([0-9a-f]{64})'
    # The last character of 32 bytes in base64 has two unused bits: the ones where they are 0.
    rb'|sha2-256-chunked", "value": "([0-9A-Za-z+/]{42}[AEIMQUYcgkosw048]=))"\}, '
    rb'"meta": (\{.*\})\}\r?'
)
"""A record with the separators, order and hash types quilt3 writes, without any escape outside ``meta``.

The key holds nothing that canonical JSON escapes except non-ASCII characters (DEL stands in lines as it is, but is
escaped there). What matches has no duplicate keys, and its meta, if that is one JSON object, ends where the record
does. Whatever does not match is not wrong but goes the slow way.
"""

# Looked up once: an attribute of an enum class costs as much as matching a third of the line.
_FILE, _SHA256, _CHUNKED_SHA256 = EntryKind.FILE, Algorithm.SHA2_256, Algorithm.SHA2_256_CHUNKED

_NO_NAMES = frozenset((b".", b".."))

# How the canonical text begins, up to the hash value.
_PLAIN = b'{"hash":{"type":"SHA256","value":"'
_CHUNKED = b'{"hash":{"type":"sha2-256-chunked","value":"'

_new_record = tuple.__new__
"""Makes the tuple without the detour over its class: a tenth of the fast path's time."""


class FastRecords:
    """Reads standard lines at a few microseconds each, and says None to all others."""

    __slots__ = ("_allow_file_keys", "_directory")

    def __init__(self, *, allow_file_keys: bool) -> None:
        self._allow_file_keys = allow_file_keys
        self._directory = b""  # the last one found valid, with its closing slash: neighbours mostly share it

    def parse(self, line: bytes, number: int) -> EntryRecord | None:
        """The record of a standard line."""
        match = _STANDARD_LINE.fullmatch(line)
        if match is None:
            return None
        directory, name, url, size_text, hex_value, base64_value, meta = match.groups()
        if directory != self._directory:
            if not _is_directory(directory):
                return None
            self._directory = directory
        if name in _NO_NAMES or len(name) > MAX_NAME_BYTES or len(directory) + len(name) > MAX_PATH_BYTES:
            return None
        if url.startswith(b"f") and (not self._allow_file_keys or b"?" in url):
            return None
        if b"%" in url and not _is_physical_key(url):
            return None
        size = int(size_text)
        if size > MAX_SIZE_BYTES:
            return None
        key = directory + name
        quoted = key
        if not key.isascii():
            try:
                quoted = encode_basestring_ascii(key.decode()).encode("ascii")[1:-1]
            except UnicodeDecodeError:
                return None
        if hex_value is None:
            algorithm, value = _CHUNKED_SHA256, binascii.a2b_base64(base64_value)
            written = _CHUNKED + base64_value
        else:
            algorithm, value = _SHA256, bytes.fromhex(hex_value.decode("ascii"))
            written = _PLAIN + hex_value
        kind, canonical_meta = _FILE, meta
        if meta != EMPTY_META:
            try:
                parsed = parse_json(meta, number)
                kind = check_kind(key.decode(), size, Digest(algorithm, value), parsed)
                canonical_meta = canonical_json(parsed).encode("ascii")
            except (ManifestInvalid, RecursionError):
                return None  # the slow way finds the words for it
        canonical = b"".join(
            (written, b'"},"logical_key":"', quoted, b'","meta":', canonical_meta, b',"size":', size_text, b"}")
        )
        return _new_record(EntryRecord, (number, key, url, size, algorithm, value, kind, meta, canonical))


def _is_directory(directory: bytes) -> bool:
    try:
        check_logical_key(directory[:-1].decode() or "a")
    except (ManifestInvalid, UnicodeDecodeError):
        return False
    return True


def _is_physical_key(url: bytes) -> bool:
    try:
        parse_physical_key(url.decode())
    except ManifestInvalid:
        return False
    return True


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


_decode = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant).decode

"""Hints: last known tags and digests of files and objects, kept to save work.

Tags are kept to mount while offline, digests of unchanged local files and of versions of objects to push them again
without reading them. This is the only use of diskcache.

Losing them costs time only: on damage, a full disk, or another user's directory they are forgotten, and nothing is
raised. diskcache unpickles values by default; the ``Disk`` here reads bytes only.

Safe to use from many threads and processes: one lock, and a connection is kept open for the creating thread alone.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import diskcache
import msgspec
from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest, combine_chunks

from fusepkg.work.private import make_private_directories

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from fusepkg.state.file_identity import FileIdentity

log = logging.getLogger(__name__)

_FORMAT = b"1"
"""Part of every key; another number makes older values unknown."""

_SIZE_LIMIT_BYTES = 1 << 30
"""About five million files; the oldest are forgotten first."""

_INLINE_BYTES = 1 << 20
"""Values below this lie in SQLite and not in files of their own: a list of 10,000 chunk hashes has 320 KB."""

_BUSY_TIMEOUT_S = 5
"""How long another process may hold the database before we go without it."""

_FILES_PER_TRANSACTION = 1_000
"""Digests written at a time: a commit costs as much as a hundred rows."""

_KEYS_PER_QUERY = 500
"""Digests asked for at a time: SQLite takes 999 parameters at least."""

_MENDABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT)
"""Errors that starting with an empty database mends; a full disk or missing permission stays as it is."""

_DATABASE_FILES = ("cache.db", "cache.db-wal", "cache.db-shm", "cache.db-journal")
"""All that diskcache leaves in the directory while every value is inline."""

_SUM_BYTES = 8
"""Before a tag's value, so that damage to it shows."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TagHint:
    """The top hash a tag last named; ``time`` in seconds since 1970."""

    top_hash: str
    time: float


class _TagValue(msgspec.Struct, frozen=True, array_like=True):
    top_hash: str
    time: float


class _BytesDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Keys and values are bytes, in the database and in memory; any other type is refused."""

    def put(self, key: object) -> tuple[object, bool]:
        if type(key) is not bytes:
            raise TypeError("keys are bytes")
        return sqlite3.Binary(key), True

    def get(self, key: object, raw: bool) -> bytes:
        if not raw or type(key) is not bytes:
            raise ValueError("the key is not bytes")
        return key

    def store(self, value: object, read: bool, key: object = diskcache.UNKNOWN) -> tuple[int, int, str | None, object]:
        if type(value) is not bytes or len(value) >= self.min_file_size:
            raise TypeError("values are short bytes")
        del read, key
        return len(value), diskcache.core.MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> bytes:
        del read
        if mode != diskcache.core.MODE_RAW or filename is not None or type(value) is not bytes:
            raise ValueError("the value is not bytes")
        return value


class Hints:
    """The hints in one directory, which is made with mode 0700 if missing.

    ``find_mounted`` knows the hash of a file, and of its chunks if there are several, from the manifest of a mount that
    it lies in; None if it does not.
    """

    def __init__(
        self,
        directory: Path,
        find_mounted: Callable[[FileIdentity], tuple[Digest, tuple[bytes, ...]] | None] = lambda _: None,
    ) -> None:
        self.find_mounted = find_mounted
        self._directory = directory
        self._lock = threading.Lock()
        self._owner = threading.get_ident()
        self._cache: diskcache.Cache | None = None
        self._useless = False

    def close(self) -> None:
        """Close the database; later calls open it again."""
        with self._lock:
            self._close()

    def tag(self, registry: str, name: str, tag: str) -> TagHint | None:
        """Return the top hash a tag had when it was last resolved."""
        data = self._guarded(lambda cache: cache.get(_tag_key(registry, name, tag)), None)
        if not isinstance(data, bytes) or _sum(data[_SUM_BYTES:]) != data[:_SUM_BYTES]:
            return None
        try:
            value = msgspec.msgpack.decode(data[_SUM_BYTES:], type=_TagValue)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return TagHint(value.top_hash, value.time)

    def remember_tag(self, registry: str, name: str, tag: str, top_hash: str, *, now: float | None = None) -> None:
        """Remember the top hash a tag names; ``registry`` is the bucket as typed, with its endpoint if any."""
        data = msgspec.msgpack.encode(_TagValue(top_hash, time.time() if now is None else now))
        self._guarded(lambda cache: cache.set(_tag_key(registry, name, tag), _sum(data) + data), None)

    def chunk_hashes(self, files: Iterable[FileIdentity]) -> dict[FileIdentity, tuple[bytes, ...]]:
        """Return the raw SHA-256 of each chunk of those files that are known to be unchanged.

        ``combine_chunks`` makes the digest of them. Files whose identity is not lasting are not looked up.
        """

        def look_up(cache: diskcache.Cache) -> dict[FileIdentity, tuple[bytes, ...]]:
            found = {}
            asked = {_file_key(identity): identity for identity in files if identity.is_lasting}
            for key, data in _get_many(cache, list(asked)):
                if key in asked and (chunks := _split(data)) is not None:
                    found[asked[key]] = chunks
            return found

        return self._guarded(look_up, {})

    def remember_chunk_hashes(self, files: Mapping[FileIdentity, Sequence[bytes]], *, read_at_ns: int) -> None:
        """Remember what files hash to; ``read_at_ns`` is when reading the first of them began (``time.time_ns``).

        Files that could change again without a sign are left out (``FileIdentity.is_settled``).
        """
        settled = [
            (_file_key(identity), _join(chunks))
            for identity, chunks in files.items()
            if identity.is_settled(read_at_ns)
        ]
        for at in range(0, len(settled), _FILES_PER_TRANSACTION):
            batch = settled[at : at + _FILES_PER_TRANSACTION]

            def write(cache: diskcache.Cache, batch: list[tuple[bytes, bytes]] = batch) -> None:
                with cache.transact():
                    for key, data in batch:
                        cache.set(key, data)

            self._guarded(write, None)

    def object_chunk_hashes(self, identity: str) -> tuple[bytes, ...] | None:
        """Return the raw SHA-256 of each chunk of an object; ``identity`` is its place and version or ETag."""
        return _split(self._guarded(lambda cache: cache.get(_object_key(identity)), None))

    def remember_object_chunk_hashes(self, identity: str, chunks: Sequence[bytes]) -> None:
        """Remember what an object hashes to."""
        self._guarded(lambda cache: cache.set(_object_key(identity), _join(chunks)), None)

    def block_root(self, digest: Digest) -> Digest | None:
        """Return the root of the block hashes of a file that was published before, by its digest."""
        data = self._guarded(lambda cache: cache.get(_block_root_key(digest)), None)
        if not isinstance(data, bytes) or len(data) != _SUM_BYTES + DIGEST_BYTES:
            return None
        root = data[_SUM_BYTES:]
        return Digest(Algorithm.SHA2_256, root) if _sum(digest.value + root) == data[:_SUM_BYTES] else None

    def remember_block_root(self, digest: Digest, root: Digest) -> None:
        """Remember the root of a file's block hashes."""
        data = _sum(digest.value + root.value) + root.value
        self._guarded(lambda cache: cache.set(_block_root_key(digest), data), None)

    def _guarded(self, act: Callable[[diskcache.Cache], _T], forgotten: _T) -> _T:
        with self._lock:
            if self._useless:
                return forgotten
            try:
                return act(self._open())
            except diskcache.Timeout:
                return forgotten
            except sqlite3.Error as exc:
                self._start_again(exc)
            except (OSError, ValueError, TypeError, LookupError) as exc:  # what diskcache makes of odd contents
                self._start_again(exc)
            finally:
                if threading.get_ident() != self._owner:
                    self._close()  # diskcache has a connection per thread, and only that thread can close it
        return forgotten

    def _open(self) -> diskcache.Cache:
        if self._cache is None:
            _make_private(self._directory)
            path = str(self._directory.absolute())
            if os.path.expandvars(path) != path:
                raise PermissionError(f"{path}: diskcache would expand a variable in that name")
            self._cache = diskcache.Cache(
                path,
                disk=_BytesDisk,
                disk_min_file_size=_INLINE_BYTES,
                size_limit=_SIZE_LIMIT_BYTES,
                timeout=_BUSY_TIMEOUT_S,
            )
        return self._cache

    def _start_again(self, exc: Exception) -> None:
        """Delete the database if that can mend it; otherwise stop using hints."""
        self._close()
        self._cache = None
        code = getattr(exc, "sqlite_errorcode", None)
        mendable = not isinstance(exc, OSError) if code is None else (code & 0xFF) in _MENDABLE
        log.warning("%s cannot be used (%s)%s", self._directory, exc, "; starting again" if mendable else "")
        if not mendable:
            self._useless = True
            return
        try:
            if _is_ours(self._directory):
                for name in _DATABASE_FILES:  # and nothing else: the directory may be a mistake
                    (self._directory / name).unlink(missing_ok=True)
        except OSError as failed:
            log.warning("%s cannot be emptied (%s)", self._directory, failed)
            self._useless = True

    def _close(self) -> None:
        if self._cache is not None:
            try:
                self._cache.close()
            except sqlite3.Error as exc:
                log.debug("closing %s: %s", self._directory, exc)


def _make_private(directory: Path) -> None:
    make_private_directories(directory)
    if not _is_ours(directory):
        raise PermissionError(f"{directory} belongs to another user")
    if directory.stat().st_mode & 0o077:
        directory.chmod(0o700)


def _is_ours(directory: Path) -> bool:
    return not directory.is_symlink() and directory.stat().st_uid == os.geteuid()


def _get_many(cache: diskcache.Cache, keys: Sequence[bytes]) -> Iterator[tuple[object, object]]:
    """Give those of the keys that are known, with their values; a quarter of the time of ``cache.get`` for each."""
    for at in range(0, len(keys), _KEYS_PER_QUERY):
        batch = keys[at : at + _KEYS_PER_QUERY]
        rows = cache._sql(  # noqa: SLF001 -- diskcache has no call for many keys
            "SELECT key, mode, filename, value FROM Cache WHERE raw = 1 AND expire_time IS NULL"
            f" AND key IN ({','.join('?' * len(batch))})",
            batch,
        ).fetchall()
        for key, mode, filename, value in rows:
            yield key, cache.disk.fetch(mode, filename, value, read=False)


def _tag_key(registry: str, name: str, tag: str) -> bytes:
    return b"tag\0" + _FORMAT + msgspec.msgpack.encode((registry, name, tag))


def _file_key(identity: FileIdentity) -> bytes:
    fields = (identity.filesystem, identity.inode, identity.size, identity.mtime_ns, identity.ctime_ns)
    return b"file\0" + _FORMAT + msgspec.msgpack.encode(fields)


def _object_key(identity: str) -> bytes:
    return b"object\0" + _FORMAT + hashlib.sha256(identity.encode()).digest()


def _block_root_key(digest: Digest) -> bytes:
    return b"blocks\0" + _FORMAT + digest.value


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_SUM_BYTES]


def _join(chunks: Sequence[bytes]) -> bytes:
    """Return the combined digest followed by the chunk hashes, so that a damaged value is detected."""
    return combine_chunks(chunks).value + b"".join(chunks)


def _split(data: object) -> tuple[bytes, ...] | None:
    if type(data) is not bytes or not data or len(data) % DIGEST_BYTES:
        return None
    chunks = tuple(data[at : at + DIGEST_BYTES] for at in range(DIGEST_BYTES, len(data), DIGEST_BYTES))
    return chunks if combine_chunks(chunks).value == data[:DIGEST_BYTES] else None

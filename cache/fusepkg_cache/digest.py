"""Names of blobs: which hash, which value, and how it is computed.

``sha2-256`` is plain SHA-256. ``sha2-256-chunked`` splits the blob in chunks of ``chunk_size(len)`` bytes and is the
SHA-256 of the chunks' concatenated raw SHA-256 values, also for one chunk; no bytes, no chunks. (quilt3's format.)

``crc64nvme`` is the checksum that S3 computes of every object: 8 bytes, which find damage but prove nothing, for other
bytes with the same checksum are easily made. So 24 more bytes say whose checksum it is (the scope): a caller that
names a blob by one fills them with what tells the source of the bytes, such as a hash of its address, and what came
from one source is never given out as what another has. Zeros where that does not matter.

``md5`` is as weak, has 16 bytes and 16 of scope. ``md5-dos2unix`` is DVC's older form of it: line ends of Windows in
what looks like text, in each MiB for itself, count as those of Unix.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusepkg_cache.errors import WrongBytes

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_CHUNK_BYTES = 8 * 1024 * 1024
"""Chunk size of every blob up to ``MAX_CHUNKS`` chunks; also S3's part size in quilt3 uploads."""

MAX_CHUNKS = 10_000
"""S3's limit of parts per upload: the chunk size doubles while a blob would need more."""

DIGEST_BYTES = 32
"""Length of a raw digest value: SHA-256, or a checksum and its scope."""

CRC_BYTES = 8
"""Length of the checksum at the front of a ``crc64nvme`` value, big-endian as S3 writes it."""

MD5_BYTES = 16
"""Length of the checksum at the front of an ``md5`` value."""

_DOS2UNIX_BYTES = 1024**2
"""What DVC looks at together: a line end across two such blocks stays as it is."""

_LOOKED_AT_BYTES = 512
"""How much of a block says whether it is text."""

_TEXT = bytes(range(32, 127)) + b"\n\r\t\f\b"


class Algorithm(enum.Enum):
    """A hash algorithm; the value is its name in cache keys and log lines."""

    SHA2_256 = "sha2-256"
    SHA2_256_CHUNKED = "sha2-256-chunked"
    CRC64NVME = "crc64nvme"
    MD5 = "md5"
    MD5_DOS2UNIX = "md5-dos2unix"

    __hash__ = object.__hash__  # there is one of each; that of Enum runs Python code

    @property
    def weak(self) -> bool:
        """Whether somebody could make other bytes with the same value."""
        return self in _WEAK_BYTES


_WEAK_BYTES = {Algorithm.CRC64NVME: CRC_BYTES, Algorithm.MD5: MD5_BYTES, Algorithm.MD5_DOS2UNIX: MD5_BYTES}
"""How much of the value of a weak digest is computed; the rest is its scope."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The identity of a blob: ``value`` is the raw hash, 32 bytes; of a weak one the checksum and its scope."""

    algorithm: Algorithm
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != DIGEST_BYTES:
            raise ValueError(f"a digest has {DIGEST_BYTES} bytes, not {len(self.value)}")

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.value == other.value and self.algorithm is other.algorithm

    @property
    def hex(self) -> str:
        """Lower-case hex of the value."""
        return self.value.hex()

    @property
    def base64(self) -> str:
        """Standard base64 of what is computed, padded: how manifests write chunked hashes, and S3 checksums."""
        return base64.b64encode(self.computed).decode("ascii")

    @property
    def computed(self) -> bytes:
        """The part of the value that follows from the bytes alone: all of it, or without the scope."""
        return self.value[: _WEAK_BYTES.get(self.algorithm, DIGEST_BYTES)]

    def matches(self, found: Digest) -> bool:
        """Whether bytes that ``found`` was computed of are those this names."""
        return found.algorithm is self.algorithm and found.computed == self.computed

    def __str__(self) -> str:
        has_scope = self.value != self.computed.ljust(DIGEST_BYTES, b"\0")
        return f"{self.algorithm.value}:{self.hex if has_scope else self.computed.hex()}"


def chunk_size(blob_bytes: int) -> int:
    """Bytes per chunk of a blob of that size."""
    size = MIN_CHUNK_BYTES
    while -(-blob_bytes // size) > MAX_CHUNKS:
        size *= 2
    return size


def chunk_count(blob_bytes: int) -> int:
    """Number of chunks of a blob of that size; 0 for an empty one."""
    return -(-blob_bytes // chunk_size(blob_bytes))


def chunk_digest(chunk: bytes | bytearray | memoryview) -> Digest:
    """The name of one chunk as a blob of its own: its plain SHA-256."""
    return Digest(Algorithm.SHA2_256, hashlib.sha256(chunk).digest())


def combine_chunks(chunks: Sequence[bytes]) -> Digest:
    """The ``sha2-256-chunked`` digest of a blob whose chunks have these raw SHA-256 values, in order."""
    return Digest(Algorithm.SHA2_256_CHUNKED, hashlib.sha256(b"".join(chunks)).digest())


class Hashing:
    """The digest of a blob whose bytes come in pieces; of how many, has to be known before."""

    def __init__(self, algorithm: Algorithm, blob_bytes: int) -> None:
        self._algorithm = algorithm
        self._chunk_bytes = chunk_size(blob_bytes)
        self._room = self._chunk_bytes
        self._chunks: list[bytes] = []
        self._sha = hashlib.sha256()
        self._crc = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._block = bytearray()

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        if self._algorithm is Algorithm.CRC64NVME:
            self._crc = _crc64nvme(piece, self._crc)
        elif self._algorithm is Algorithm.SHA2_256:
            self._sha.update(piece)
        elif self._algorithm is Algorithm.MD5:
            self._md5.update(piece)
        elif self._algorithm is Algorithm.MD5_DOS2UNIX:
            self._update_blocks(memoryview(piece))
        else:
            self._update_chunks(memoryview(piece))

    def digest(self) -> Digest:
        """The digest of what was taken; no scope is in it. The last call."""
        if self._algorithm is Algorithm.CRC64NVME:
            return Digest(self._algorithm, self._crc.to_bytes(CRC_BYTES, "big") + bytes(DIGEST_BYTES - CRC_BYTES))
        if self._algorithm is Algorithm.SHA2_256:
            return Digest(self._algorithm, self._sha.digest())
        if self._algorithm.weak:
            self._md5.update(_dos2unix(bytes(self._block)))
            return Digest(self._algorithm, self._md5.digest().ljust(DIGEST_BYTES, b"\0"))
        if self._room < self._chunk_bytes:
            self._chunks.append(self._sha.digest())
        return combine_chunks(self._chunks)

    def _update_blocks(self, view: memoryview) -> None:
        while len(view):
            taken = view[: _DOS2UNIX_BYTES - len(self._block)]
            self._block += taken
            view = view[len(taken) :]
            if len(self._block) == _DOS2UNIX_BYTES:
                self._md5.update(_dos2unix(bytes(self._block)))
                self._block.clear()

    def _update_chunks(self, view: memoryview) -> None:
        while len(view):
            taken = view[: self._room]
            self._sha.update(taken)
            self._room -= len(taken)
            if not self._room:
                self._chunks.append(self._sha.digest())
                self._sha, self._room = hashlib.sha256(), self._chunk_bytes
            view = view[len(taken) :]


def compute_digest(algorithm: Algorithm, data: bytes | bytearray | memoryview) -> Digest:
    """The digest of a whole blob held in memory; no scope is in it."""
    if algorithm is Algorithm.SHA2_256_CHUNKED and 0 < len(data) <= MIN_CHUNK_BYTES:
        return combine_chunks([hashlib.sha256(data).digest()])
    hashing = Hashing(algorithm, len(data))
    hashing.update(data)
    return hashing.digest()


def require_match(digest: Digest, data: bytes) -> None:
    """Raise WrongBytes unless ``data`` is the blob that ``digest`` names."""
    found = compute_digest(digest.algorithm, data)
    if not digest.matches(found):
        raise WrongBytes(f"{len(data)} bytes given as {digest} hash to {found}")


class Verified:
    """A blob whose bytes were hashed and are what ``digest`` names. Made by ``verified`` alone."""

    __slots__ = ("data", "digest")
    digest: Digest
    data: bytes

    def __new__(cls, *_: object) -> Verified:
        """Raise TypeError: nothing is verified by saying so."""
        raise TypeError("only verified() makes a Verified, from bytes it has hashed")


def verified(digest: Digest, data: bytes) -> Verified:
    """Hash ``data`` and return it as the blob that ``digest`` names. Raises WrongBytes."""
    require_match(digest, data)
    made = object.__new__(Verified)
    made.digest, made.data = digest, data
    return made


def _dos2unix(block: bytes) -> bytes:
    """Return a block with the line ends of Unix if it looks like text; how that is told is DVC's, byte for byte."""
    start = block[:_LOOKED_AT_BYTES]
    is_text = b"\0" not in start and len(start.translate(None, _TEXT)) <= 0.30 * len(start)
    return block.replace(b"\r\n", b"\n") if is_text else block


def _crc64nvme(piece: bytes | bytearray | memoryview, before: int) -> int:
    from awscrt.checksums import crc64nvme  # 80 ms and 7 MB, which few programs need

    crc: int = crc64nvme(piece, before)
    return crc

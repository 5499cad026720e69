"""Hashes of numbered entries, kept in little room: a million take 33 MB."""

from __future__ import annotations

from dataclasses import dataclass

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest


@dataclass(frozen=True, slots=True)
class Hashed:
    """A digest, and the raw SHA-256 of each chunk where there is more than one."""

    digest: Digest
    chunks: tuple[bytes, ...] = ()


class HashTable:
    """The ``sha2-256-chunked`` hashes of the entries 0 to ``count - 1``, as far as they are known."""

    __slots__ = ("_chunks", "_known", "_values")

    def __init__(self, count: int) -> None:
        self._values = bytearray(count * DIGEST_BYTES)
        self._known = bytearray(count)
        self._chunks: dict[int, tuple[bytes, ...]] = {}

    def __contains__(self, number: int) -> bool:
        return self._known[number] == 1

    def __getitem__(self, number: int) -> Hashed:
        """Return a known hash. Raises KeyError if it is not known."""
        found = self.get(number)
        if found is None:
            raise KeyError(number)
        return found

    def get(self, number: int) -> Hashed | None:
        """Return a hash; None if it is not known."""
        digest = self.digest(number)
        return None if digest is None else Hashed(digest, self._chunks.get(number, ()))

    def digest(self, number: int) -> Digest | None:
        """Return a digest; None if it is not known."""
        if not self._known[number]:
            return None
        at = number * DIGEST_BYTES
        return Digest(Algorithm.SHA2_256_CHUNKED, bytes(self._values[at : at + DIGEST_BYTES]))

    def value(self, number: int) -> bytes:
        """Return the raw digest of an entry. Raises KeyError if it is not known."""
        if not self._known[number]:
            raise KeyError(number)
        at = number * DIGEST_BYTES
        return bytes(self._values[at : at + DIGEST_BYTES])

    def put(self, number: int, hashed: Hashed) -> None:
        """Keep a hash."""
        assert hashed.digest.algorithm is Algorithm.SHA2_256_CHUNKED
        self._values[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES] = hashed.digest.value
        self._known[number] = 1
        if hashed.chunks:
            self._chunks[number] = hashed.chunks
        else:
            self._chunks.pop(number, None)

    def forget(self, number: int) -> None:
        """Drop a hash, of a file that has changed."""
        self._known[number] = 0
        self._chunks.pop(number, None)

"""Under which name a cache holds the bytes of an entry, by the kind of its checksum."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.model.physical_key import PhysicalKey


class Content(Protocol):
    """The bytes of an entry, by what names them."""

    @property
    def physical_key(self) -> PhysicalKey:
        """Where they lie."""

    @property
    def size(self) -> int:
        """How many there are."""

    @property
    def digest(self) -> Digest:
        """What they hash to."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the manifest says of them."""


def cache_name(content: Content) -> Digest:
    """Return the name of an entry's bytes in a cache: its hash; a weak checksum gets the object's address added."""
    return unique_digest(content.digest, content.physical_key, content.size)


def unique_digest(digest: Digest, place: PhysicalKey, size: int) -> Digest:
    """Return a digest that no other bytes share: itself if it is strong, else itself scoped to the object.

    Anybody can make other bytes with the same weak checksum, so those of one object are never used for another.
    """
    if not digest.algorithm.weak:
        return digest
    scope = hashlib.sha256(f"{place}\n{size}".encode()).digest()
    return Digest(digest.algorithm, (digest.computed + scope)[:DIGEST_BYTES])


def list_digest(content: Content) -> Digest | None:
    """Return the name of the entry's chunk list as a blob: its plain SHA-256 is the entry's own value.

    None for entries whose checksum is no hash of chunks.
    """
    if content.digest.algorithm is not Algorithm.SHA2_256_CHUNKED:
        return None
    return Digest(Algorithm.SHA2_256, content.digest.value)

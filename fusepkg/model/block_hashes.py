"""Hashes of the blocks of a large blob, so that a reader who wants 4 KiB need not fetch a chunk of 8 MiB.

A chunk's plain SHA-256 says nothing of a part of it. So a publisher may name one more hash in an entry's ``meta``, the
root; the top hash covers it. It is the SHA-256 of the head of a list in the bucket:

    offset  bytes
         0      8  "fspblk1\\n"
         8     32  the entry's sha2-256-chunked value
        40      8  the blob's size, little-endian like all numbers
        48      4  bytes of a block: 65,536
        52      4  zero
        56  32 * n  the SHA-256 of each chunk's part of the list, for n chunks
                   then the parts, one behind the other: the SHA-256 of each block of the chunk

Nothing in the list is trusted: the root vouches for the head, the head for each part, a part for its blocks. The head
names the blob, so a root that was carried over to other bytes is noticed.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any

from fusepkg_cache.digest import DIGEST_BYTES, Algorithm, Digest, chunk_count, chunk_size

from fusepkg.model.entry import META_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BLOCK_BYTES = 64 * 1024
"""Sixteen pages: a read of 4 KiB costs as much as its round trip, and the list is 1/2048 of the blob."""

ROOT_KEY = "blocks"
"""Beside ``executable`` in an entry's ``meta.fusepkg``: the root in hex."""

_MAGIC = b"fspblk1\n"
_FRONT = struct.Struct("<8s32sQI4x")


def block_root(meta: Mapping[str, Any]) -> Digest | None:
    """Return the root of an entry's block hashes; None if it has none, or none that this version understands."""
    own = meta.get(META_KEY)
    text = own.get(ROOT_KEY) if isinstance(own, dict) else None
    if not isinstance(text, str) or len(text) != 2 * DIGEST_BYTES:
        return None
    try:
        return Digest(Algorithm.SHA2_256, bytes.fromhex(text))
    except ValueError:  # also of a text with blanks, which has fewer bytes
        return None


def with_block_root(meta: Mapping[str, Any], root: Digest) -> dict[str, Any]:
    """Return an entry's meta with a root in it."""
    return {**meta, META_KEY: {**meta.get(META_KEY, {}), ROOT_KEY: root.hex}}


def without_block_root(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry's meta without a root: what its publisher said, and not what follows from the bytes."""
    own = meta.get(META_KEY)
    if not isinstance(own, dict) or ROOT_KEY not in own:
        return dict(meta)
    rest = {key: value for key, value in own.items() if key != ROOT_KEY}
    others = {key: value for key, value in meta.items() if key != META_KEY}
    return {**others, META_KEY: rest} if rest else others


# --- the list ------------------------------------------------------------------------------------------------


def head_bytes(size: int) -> int:
    """Return how long the head of the list of a blob of that size is."""
    return _FRONT.size + DIGEST_BYTES * chunk_count(size)


def part_span(size: int, index: int) -> tuple[int, int]:
    """Return where in the list the part of one chunk lies, and how long it is."""
    whole = chunk_size(size)
    chunk_bytes = min(whole, size - index * whole)
    start = head_bytes(size) + index * (whole // BLOCK_BYTES) * DIGEST_BYTES
    return start, -(-chunk_bytes // BLOCK_BYTES) * DIGEST_BYTES


def list_bytes(size: int) -> int:
    """Return how long the whole list of a blob of that size is."""
    return sum(part_span(size, chunk_count(size) - 1))


def write_list(digest: Digest, size: int, parts: Sequence[bytes]) -> tuple[Digest, bytes]:
    """Return the root and the list of a blob, from the raw hashes of each chunk's blocks."""
    front = _FRONT.pack(_MAGIC, digest.value, size, BLOCK_BYTES)
    head = front + b"".join(hashlib.sha256(part).digest() for part in parts)
    return Digest(Algorithm.SHA2_256, hashlib.sha256(head).digest()), head + b"".join(parts)


def read_head(head: bytes, digest: Digest, size: int) -> bytes | None:
    """Return the raw hash of each part, out of a head that hashes to the root; None if it is another blob's."""
    front = _FRONT.pack(_MAGIC, digest.value, size, BLOCK_BYTES)
    is_right = digest.algorithm is Algorithm.SHA2_256_CHUNKED and len(head) == head_bytes(size)
    return head[_FRONT.size :] if is_right and head.startswith(front) else None


def blocks_of(low: int, high: int) -> range:
    """Return the numbers of the blocks of a chunk that its bytes ``low`` to ``high`` lie in."""
    return range(low // BLOCK_BYTES, (high - 1) // BLOCK_BYTES + 1)


def block_hashes(data: bytes | memoryview) -> bytes:
    """Return the raw hashes of a chunk's blocks, one behind the other."""
    view = memoryview(data)
    return b"".join(hashlib.sha256(view[at : at + BLOCK_BYTES]).digest() for at in range(0, len(view), BLOCK_BYTES))

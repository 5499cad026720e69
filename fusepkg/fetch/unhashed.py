"""Objects whose hash nobody knows yet: read once, whole, to learn it."""

from __future__ import annotations

import hashlib
from typing import IO, TYPE_CHECKING

from fusepkg_cache.digest import chunk_size

from fusepkg.errors import FileChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore


def read_unhashed(
    place: PhysicalKey,
    size: int,
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]],
    keep: IO[bytes] | None = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[bytes, ...]:
    """Read an object that was listed with ``size`` bytes; return the raw SHA-256 of each of its chunks.

    What was read is written to ``keep``; ``between`` pieces may raise to stop it. Raises FileChanged for an object of
    another size, of which no more than a chunk beyond ``size`` is read, and what stores raise.
    """
    hashes = []
    left = size
    for piece in _pieces(place, size, open_place):
        between()
        left -= len(piece)
        if left < 0:  # it may have no end
            break
        hashes.append(hashlib.sha256(piece).digest())
        if keep is not None:
            keep.write(piece)
    if left:
        raise object_changed(place)
    return tuple(hashes)


def object_changed(place: PhysicalKey) -> FileChanged:
    """Return the error for an object that is not what was listed."""
    return FileChanged(f"{place.readable} changed while it was read", hint="Try again when nothing writes to it")


def _pieces(
    place: PhysicalKey, size: int, open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]]
) -> Iterable[bytes]:
    """Return an object in chunks; a small one by a request that costs a tenth of the CPU of a stream."""
    store, key = open_place(place)
    piece_bytes = chunk_size(size)
    if 0 < size < piece_bytes:
        return [store.get(key, version=place.version, length=size + 1)]
    return store.stream(key, version=place.version, piece_bytes=piece_bytes)

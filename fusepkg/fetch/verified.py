"""Verified bytes for callers that wait in threads: the one place that compares what a store sends, and asks again.

A mount's pipeline (``fetch.bucket``), which must not wait, keeps to the same number of tries.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fusepkg_cache.digest import Hashing, compute_digest

from fusepkg.errors import DigestMismatch
from fusepkg.fetch.retries import MISMATCH_TRIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fusepkg_cache.digest import Digest

    from fusepkg.model.entry import Entry
    from fusepkg.model.physical_key import PhysicalKey
    from fusepkg.store.protocol import ObjectStore

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
"""Read and hashed at a time, unless the caller wants chunks."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ExpectedObject:
    """An object, and what it has to hold: ``size`` bytes with a digest."""

    place: PhysicalKey
    size: int
    digest: Digest


def expected_object(entry: Entry) -> ExpectedObject:
    """Return the object of an entry."""
    return ExpectedObject(entry.physical_key, entry.size, entry.digest)


def mismatch(expected: ExpectedObject) -> DigestMismatch:
    """Return the error for an object that holds other bytes."""
    return DigestMismatch(
        f"{expected.place} does not hold the {expected.size} bytes that the manifest names as {expected.digest}",
        hint="The object was changed, truncated or replaced; restore it, or push the file again",
    )


def take_object(
    expected: ExpectedObject,
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]],
    take: Callable[[Iterator[bytes]], _T],
    *,
    piece_bytes: int = PIECE_BYTES,
) -> _T:
    """Return what ``take`` makes of a whole object, in pieces of ``piece_bytes``. Wrong bytes are read again.

    The pieces end with DigestMismatch if the object is not the expected one, so that ``take`` must use up all of them
    before it believes any. It may be called twice, and begins from nothing each time.

    Raises RemoteError, DigestMismatch, and what ``take`` raises.
    """

    def stream() -> _T:
        store, key = open_place(expected.place)
        return take(_checked(expected, store.stream(key, version=expected.place.version, piece_bytes=piece_bytes)))

    return until_right(expected, stream)


def is_right(
    expected: ExpectedObject,
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]],
    between: Callable[[], None] = lambda: None,
) -> bool:
    """Read a whole object and return whether it holds what it should; ``between`` pieces may raise to stop it.

    Raises RemoteError, and what ``between`` raises.
    """

    def use_up(pieces: Iterator[bytes]) -> None:
        for _ in pieces:
            between()

    try:
        take_object(expected, open_place, use_up)
    except DigestMismatch:
        return False
    return True


def get_range(
    expected: ExpectedObject,
    open_place: Callable[[PhysicalKey], tuple[ObjectStore, str]],
    offset: int,
    length: int,
    digest: Digest | None,
) -> bytes:
    """Return ``length`` bytes of an object from ``offset``. Wrong bytes are read again.

    ``digest`` is that of the range; None if it is unknown: then only the length is compared, and the caller compares
    the whole. Raises RemoteError, DigestMismatch.
    """

    def get() -> bytes:
        store, key = open_place(expected.place)
        # One byte more than a whole blob has tells a longer object from the right one.
        asked = length + (length == expected.size)
        data = store.get(key, version=expected.place.version, offset=offset, length=asked)
        if len(data) != length or (digest is not None and not digest.matches(compute_digest(digest.algorithm, data))):
            raise mismatch(expected)
        return data

    return until_right(expected, get)


def until_right(expected: ExpectedObject, fetch: Callable[[], _T]) -> _T:
    """Return what ``fetch`` returns; call it again if it raises DigestMismatch, up to MISMATCH_TRIES calls in all."""
    for _ in range(MISMATCH_TRIES - 1):
        try:
            return fetch()
        except DigestMismatch:
            log.warning("wrong bytes from %s, fetching again", expected.place)
    return fetch()


def of_size(expected: ExpectedObject, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces, no more than expected: a huge object must not fill the disk. Raises DigestMismatch."""
    left = expected.size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise mismatch(expected)
        yield piece
    if left:
        raise mismatch(expected)


def _checked(expected: ExpectedObject, pieces: Iterable[bytes]) -> Iterator[bytes]:
    hashing = Hashing(expected.digest.algorithm, expected.size)
    for piece in of_size(expected, pieces):
        hashing.update(piece)
        yield piece
    if not expected.digest.matches(hashing.digest()):
        raise mismatch(expected)

"""What fusepkg asks of object storage: one small protocol, for a bucket, a directory, or memory.

Owns: the protocol and its value types. Must not know: any one kind of storage, packages, caches, FUSE.

Every call blocks; stores are safe to use from many threads at once. Each call makes at most the requests its name
says (a ``get`` is one GET, never a HEAD or LIST before it) and raises only ``fusepkg.errors.RemoteError`` and its kin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object without its bytes. ``metadata`` is empty in listings."""

    key: str
    size: int
    version: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def directories_of(infos: Iterable[ObjectInfo], prefix: str) -> list[str]:
    """What ``list_directories`` gives for a bucket that holds these objects, all with that prefix."""
    ends = ((info.key, info.key.find("/", len(prefix)) + 1) for info in infos)
    return sorted({key[:end] for key, end in ends if end}, key=str.encode)


class ObjectStore(Protocol):
    """A bucket."""

    def get(self, key: str, *, version: str | None = None, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of one object, whole or ``length`` bytes from ``offset``; one GET.

        A range past the end of a (truncated) object gives what is there, perhaps nothing: the caller verifies.

        Raises: ObjectMissing, AccessDenied, RemoteUnavailable, RemoteTimeout, RemoteProtocol.
        """
        ...

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        """The whole object in pieces of exactly ``piece_bytes``, the last one shorter; one GET."""
        ...

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Size, version and metadata of one object. Raises ObjectMissing."""
        ...

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """Objects whose key starts with ``prefix``, in byte order of keys, at most ``limit``.

        Raises BucketNotFound where there is no such bucket.
        """
        ...

    def list_directories(self, prefix: str) -> Iterator[str]:
        """What keys that start with ``prefix`` begin with, up to the next ``/`` past it: each once, in byte order.

        One LIST per 1,000 of them, however many objects lie below.
        """
        ...

    def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """Create one object, atomically, only if the key is free.

        Raises: ObjectExists where it is not (nothing is changed), BucketNotFound, AccessDenied, RemoteUnavailable.
        """
        ...

    def overwrite(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """Write one object whatever the key held: only for keys whose content their name determines.

        Uploads in parts where ``source`` is large.
        """
        ...

    def url(self, key: str, version: str | None = None) -> str:
        """The object's physical key, as a manifest writes it."""
        ...

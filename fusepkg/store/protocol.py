"""What fusepkg asks of object storage: one small protocol, for a bucket, a directory, or memory.

Every call blocks; stores are safe to use from many threads at once. Each call makes at most the requests its name
says (a ``get`` is one GET, never a HEAD or LIST before it) and raises only ``fusepkg.errors.RemoteError`` and its kin.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from fusepkg.errors import ObjectTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from fusepkg.errors import FusepkgError
    from fusepkg.model.checksums import Checksums
    from fusepkg.model.physical_key import PhysicalKey


AT_MOST_BYTES = 16 * 1024**2
"""The most that ``get`` takes of an object unless its caller says otherwise."""

CHANGED_HINT = "The object changed since its hash was computed: add it again"
"""What to do about the source of a copy that is not what it was."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object without its bytes. ``metadata`` is empty in listings.

    ``head`` and S3's listings also tell the ``etag``, which changes with the bytes; ``head`` and ``copy`` the
    ``checksums`` the server keeps. They are no part of what the object is: two that differ in them alone are equal.
    """

    key: str
    size: int
    version: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    checksums: Checksums | None = field(default=None, compare=False)
    etag: str | None = field(default=None, compare=False)


def too_large(url: str, at_most: int) -> ObjectTooLarge:
    """Say that an object has more bytes than its reader accepts."""
    return ObjectTooLarge(
        f"{url} is larger than the {at_most} bytes that are accepted there",
        hint="fusepkg did not write it so: look at that object, and who may write to the bucket",
    )


def no_more_than(at_most: int, pieces: Iterable[bytes], shown: str) -> Iterator[bytes]:
    """Yield the pieces of a stream, which may have no end, up to ``at_most`` bytes. Raises ObjectTooLarge for more."""
    left = at_most
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise too_large(shown, at_most)
        yield piece


def directories_of(infos: Iterable[ObjectInfo], prefix: str) -> list[str]:
    """What ``list_directories`` gives for a bucket that holds these objects, all with that prefix."""
    ends = ((info.key, info.key.find("/", len(prefix)) + 1) for info in infos)
    return sorted({key[:end] for key, end in ends if end}, key=str.encode)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A part of one object to be read: what is there of ``length`` bytes from ``offset``.

    ``ticket`` names it in its answer and in ``cancel``: a number of the caller's that no other read in flight has.
    """

    ticket: int
    key: str
    version: str | None
    offset: int
    length: int


Answers: TypeAlias = "list[tuple[int, bytes | FusepkgError]]"
"""Tickets, each with the bytes read or the error that ``get`` would have raised."""

Deliver: TypeAlias = "Callable[[Answers], None]"
"""Takes answers, as many as have come since it was called last; must be quick, and must not raise."""


class AsyncReads(Protocol):
    """Many reads of one bucket at once, none of which holds a thread of the caller's.

    Every read that is submitted gets exactly one answer, in any order, unless it is cancelled before. ``deliver`` is
    called from a thread of the store's, never twice at the same time for the same ``AsyncReads``, perhaps before
    ``submit`` returns. Retries, credentials, redirects, bounds and errors are those of ``get``. The store does not
    bound how many are in flight: the caller does. Safe to use from many threads; of no use in a forked child.
    """

    def submit(self, wanted: Sequence[Wanted], *, timeout_s: float | None = None) -> None:
        """Start reads. One that takes longer than ``timeout_s``, retries included, is answered by RemoteTimeout.

        Without ``timeout_s`` the store's own limits for a request hold.
        """
        ...

    def cancel(self, tickets: Iterable[int]) -> None:
        """Give up reads, as far as they are not answered; an answer that is on its way may still be delivered."""
        ...

    def close(self) -> None:
        """Give up all reads; nothing is delivered any more, but for a delivery that has begun."""
        ...


class ObjectStore(Protocol):
    """A bucket."""

    def get(
        self,
        key: str,
        *,
        version: str | None = None,
        offset: int = 0,
        length: int | None = None,
        at_most: int = AT_MOST_BYTES,
    ) -> bytes:
        """Bytes of one object from ``offset``, ``length`` of them or all; one GET.

        A range past the end of a (truncated) object gives what is there, perhaps nothing: the caller verifies. Without
        a ``length``, more than ``at_most`` bytes are refused before they are in memory: a bucket may hold anything.

        Raises: ObjectMissing, ObjectTooLarge, ObjectArchived, AccessDenied, RemoteUnavailable, RemoteTimeout,
        RemoteProtocol.
        """
        ...

    def open_reads(self, deliver: Deliver) -> AsyncReads:
        """Make many reads at once possible, each as ``get`` with a length; asks nothing yet. Close it after use."""
        ...

    def stream(self, key: str, *, version: str | None = None, piece_bytes: int) -> Iterator[bytes]:
        """The whole object in pieces of exactly ``piece_bytes``, the last one shorter; one GET."""
        ...

    def head(self, key: str, *, version: str | None = None) -> ObjectInfo:
        """Size, version, metadata and checksums of one object. Raises ObjectMissing."""
        ...

    def part_bytes(self, key: str, *, version: str | None = None) -> list[int] | None:
        """Sizes of the parts an object was uploaded in; None where the store does not tell, or may not."""
        ...

    def list(self, prefix: str, *, limit: int | None = None) -> Iterator[ObjectInfo]:
        """Objects whose key starts with ``prefix``, in byte order of keys, at most ``limit``.

        Raises BucketNotFound where there is no such bucket.
        """
        ...

    def list_versions(self, prefix: str) -> Iterator[ObjectInfo]:
        """As ``list``, each object with its current version.

        The version is None if the bucket keeps none or refuses to list them; then ask ``head``.
        """
        ...

    def list_directories(self, prefix: str) -> Iterator[str]:
        """What keys that start with ``prefix`` begin with, up to the next ``/`` past it: each once, in byte order.

        One LIST per 1,000 of them, however many objects lie below.
        """
        ...

    def create(self, key: str, source: bytes | Path, *, metadata: Mapping[str, str] | None = None) -> ObjectInfo:
        """Create one object, atomically, only if the key is free.

        Two creators of the same bytes at the same moment may both succeed, each with a version of its own.

        Raises: ObjectExists where it is not (nothing is changed), BucketNotFound, AccessDenied, RemoteUnavailable.
        """
        ...

    def copy(
        self,
        source: PhysicalKey,
        key: str,
        *,
        size: int,
        etag: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ObjectInfo:
        """Copy an object of ``size`` bytes to a free key, within the store's server: no byte passes through here.

        A source without a version may be replaced at any time: ``etag`` is what ``head`` told when it was looked at,
        and a copy of anything else is refused.

        As exclusive as ``create``. Where the server's answer is lost after the copy was made, ObjectExists may be
        raised for the very copy: look at what is there before another key is chosen.

        Raises: CopyUnsupported where the source is out of the server's reach, ObjectExists, ObjectMissing where there
        is no source, FileChanged where it is another one now, and what ``create`` raises.
        """
        ...

    def stays(self, found: ObjectInfo) -> bool:
        """Whether an object that ``head`` found is there to stay.

        Some servers let two creators succeed, and the store of the one who was not first takes its version back
        moments later. Until then ``head`` may find it.
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

    def sign_url(self, key: str, *, version: str | None = None, expires_s: int) -> str:
        """An address at which whoever has it can read one object for so long; the file's own where files are kept.

        Nothing is asked of the server: the object may be missing. Raises CredentialsMissing.
        """
        ...

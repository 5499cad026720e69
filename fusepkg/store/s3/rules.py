"""What a server can be relied on for: AWS's rules, and the guarded ones for every other server. Chosen once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from fusepkg_cache.digest import MIN_CHUNK_BYTES

from fusepkg.store.s3 import copy, guarded, listing, versions, write

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.botocore import ClientSetup
    from fusepkg.store.s3.copy import Copied, Copy
    from fusepkg.store.s3.write import Creator, Upload


class Rules(Protocol):
    """How one server is written to, and what it is asked."""

    with_sha256: bool
    """Whether uploads carry their SHA-256, and are cut in chunks, so that the server tells an object's digest later."""

    parts_from: int
    """Sizes above this are overwritten in parts."""

    def create(self, client: S3Client, creator: Creator | None, upload: Upload) -> str | None:
        """Write an object if its key is free; return its version."""
        ...

    def copy(self, client: S3Client, wanted: Copy) -> Copied:
        """Copy an object to a free key."""
        ...

    def stays(self, client: S3Client, address: Address, version: str) -> bool:
        """Whether a version that was found is not taken back by the creator who was not first."""
        ...

    def part_bytes(self, client: S3Client, address: Address, version: str | None) -> list[int] | None:
        """Sizes of an object's parts; None where the server does not tell."""
        ...


def choose_rules(connection: ClientSetup) -> Rules:
    """Return the rules of the server at a connection's endpoint."""
    return AwsRules(copy.knows_condition(connection.client)) if connection.is_aws else GuardedRules()


class GuardedRules:
    """Conditions may be ignored, checksums are not asked for: other servers may store their frame in the object."""

    with_sha256 = False
    parts_from = write.MULTIPART_FROM_BYTES

    def __init__(self) -> None:
        self._versioned: bool | None = None

    def create(self, client: S3Client, creator: Creator | None, upload: Upload) -> str | None:
        """See Rules."""
        version = guarded.create(client, creator, upload, versioned=self._versioned)
        self._versioned = version is not None
        return version

    def copy(self, client: S3Client, wanted: Copy) -> Copied:
        """See Rules."""
        copied = guarded.copy(client, wanted, versioned=self._versioned)
        self._versioned = copied.version is not None
        return copied

    def stays(self, client: S3Client, address: Address, version: str) -> bool:
        """See Rules."""
        return versions.is_first(client, address, version)

    def part_bytes(self, client: S3Client, address: Address, version: str | None) -> list[int] | None:
        """See Rules. Other servers do not know the question, or answer it in part."""
        return None


class AwsRules:
    """``If-None-Match`` decides, and checksums are computed, told, and proof.

    ``copies_exclusively`` is False where this botocore is too old to send the condition with a copy.
    """

    with_sha256 = True
    parts_from = MIN_CHUNK_BYTES

    def __init__(self, copies_exclusively: bool) -> None:
        self._guarded = None if copies_exclusively else GuardedRules()

    def create(self, client: S3Client, creator: Creator | None, upload: Upload) -> str | None:
        """See Rules."""
        return write.create(client, creator, upload, parts_from=self.parts_from)

    def copy(self, client: S3Client, wanted: Copy) -> Copied:
        """See Rules."""
        return self._guarded.copy(client, wanted) if self._guarded else copy.copy(client, wanted)

    def stays(self, client: S3Client, address: Address, version: str) -> bool:
        """See Rules. On AWS only the first create succeeds."""
        return True

    def part_bytes(self, client: S3Client, address: Address, version: str | None) -> list[int] | None:
        """See Rules."""
        return listing.part_bytes(client, address, version)

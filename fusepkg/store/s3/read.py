"""Reading S3 objects through boto3: whole ones as a stream, which goes on where it broke off, and their properties.

Objects and ranges that fit in memory are read by ``objects``.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from fusepkg.errors import ObjectExists, RemoteProtocol, RemoteUnavailable
from fusepkg.store.protocol import ObjectInfo
from fusepkg.store.s3.answers import bare_etag, checksums_of, real_version
from fusepkg.store.s3.botocore import open_object, translated
from fusepkg.store.s3.metadata import decode_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

    from fusepkg.store.s3.address import Address

STREAM_BLOCK_BYTES = 64 * 1024
"""Most bytes taken from a body at once: of a block that breaks off, what had arrived is lost and asked for again."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def stream(
    client: S3Client, address: Address, version: str | None, piece_bytes: int, *, attempts: int
) -> Iterator[bytes]:
    """The object in pieces of exactly ``piece_bytes``, the last one shorter."""
    rest = bytearray()
    for block in _blocks(client, address, version, attempts):
        rest += block
        while len(rest) >= piece_bytes:
            yield bytes(memoryview(rest)[:piece_bytes])
            del rest[:piece_bytes]
    if rest:
        yield bytes(rest)


def _blocks(client: S3Client, address: Address, version: str | None, attempts: int) -> Iterator[bytes]:
    """The object's bytes in order, in blocks of any size; where the connection breaks, another GET goes on."""
    names = _names(address, version)
    answer = open_object(client, address, names)
    if answer is None or "ContentLength" not in answer:
        raise RemoteProtocol(f"{address.url} at {address.server}: the answer to a GET has no length")
    size, done, failures = answer["ContentLength"], 0, 0
    if answer.get("ETag"):
        names["IfMatch"] = answer["ETag"]
    while True:
        try:
            with translated(address), closing(answer["Body"]) as body:
                while done < size:
                    block = body.read(min(STREAM_BLOCK_BYTES, size - done))
                    if not block:
                        raise RemoteUnavailable(f"{address.url} at {address.server}: the body ended early")
                    done, failures = done + len(block), 0
                    yield block
            return
        except RemoteUnavailable:
            failures += 1
            if failures >= attempts:
                raise
        try:
            answer = open_object(client, address, names | {"Range": f"bytes={done}-"})
        except ObjectExists as exc:  # the answer to If-Match
            raise RemoteProtocol(f"{address.url} changed while it was read") from exc
        if answer is None or _first_byte(answer) != done:
            raise RemoteProtocol(f"{address.url} at {address.server}: does not answer ranges rightly")


def head(client: S3Client, address: Address, version: str | None) -> ObjectInfo:
    """What S3 tells of one object without its bytes."""
    with translated(address):
        answer = client.head_object(**_names(address, version), ChecksumMode="ENABLED")
    return ObjectInfo(
        address.key,
        answer["ContentLength"],
        real_version(answer.get("VersionId")),
        decode_metadata(answer["Metadata"]),
        checksums_of(answer),
        bare_etag(answer["ETag"]),
    )


def _names(address: Address, version: str | None) -> dict[str, Any]:
    return dict(address.names) if version is None else {**address.names, "VersionId": version}


def _first_byte(answer: GetObjectOutputTypeDef) -> int | None:
    found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    return int(found[1]) if found else None

"""Reading S3 objects through boto3: retries of broken bodies, and what the parts of an answer must be.

The fast path of small reads is ``obstore.Reader``.
"""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from fusepkg.errors import ObjectExists, RemoteProtocol, RemoteUnavailable
from fusepkg.store.protocol import ObjectInfo
from fusepkg.store.s3.answers import bare_etag, check_size, checksums_of, real_version
from fusepkg.store.s3.botocore import open_object, translated
from fusepkg.store.s3.metadata import decode_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

    from fusepkg.store.s3.address import Address

STREAM_BLOCK_BYTES = 64 * 1024
"""Most bytes taken from a body at once: of a block that breaks off, what had arrived is lost and asked for again."""

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def get(
    client: S3Client,
    address: Address,
    version: str | None,
    offset: int,
    length: int | None,
    at_most: int,
    *,
    attempts: int,
) -> bytes:
    """Bytes of one object; a body that breaks off is asked for again."""
    names = _names(address, version)
    if offset or length is not None:
        names["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
    failures = 0
    while True:
        answer = open_object(client, address, names)
        if answer is None:
            return b""  # the range starts at or past the object's end
        try:
            with translated(address), closing(answer["Body"]):
                return _take(answer, offset, length, at_most, address)
        except RemoteUnavailable:  # opening is retried by botocore, reading the body is not
            failures += 1
            if failures >= attempts:
                raise


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


def _read_all(body: StreamingBody, at_most: int) -> bytes:
    """A body to its end, where botocore checks that it is complete, or one byte more than ``at_most``."""
    data = body.read(at_most + 1)
    return data if len(data) > at_most else data + body.read(1)


def _take(answer: GetObjectOutputTypeDef, offset: int, length: int | None, at_most: int, address: Address) -> bytes:
    """The bytes asked for out of an answer, which may be the whole object; never others, never more."""
    body = answer["Body"]
    most = at_most if length is None else length
    if length is None:
        check_size(address, answer.get("ContentLength", 0) - (0 if "ContentRange" in answer else offset), at_most)
    if answer["ResponseMetadata"]["HTTPStatusCode"] != 206:
        skipped = 0
        while skipped < offset and (block := body.read(min(STREAM_BLOCK_BYTES, offset - skipped))):
            skipped += len(block)
        if length is not None:
            return body.read(length)
        data = _read_all(body, at_most)
        check_size(address, len(data), at_most)
        return data
    data = _read_all(body, most)
    if length is None:
        check_size(address, len(data), at_most)
    found = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    if found:
        end = int(found[2]) + 1
        wanted_end = min(
            end if length is None else offset + length,
            end if found[3] == "*" else int(found[3]),
        )
        if int(found[1]) == offset and end == wanted_end and len(data) == end - offset:
            return data
    raise RemoteProtocol(
        f"{address.url} at {address.server}: asked for {'all' if length is None else length} bytes from {offset}, the"
        f" answer holds {len(data)} and calls them {answer.get('ContentRange', 'nothing')!r}"
    )

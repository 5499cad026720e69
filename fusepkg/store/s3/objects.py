"""The fetch path: GETs of objects and ranges, and creates of small objects, over our own HTTP client."""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from typing import TYPE_CHECKING

from fusepkg.errors import RemoteProtocol
from fusepkg.store.protocol import too_large
from fusepkg.store.s3.answers import check_size, real_version
from fusepkg.store.s3.exchange import Request, error_room
from fusepkg.store.s3.http.answer import Room

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusepkg.store.s3.address import Address
    from fusepkg.store.s3.exchange import Exchange
    from fusepkg.store.s3.http.answer import Head

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")

_READ = frozenset({200, 206, 416})
_CREATED = frozenset({200})


async def get(
    exchange: Exchange, address: Address, version: str | None, offset: int, length: int | None, at_most: int
) -> bytes:
    """Bytes of one object from ``offset``; ``length``, where given, is not 0. Nothing where the object ends before.

    Raises ObjectTooLarge for more than ``at_most`` bytes, where ``length`` is None, and our other errors.
    """

    def accept(head: Head) -> Room:
        return _room(head, address, offset, length, at_most)

    headers = {}
    if length is not None:
        headers["range"] = f"bytes={offset}-{offset + length - 1}"
    elif offset:
        headers["range"] = f"bytes={offset}-"
    answer = await exchange.ask(Request("GET", address, version, headers, _READ, accept))
    return b"" if answer.status == 416 else answer.body


def _room(head: Head, address: Address, offset: int, length: int | None, at_most: int) -> Room:
    """The room for the bytes asked for, out of an answer that may hold the whole object; never for others.

    Raises RemoteProtocol, ObjectTooLarge.
    """
    if head.status == 206:
        size = _size_of_range(head, offset, length)
        if size is None:
            raise _wrong_range(address, offset, length, head)
        if length is None:
            check_size(address, size, at_most)
        return Room(size, exact=True, wrong=lambda: _wrong_range(address, offset, length, head))
    if head.status != 200:
        return error_room()
    if length is not None:
        return Room(length, skip=offset, cut=True)
    return Room(at_most, skip=offset, wrong=lambda: too_large(address.url, at_most))


def _size_of_range(head: Head, offset: int, length: int | None) -> int | None:
    """How many bytes an answer holds that begins where it was to begin; None where it is not what was asked for."""
    told = _CONTENT_RANGE.fullmatch(head.headers.get("content-range", ""))
    if told is None or (not offset and length is None):
        return None
    end = int(told[2]) + 1
    total = None if told[3] == "*" else int(told[3])
    if int(told[1]) != offset or end <= offset:
        return None
    if length is None:
        return end - offset if end == total else None
    wanted_end = min(offset + length, end if total is None else total)
    return end - offset if end == wanted_end and end <= offset + length else None


def _wrong_range(address: Address, offset: int, length: int | None, head: Head) -> RemoteProtocol:
    return RemoteProtocol(
        f"{address.url} at {address.server}: asked for {'all' if length is None else length} bytes from {offset}, the"
        f" answer holds {head.headers.get('content-length', 'some')} and calls them"
        f" {head.headers.get('content-range', 'nothing')[:100]!r}",
        hint="Check that the endpoint is an S3 server (AWS_ENDPOINT_URL_S3), and what lies between",
    )


async def create(exchange: Exchange, address: Address, data: bytes, metadata: Mapping[str, str]) -> str | None:
    """Create one object if its key is free; return its version.

    The server checks the SHA-256 sent along, and S3 tells it ever after. Raises ObjectExists, whose cause tells
    whether it may be our own object that a lost answer was about, and our other errors.
    """
    digest = sha256(data)
    headers = {
        "if-none-match": "*",
        "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode(),
        **{f"x-amz-meta-{name}": value for name, value in metadata.items()},
    }
    request = Request(
        "PUT", address, None, headers, _CREATED, lambda _: error_room(), body=data, body_sha256=digest.hexdigest()
    )
    answer = await exchange.ask(request)
    return real_version(answer.headers.get("x-amz-version-id"))

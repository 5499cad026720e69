"""Sizes of parts, as AWS tells them; no server of the tests does."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from fusepkg.errors import RemoteUnavailable
from fusepkg.store.s3 import listing
from fusepkg.store.s3.address import Address

NAMES = {"Bucket": "bucket", "Key": "key", "VersionId": "v"}
ASKED: dict[str, Any] = {**NAMES, "ObjectAttributes": ["ObjectParts"]}


@pytest.fixture
def stub() -> Stubber:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    return Stubber(client)


def part_bytes(stub: Stubber) -> list[int] | None:
    with stub:
        return listing.part_bytes(stub.client, Address("bucket", "key", ""), "v")


def page(sizes: list[int], first: int, total: int, *, more: bool) -> dict[str, Any]:
    parts = [{"PartNumber": first + at, "Size": size} for at, size in enumerate(sizes)]
    told = {"TotalPartsCount": total, "IsTruncated": more, "Parts": parts}
    return {"ObjectParts": told | ({"NextPartNumberMarker": first + len(sizes) - 1} if more else {})}


def test_sizes_come_in_pages(stub: Stubber) -> None:
    stub.add_response("get_object_attributes", page([8, 8], 1, 3, more=True), ASKED)
    stub.add_response("get_object_attributes", page([5], 3, 3, more=False), {**ASKED, "PartNumberMarker": 2})
    assert part_bytes(stub) == [8, 8, 5]


@pytest.mark.parametrize("answer", [{}, {"ObjectParts": {"TotalPartsCount": 2}}, page([8], 1, 2, more=False)])
def test_sizes_that_are_not_all_told_are_none(stub: Stubber, answer: dict[str, Any]) -> None:
    stub.add_response("get_object_attributes", answer, ASKED)
    assert part_bytes(stub) is None


def test_who_may_not_ask_is_told_nothing_and_a_busy_server_is_an_error(stub: Stubber) -> None:
    stub.add_client_error("get_object_attributes", "AccessDenied", http_status_code=403)
    assert part_bytes(stub) is None
    stub.add_client_error("get_object_attributes", "SlowDown", http_status_code=503)
    with pytest.raises(RemoteUnavailable):
        part_bytes(stub)
